package regoeval

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
)

// plan is one unit's policies for the compiled engine: the platform's, or one
// tenant's, with all that they reach, as one program. Immutable.
type plan struct {
	program *vm.Program
	sets    map[string][]vm.Entry // by file, as module.sets; of the policies that are compiled
	left    map[string]Fallback   // by file, of the others, without their policies
	spelt   *spelt
}

// Fallback is a policy that is not compiled, so that topdown evaluates it.
type Fallback struct {
	Policy string
	File   string // the place that cannot be compiled, in the policy or in what it calls
	Line   int
	Why    string
}

// planOf returns the unit's plan, once made. The policies are those of the
// unit that the plan is for, always the same ones. Its only error is that ctx
// ended.
func (u *unit) planOf(ctx context.Context, policies []*module) (*plan, error) {
	if known := u.planned.Load(); known != nil {
		return known, nil
	}
	p := planner{ctx: ctx, unit: u, left: map[string]Fallback{}}
	able, program := p.sift(policies)
	if program == nil && len(able) > 0 {
		var err error
		if program, err = p.plan(able); err != nil {
			p.refuse(able, err)
			able = nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	made := &plan{program: program, sets: make(map[string][]vm.Entry, len(able)), left: p.left, spelt: speltOut(program)}
	for _, m := range able {
		if entries, err := entriesOf(program, m); err != nil {
			p.refuse([]*module{m}, err)
		} else {
			made.sets[m.file] = entries
		}
	}
	u.planned.Store(made)
	return made, nil
}

// planner finds out which policies of a unit can be compiled.
type planner struct {
	ctx  context.Context
	unit *unit
	left map[string]Fallback
}

// sift returns the policies that can be compiled, and a program if it is of
// all that were given. Where they cannot be all together it halves them: few
// cannot, and what is wrong in a library is wrong in all that use it.
func (p *planner) sift(policies []*module) ([]*module, *vm.Program) {
	if len(policies) == 0 || p.ctx.Err() != nil {
		return nil, nil
	}
	program, err := p.plan(policies)
	switch {
	case err == nil:
		return policies, program
	case len(policies) == 1:
		p.refuse(policies, err)
		return nil, nil
	}
	half := len(policies) / 2
	first, _ := p.sift(policies[:half])
	second, _ := p.sift(policies[half:])
	return append(first[:len(first):len(first)], second...), nil
}

func (p *planner) plan(policies []*module) (*vm.Program, error) {
	// One expression asks for everything: OPA takes the square of their number to
	// find out in which order to ask several.
	var sets []*ast.Term
	for _, m := range policies {
		for _, kind := range m.sets {
			sets = append(sets, ast.NewTerm(setRef(m, kind)))
		}
	}
	ask := ast.Equality.Expr(ast.VarTerm("sets"), ast.ArrayTerm(sets...))
	ask.Location = &ast.Location{File: policies[0].file, Row: 1, Col: 1}
	var program *vm.Program
	err := waiting(p.ctx, func() (err error) {
		program, err = vm.Plan(p.ctx, p.unit.compiler, ast.NewBody(ask))
		return err
	})
	return program, err
}

func (p *planner) refuse(policies []*module, err error) {
	for _, m := range policies {
		f := Fallback{Policy: m.id, File: m.file, Line: 1, Why: err.Error()}
		var why *vm.Unsupported
		if errors.As(err, &why) && why.File != "" {
			f.File, f.Line = why.File, why.Line
		} else {
			p.locate(&f)
		}
		p.left[m.file] = f
	}
}

// locate takes a place off the front of the reason: OPA's planner writes it
// there.
func (p *planner) locate(f *Fallback) {
	file, rest, _ := strings.Cut(f.Why, ":")
	row, why, ok := strings.Cut(rest, ": ")
	line, err := strconv.Atoi(row)
	if ok && err == nil && p.unit.byFile[file] != nil {
		f.File, f.Line, f.Why = file, line, why
	}
}

var errNoEntry = errors.New("a set of the policy is not among the planned rules")

func entriesOf(program *vm.Program, m *module) ([]vm.Entry, error) {
	entries := make([]vm.Entry, len(m.sets))
	for i, kind := range m.sets {
		var ok bool
		if entries[i], ok = program.Entry(setRef(m, kind)); !ok {
			return nil, errNoEntry
		}
	}
	return entries, nil
}
