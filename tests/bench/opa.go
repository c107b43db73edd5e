//go:build unix

package main

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// opa is the Open Policy Agent as a library: one prepared query per question.
type opa struct {
	queries []rego.PreparedEvalQuery
}

func newOPA(ctx context.Context, content *bundles.Content, asked []question) (*opa, error) {
	data, err := peerData(content)
	if err != nil {
		return nil, err
	}
	store := inmem.NewFromObject(data)
	o := &opa{}
	for _, q := range asked {
		options := []func(*rego.Rego){rego.Store(store), rego.Query("findings := " + q.text), rego.StrictBuiltinErrors(true)}
		for _, f := range content.Files() {
			if isModule(f.Path) {
				options = append(options, rego.Module(f.Path, string(f.Data)))
			}
		}
		prepared, err := rego.New(options...).PrepareForEval(ctx)
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", q.text, err)
		}
		o.queries = append(o.queries, prepared)
	}
	return o, nil
}

// ask evaluates a question on an input of Go maps.
func (o *opa) ask(ctx context.Context, question int, input map[string]any) (any, error) {
	results, err := o.queries[question].Eval(ctx, rego.EvalInput(input), rego.EvalTime(clock))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("%d results, want 1", len(results))
	}
	return results[0].Bindings["findings"], nil
}
