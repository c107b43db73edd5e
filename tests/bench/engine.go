//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// engine is Xiezhi as a library: a PDP with one active release, an in-memory
// directory and no recorder.
type engine struct {
	pdp     *pdp.PDP
	release *pdp.Release
}

func newEngine(ctx context.Context, content *bundles.Content) (*engine, error) {
	release, err := pdp.Compile(ctx, 1, content, regoeval.New(), cedareval.New())
	if err != nil {
		return nil, fmt.Errorf("compile the release: %w", err)
	}
	e := &engine{release: release, pdp: pdp.New(pdp.Config{
		Now:   func() time.Time { return clock },
		NewID: func() string { return "bench" },
	})}
	e.pdp.Activate(&pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}, Directory: newDirectory()})
	return e, nil
}

// decideMaps answers a request of Go maps, conversion included.
func (e *engine) decideMaps(ctx context.Context, request map[string]any) (authz.Decision, error) {
	v, err := authz.ValueOf(request)
	if err != nil {
		return authz.Decision{}, err
	}
	req, err := authz.RequestOf(v)
	if err != nil {
		return authz.Decision{}, err
	}
	return e.pdp.Decide(ctx, req, pdp.Caller{Name: "service:bench"})
}

// directory answers subject.roles of [people].
type directory map[string]authz.Value

func newDirectory() directory {
	d := directory{}
	for id, roles := range people {
		d[id] = authz.Strings(roles...)
	}
	return d
}

func (d directory) Attribute(_ context.Context, q pdp.AttributeQuery) (authz.Value, bool, error) {
	if q.Name != "subject.roles" {
		return authz.Value{}, false, nil
	}
	roles, ok := d[q.Entity.ID]
	return roles, ok, nil
}

func (directory) Local() bool { return true }

// finding is one entry of deny, review or allow, as every side reports it.
type finding struct{ effect, policy, rule, path string }

// findingsOf reads a decision. What the decision core says itself is left out.
func findingsOf(d *authz.Decision) ([]finding, error) {
	var all []finding
	for _, r := range d.Reasons {
		if r.Rule == authz.RuleEvaluationError {
			return nil, fmt.Errorf("%s: %s: %s", r.Policy, r.Location, r.Message)
		}
		if r.Policy != "" {
			all = append(all, finding{r.Effect.String(), r.Policy, r.Rule, r.Path})
		}
	}
	return sorted(all), nil
}

// findingsOfPeer reads the answer to a [question], as JSON or as OPA's Go API
// has it.
func findingsOfPeer(answer any) ([]finding, error) {
	var all []finding
	byPolicy, ok := answer.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("answer %T, want an object by policy", answer)
	}
	for policy, sets := range byPolicy {
		for set, effect := range map[string]string{"deny": "DENY", "review": "REVIEW", "allow": "ALLOW"} {
			entries, _ := sets.(map[string]any)[set].([]any)
			for _, entry := range entries {
				e, ok := entry.(map[string]any)
				if !ok {
					return nil, errors.New("an entry that is not an object")
				}
				rule, _ := e["rule"].(string)
				path, _ := e["path"].(string)
				all = append(all, finding{effect, policy, rule, path})
			}
		}
	}
	return sorted(all), nil
}

// sorted sorts findings and drops repetitions: entries that differ in their
// arguments only are one finding here.
func sorted(all []finding) []finding {
	slices.SortFunc(all, func(a, b finding) int {
		return slices.Compare([]string{a.effect, a.policy, a.rule, a.path}, []string{b.effect, b.policy, b.rule, b.path})
	})
	return slices.Compact(all)
}
