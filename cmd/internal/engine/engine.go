package engine

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/local"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
)

// Engine compiles policies, as PEPs do, and tests them. Create it with [New].
type Engine struct {
	*local.Compiler
}

// Options are what an Engine may be told; the zero Options are good.
type Options struct {
	// RegoEngine is "compiled" (also ""), "topdown" or "both"; see docs/operate.md.
	RegoEngine string
	// Log is told what evaluates the Rego of each release, and what an engine
	// does that it should not; nil: nobody is.
	Log *slog.Logger
	// Reproducers is a folder for the newest of these; empty: none are kept.
	Reproducers string
}

// New returns an engine of Rego, Cedar and rule documents.
func New() *Engine { return &Engine{local.NewCompiler()} }

// NewWith returns an engine of Rego, Cedar and rule documents.
func NewWith(o Options) (*Engine, error) {
	rego, err := local.ParseRegoEngine(o.RegoEngine)
	if err != nil {
		return nil, err
	}
	return &Engine{local.NewCompilerWith(local.RegoOptions{Engine: rego, Log: o.Log, Reproducers: o.Reproducers})}, nil
}

// Test runs the release's test cases and Rego unit tests.
func (e *Engine) Test(ctx context.Context, release *pdp.Release, opts policytest.Options) *policytest.Report {
	opts.UnitTests = unitTests
	return policytest.Run(ctx, release, opts)
}

// unitTests are Rego's.
func unitTests(ctx context.Context, program pdp.Program, now time.Time, hits []int) ([]policytest.UnitTest, error) {
	rego, ok := program.(*regoeval.Program)
	if !ok {
		return nil, nil
	}
	results, err := rego.Test(ctx, now, hits)
	if err != nil {
		return nil, err
	}
	tests := make([]policytest.UnitTest, len(results))
	for i, r := range results {
		tests[i] = policytest.UnitTest{File: r.File, Line: r.Line, Name: r.Name, Why: r.Why, Skipped: r.Skipped}
		if !r.Passed && r.Why == "" && !r.Skipped {
			tests[i].Why = "it does not hold"
		}
	}
	return tests, nil
}

// Candidate compiles what somebody wants to publish, and reads what only the
// approvals of a release need: its templates. A release that is published
// already is held to [Engine.Compile] alone, so that no newer program refuses
// it. What is wrong is [pdp.Faults].
func (e *Engine) Candidate(ctx context.Context, content *bundles.Content) (*pdp.Release, error) {
	var faults pdp.Faults
	for _, err := range cheq.CheckTemplates(content.Under("approvals/")) {
		if wrong := new(cheq.TemplateError); errors.As(err, &wrong) {
			faults = append(faults, pdp.Fault{File: wrong.File, Line: wrong.Line, Message: wrong.Detail})
		}
	}
	release, err := e.Compile(ctx, content)
	var more pdp.Faults
	switch {
	case errors.As(err, &more):
		return nil, append(faults, more...)
	case err != nil:
		return nil, err
	case len(faults) > 0:
		return nil, faults
	}
	return release, nil
}

// Gate compiles a candidate and runs test cases and Rego unit tests: all of the
// platform's and of self, and those of each tenant in whose folder something
// changed (nil: of all). What does not compile or does not hold is
// [pdp.Faults], and there is no release then. What no case reaches does not
// stop a release.
//
// A tenant's cases do not hold up others' releases: they could be slow, and by
// expecting ALLOW they could keep a guardrail from being tightened.
func (e *Engine) Gate(ctx context.Context, content *bundles.Content, changed []string) (*pdp.Release, error) {
	release, _, err := e.GateReport(ctx, content, changed)
	return release, err
}

// GateReport is Gate, and says how the tests of what passes came out.
func (e *Engine) GateReport(ctx context.Context, content *bundles.Content, changed []string) (*pdp.Release, *policytest.Report, error) {
	release, err := e.Candidate(ctx, content)
	if err != nil {
		return nil, nil, err
	}
	report := e.Test(ctx, release, policytest.Options{Only: heldTo(changed), NoCoverage: true})
	if !report.OK() {
		return nil, nil, report.AsFaults()
	}
	return release, report, nil
}

// heldTo lists the folders whose tests a change is held to; nil is all.
func heldTo(changed []string) []string {
	if changed == nil {
		return nil
	}
	folders := []string{"platform", "self"}
	for _, path := range changed {
		steps := strings.SplitN(path, "/", 3)
		if len(steps) < 3 || steps[0] != "tenants" {
			continue
		}
		if folder := steps[0] + "/" + steps[1]; !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	return folders
}
