package regoeval

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp"
)

var _ pdp.DataProgram = (*Program)(nil)

// Limits of the answer to a query.
const (
	maxAnswerValues = 200_000
	maxAnswerBytes  = 8 << 20 // of texts and names
	maxAnswerDepth  = 1_000
)

// Place implements [pdp.DataProgram].
func (p *Program) Place(tenant string, path []string) pdp.DataPlace {
	if len(path) >= 3 && path[0] == "xiezhi" && path[1] == "platform" && path[2] == "tables" ||
		len(path) >= 4 && path[0] == "xiezhi" && path[1] == "tenants" && path[2] == tenant && path[3] == "tables" {
		return pdp.DataPlace{Kind: pdp.DataTables}
	}
	for _, m := range p.modules {
		own := m.path()
		switch {
		case m.tenant != "" && m.tenant != tenant:
			continue // as if it were not there
		case len(path) < len(own) && slices.Equal(own[:len(path)], path):
			return pdp.DataPlace{Kind: pdp.DataHidden} // a level above packages
		case len(path) < len(own) || !slices.Equal(own, path[:len(own)]):
			continue
		case m.policy == nil:
			return pdp.DataPlace{Kind: pdp.DataHidden}
		case len(path) == len(own):
			return pdp.DataPlace{Kind: pdp.DataPackage, Policy: m.policy, Helpers: m.helpers()}
		case len(path) == len(own)+1 && slices.Contains(setNames[:], path[len(own)]):
			return pdp.DataPlace{Kind: pdp.DataSet, Policy: m.policy}
		case m.defines(path[len(own)]):
			return pdp.DataPlace{Kind: pdp.DataHidden, Policy: m.policy}
		}
		return pdp.DataPlace{Policy: m.policy}
	}
	if levels := [][]string{{"xiezhi", "platform"}, {"xiezhi", "tenants", tenant}}; slices.ContainsFunc(levels, func(l []string) bool {
		return len(path) <= len(l) && slices.Equal(l[:len(path)], path)
	}) {
		return pdp.DataPlace{Kind: pdp.DataHidden}
	}
	return pdp.DataPlace{}
}

// helpers reports whether the package has values beside its sets. A function
// is no value.
func (m *module) helpers() bool {
	return slices.ContainsFunc(m.parsed.Rules, func(r *ast.Rule) bool {
		_, set := setOf(r)
		return !set && len(r.Head.Args) == 0
	})
}

func (m *module) defines(name string) bool {
	return slices.ContainsFunc(m.parsed.Rules, func(r *ast.Rule) bool {
		first, ok := r.Head.Ref()[0].Value.(ast.Var)
		return ok && string(first) == name
	})
}

// Query implements [pdp.DataProgram]. The answer is byte for byte what OPA's
// data API has as `result`.
func (p *Program) Query(ctx context.Context, q *pdp.DataQuery) (json.RawMessage, error) {
	var text json.RawMessage
	err := guard(func() error {
		v, err := p.query(ctx, q)
		if err != nil || v == nil {
			return err
		}
		text, err = answerText(v)
		return err
	})
	if err != nil {
		return nil, dataError(err)
	}
	return text, nil
}

// query returns nil where the path is undefined.
func (p *Program) query(ctx context.Context, q *pdp.DataQuery) (ast.Value, error) {
	if p.Place(q.Tenant, q.Path).Kind == pdp.DataTables {
		v, err := p.documents.of(q.Tenant).Read(ctx, reading{}, q.Path)
		if storage.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return v.(ast.Value), nil
	}
	var input *ast.Term
	if q.Input != nil {
		v, err := ast.InterfaceToValue(*q.Input)
		if err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
		input = ast.NewTerm(v)
	}
	r := p.start(ctx, q.Tenant, cmp.Or(p.units[q.Tenant], p.units[""]), input, q.Now)
	defer r.close()
	answer := ast.VarTerm("answer")
	body := ast.NewBody(ast.Equality.Expr(answer, ast.NewTerm(packageRef(q.Path))))
	result, err := r.query(body, func(query *topdown.Query) {
		query.WithStrictBuiltinErrors(q.Strict).WithStackTraces(true)
	})
	if errors.Is(err, errNoAnswer) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return result[ast.Var("answer")].Value, nil
}

// answerText writes a value as OPA's server does. A policy can compute a value
// that shares its parts, and is small in memory and endless when written out;
// so it is measured first.
func answerText(v ast.Value) (json.RawMessage, error) {
	if err := (&measure{values: maxAnswerValues, bytes: maxAnswerBytes}).take(v, 0); err != nil {
		return nil, err
	}
	data, err := ast.JSON(v)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(data); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// measure is what an answer may still hold.
type measure struct{ values, bytes int }

var errLargeAnswer = fmt.Errorf("the answer holds more than %d values, or %d bytes, or is nested deeper than %d levels; ask for less of it", maxAnswerValues, maxAnswerBytes, maxAnswerDepth)

func (m *measure) take(v ast.Value, depth int) error {
	m.values--
	switch v := v.(type) {
	case ast.String:
		m.bytes -= len(v)
	case ast.Number:
		m.bytes -= len(v)
	}
	if m.values < 0 || m.bytes < 0 || depth > maxAnswerDepth {
		return errLargeAnswer
	}
	each := func(t *ast.Term) error { return m.take(t.Value, depth+1) }
	switch v := v.(type) {
	case *ast.Array:
		return v.Iter(each)
	case ast.Set:
		return v.Iter(each)
	case ast.Object:
		return v.Iter(func(key, value *ast.Term) error {
			if err := each(key); err != nil {
				return err
			}
			return each(value)
		})
	}
	return nil
}

// dataError is the error as OPA's server writes it.
func dataError(err error) *pdp.DataError {
	failed := &topdown.Error{Code: topdown.InternalErr, Message: err.Error()}
	_ = errors.As(err, &failed)
	if topdown.IsCancel(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		failed = &topdown.Error{Code: topdown.CancelErr, Message: "caller cancelled query execution"}
	}
	detail, encodeErr := json.Marshal(failed)
	if encodeErr != nil {
		detail = []byte(`{"code":"` + topdown.InternalErr + `","message":"the error cannot be written"}`)
	}
	return &pdp.DataError{Message: failed.Error(), Detail: detail}
}
