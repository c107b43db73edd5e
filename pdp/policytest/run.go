package policytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Options say what a run is to do. The zero Options run everything.
type Options struct {
	// Only names what to run: policy ids, files, or folders of the release.
	// Empty: all.
	Only []string
	// NoCoverage leaves out what no case reaches.
	NoCoverage bool
	// UnitTests runs the unit tests that a language has of its own, counting
	// the program's branches into hits. Its error is [pdp.Faults] where they do
	// not compile. Nil: there are none.
	UnitTests func(ctx context.Context, program pdp.Program, now time.Time, hits []int) ([]UnitTest, error)
}

// UnitTest is what came of one unit test.
type UnitTest struct {
	File    string
	Line    int
	Name    string
	Why     string // it failed; empty: it held
	Skipped bool
}

// caseBudget is the time one case may take. It is wide, so that a busy machine
// does not make a good case fail.
const caseBudget = 10 * time.Second

// Run runs the release's test cases and says what they reach. When ctx ends
// before the last case, the report has a fault that says so.
func Run(ctx context.Context, release *pdp.Release, opts Options) *Report {
	r := runner{
		release:  release,
		coverage: pdp.NewCoverage(release),
		spoke:    map[*pdp.Rule]int{},
		report:   NewReport(),
	}
	for _, file := range release.Content.Files() {
		if !pdp.IsCases(file.Path) || !selected(opts.Only, file.Path) {
			continue
		}
		cases, faults := readCases(release, file)
		r.report.Faults = append(r.report.Faults, faults...)
		for i := range cases {
			if ctx.Err() != nil {
				r.report.Faults = append(r.report.Faults, pdp.Fault{File: file.Path, Line: cases[i].line, Message: "stopped before this case: " + ctx.Err().Error()})
				return r.report
			}
			r.run(ctx, &cases[i])
		}
	}
	if opts.UnitTests != nil {
		r.runUnitTests(ctx, opts)
	}
	if !opts.NoCoverage {
		r.measure(opts.Only)
	}
	return r.report
}

func (r *runner) runUnitTests(ctx context.Context, opts Options) {
	for i, program := range r.release.Programs() {
		var hits []int
		if coverable, ok := program.(pdp.Coverable); ok {
			hits = make([]int, len(coverable.Branches()))
		}
		results, err := opts.UnitTests(ctx, program, DefaultNow, hits)
		if err != nil {
			r.faulty(err)
			continue
		}
		r.coverage.Add(i, hits)
		for _, t := range results {
			switch {
			case !selected(opts.Only, t.File):
			case t.Skipped:
				r.report.Skipped++
			case t.Why == "":
				r.report.Passed++
			default:
				r.report.Failed = append(r.report.Failed, Failure{
					File: t.File, Line: t.Line, Name: t.Name, Differences: []string{t.Why}, Reasons: []authz.Reason{},
				})
			}
		}
	}
}

// faulty notes why something could not be run.
func (r *runner) faulty(err error) {
	var faults pdp.Faults
	if !errors.As(err, &faults) {
		faults = pdp.Faults{{Message: err.Error()}}
	}
	r.report.Faults = append(r.report.Faults, faults...)
}

// runner is one run over one release.
type runner struct {
	release  *pdp.Release
	coverage *pdp.Coverage
	spoke    map[*pdp.Rule]int // cases in which the rule spoke
	report   *Report
}

func (r *runner) run(ctx context.Context, c *testCase) {
	decision, outcomes, err := r.ask(ctx, c)
	var differences []string
	if err != nil {
		differences = []string{fmt.Sprintf("the request is refused: %v", err)}
	} else {
		differences = c.expect.compare(answerOf(c.policy, &decision, outcomes))
	}
	r.countRules(outcomes)
	if len(differences) == 0 {
		r.report.Passed++
		return
	}
	r.report.Failed = append(r.report.Failed, Failure{
		File: c.file, Line: c.line, Name: c.name, Policy: c.policy,
		Differences: differences, Reasons: append([]authz.Reason{}, decision.Reasons...),
	})
}

// ask answers the case's request twice: as a decision is answered, and once
// more to count what it reaches.
func (r *runner) ask(ctx context.Context, c *testCase) (authz.Decision, []pdp.Outcome, error) {
	p := pdp.New(pdp.Config{
		Sources: c.answers.Sources(r.release.Attributes()),
		Budget:  caseBudget,
		Now:     func() time.Time { return c.now },
		NewID:   func() string { return c.name },
	})
	on := func(release *pdp.Release) (authz.Decision, error) {
		snapshot := &pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}, Directory: c.answers}
		switch c.layer {
		case pdp.LayerSelf:
			return p.MaySelfOn(ctx, snapshot, c.request)
		case pdp.LayerPlatform: // or a tenant's policy would make the platform's cases fail
			snapshot.Release = release.WithoutTenants()
		}
		decision, _, err := p.Evaluate(ctx, snapshot, c.request, false)
		return decision, err
	}
	decision, err := on(r.release)
	if err != nil {
		return authz.Decision{}, nil, err
	}
	_, err = on(r.coverage.Release)
	return decision, r.coverage.Take(), err
}

// countRules counts each rule that spoke once.
func (r *runner) countRules(outcomes []pdp.Outcome) {
	spoke := map[*pdp.Rule]bool{}
	for _, o := range outcomes {
		for _, f := range o.Findings {
			spoke[f.Rule] = true
		}
		for _, id := range contributed(&o) {
			if rule, ok := o.Policy.Rule(id); ok {
				spoke[rule] = true
			}
		}
	}
	for rule := range spoke {
		r.spoke[rule]++
	}
}

// contributed lists the rules behind an outcome's obligations, limits and
// routes.
func contributed(o *pdp.Outcome) []string {
	var rules []string
	for i := range o.Obligations {
		rules = append(rules, o.Obligations[i].Rule)
	}
	for i := range o.Limits {
		rules = append(rules, o.Limits[i].Rule)
	}
	for i := range o.Routes {
		rules = append(rules, o.Routes[i].Rule)
	}
	return rules
}

// selected reports whether one of these places of the release is, or lies
// below, one that was asked for. A policy's file, its cases and its Rego tests
// are one place.
func selected(only []string, places ...string) bool {
	if len(only) == 0 {
		return true
	}
	for _, wanted := range only {
		wanted = placeOf(strings.TrimSuffix(wanted, "/"))
		for _, place := range places {
			if place = placeOf(place); wanted == "." || place == wanted || strings.HasPrefix(place, wanted+"/") {
				return true
			}
		}
	}
	return false
}

func placeOf(file string) string {
	for _, suffix := range []string{"_cases.yaml", "_test.rego", ".rego", ".cedar", ".policy.json", ".policy.yaml", ".policy.yml"} {
		if place, ok := strings.CutSuffix(file, suffix); ok {
			return place
		}
	}
	return file
}
