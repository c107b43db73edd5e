package difftest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// answer is what one engine says about a rule.
type answer struct {
	text string // "" is undefined
	code string // of the error
	err  error
}

// judge asks both engines for every rule in every world, and returns the
// first difference, "" where there is none.
func (p *program) judge(ctx context.Context, t *tally) string {
	t.programs++
	plans := p.plan(ctx, t)
	for _, w := range p.worlds {
		in, doc, data := w.documents()
		theirs := topdownOf(p.compiler, data, doc)
		for _, strict := range []bool{true, false} {
			in.Lenient = !strict
			for program, rules := range plans {
				if what := compare(ctx, t, program, rules, in, theirs); what != "" {
					return fmt.Sprintf("%s (strict: %t, request: %t)", what, strict, w.request)
				}
				if ctx.Err() != nil {
					t.late++
					return ""
				}
			}
		}
	}
	return ""
}

// plan plans all rules together, as a release does. What cannot be asked for
// there is planned alone.
func (p *program) plan(ctx context.Context, t *tally) map[*vm.Program][]string {
	t.rules += len(p.rules)
	plans := map[*vm.Program][]string{}
	var left []string
	if program, err := vm.Plan(ctx, p.compiler, query(p.rules...)); err == nil {
		for _, rule := range p.rules {
			if _, ok := program.Entry(ast.MustParseRef(rule)); ok {
				plans[program] = append(plans[program], rule)
			} else {
				left = append(left, rule)
			}
		}
	} else {
		left = p.rules
	}
	for _, rule := range left {
		program, err := vm.Plan(ctx, p.compiler, query(rule))
		if err != nil {
			t.refused++
			t.note("left: " + err.Error())
			continue
		}
		plans[program] = []string{rule}
	}
	return plans
}

func query(rules ...string) ast.Body {
	var body ast.Body
	for i, rule := range rules {
		e := ast.Equality.Expr(ast.VarTerm(fmt.Sprintf("x%d", i)), ast.MustParseTerm(rule))
		e.Location = &ast.Location{File: "query", Row: 1, Col: 1}
		body = append(body, e)
	}
	return body
}

// compare asks a program for its rules in one run, which begins anew after an
// error.
func compare(ctx context.Context, t *tally, program *vm.Program, rules []string, in vm.Input, theirs func(context.Context, string, bool) answer) string {
	run := program.Begin(ctx, in)
	defer func() { run.End() }()
	for _, rule := range rules {
		ours := ask(program, run, rule)
		if ours.err != nil {
			run.End()
			run = program.Begin(ctx, in)
		}
		want := theirs(ctx, rule, !in.Lenient)
		if ctx.Err() != nil {
			return ""
		}
		if what := t.hold(&ours, &want); what != "" {
			return rule + what
		}
	}
	return ""
}

// hold counts two answers; it says in what they differ.
func (t *tally) hold(ours, want *answer) string {
	var failed *vm.Error
	switch {
	case want.code == panicked:
		t.confused++
		t.note("topdown panics: " + want.err.Error())
	case errors.As(ours.err, &failed) && failed.Stack != nil:
		return fmt.Sprintf(": %v\n%s", failed, failed.Stack)
	case ours.code == vm.CodeBudget:
		t.spent++
		t.note("budget: " + ours.err.Error())
	case confused(want.err):
		t.confused++
	case ours.err != nil && want.err != nil && ours.code == want.code:
		t.failed++
	case ours.err != nil && want.err != nil:
		t.otherwise++
		t.note(fmt.Sprintf("otherwise: %s, topdown: %s", ours.code, want.code))
	case ours.err != nil:
		t.settled++
		t.note("settled: " + ours.code)
	case want.err != nil:
		return fmt.Sprintf(": topdown fails: %v\ngot  %s", want.err, ours.text)
	case ours.text != want.text:
		return fmt.Sprintf("\ngot  %s\nwant %s", ours.text, want.text)
	case ours.text == "":
		t.undefined++
	default:
		t.answered++
	}
	return ""
}

// confused reports whether topdown calls a built-in function with a variable
// that it has not followed to its value: what it refers to is bound, as
// [TestTopdownConfusesVariables] shows.
func confused(err error) bool {
	var failed *topdown.Error
	return errors.As(err, &failed) && failed.Code == topdown.InternalErr && unevaluated.MatchString(failed.Message)
}

var unevaluated = regexp.MustCompile(`^built-in function \S+ called with operand \d+ that requires evaluation: `)

// ask asks for a rule, or for the only one that a program is of.
func ask(program *vm.Program, run *vm.Run, rule string) (a answer) {
	var v value.Value
	if entry, ok := program.Entry(ast.MustParseRef(rule)); ok {
		v, a.err = run.Call(entry)
	} else {
		var found []value.Value
		if found, a.err = run.Query(); len(found) > 0 {
			v = found[0].Get(value.OfString("x0"))
		}
	}
	var failed *vm.Error
	if errors.As(a.err, &failed) {
		a.code = failed.Code
	}
	if a.err == nil && v.Defined() {
		a.text = v.AST().String()
	}
	return a
}

// panicked is the code of an error that is a panic of OPA.
const panicked = "panic"

// topdownOf returns how to ask OPA's evaluator.
func topdownOf(compiler *ast.Compiler, data storage.Store, input *ast.Term) func(ctx context.Context, rule string, strict bool) answer {
	return func(ctx context.Context, rule string, strict bool) (a answer) {
		defer func() {
			if cause := recover(); cause != nil {
				a = answer{code: panicked, err: fmt.Errorf("%v", cause)}
			}
		}()
		compiled, err := compiler.QueryCompiler().Compile(query(rule))
		if err != nil {
			panic(err)
		}
		cancel := topdown.NewCancel()
		stop := context.AfterFunc(ctx, cancel.Cancel)
		defer stop()
		q := topdown.NewQuery(compiled).WithCompiler(compiler).WithStore(data).
			WithTransaction(storage.NewTransactionOrDie(ctx, data)).WithInput(input).WithTime(now).
			WithStrictBuiltinErrors(strict).WithCancel(cancel)
		a.err = q.Iter(ctx, func(found topdown.QueryResult) error {
			a.text = found["x0"].Value.String()
			return nil
		})
		var failed *topdown.Error
		if errors.As(a.err, &failed) {
			a.code = failed.Code
		}
		return a
	}
}

// reduced leaves out all that the difference does not need.
func (p *program) reduced(ctx context.Context) *program {
	best := p
	for again := true; again; {
		again = false
		try := func(change func(q *program)) {
			q := &program{texts: maps.Clone(best.texts), rules: best.rules, worlds: best.worlds}
			change(q)
			q.compile()
			if q.judge(ctx, &tally{}) != "" {
				best, again = q, true
			}
		}
		for i := len(best.rules) - 1; i >= 0 && len(best.rules) > 1; i-- {
			try(func(q *program) { q.rules = slices.Delete(slices.Clone(q.rules), i, i+1) })
		}
		for i := len(best.worlds) - 1; i >= 0 && len(best.worlds) > 1; i-- {
			try(func(q *program) { q.worlds = slices.Delete(slices.Clone(q.worlds), i, i+1) })
		}
		for pkg := range best.texts {
			for i := len(best.texts[pkg]) - 1; i >= 0; i-- {
				if i < len(best.texts[pkg]) {
					try(func(q *program) { q.texts[pkg] = slices.Delete(slices.Clone(q.texts[pkg]), i, i+1) })
				}
			}
		}
	}
	return best
}
