package difftest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

var now = time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)

// program is a set of packages that compiles, and what it is asked with.
type program struct {
	texts    map[string][]string // rules by package
	rules    []string            // references to what is asked for
	worlds   []world
	compiler *ast.Compiler
}

// world is what rules are asked about.
type world struct {
	input, data map[string]any
	request     bool // the documents are those of a request and of tables
}

// generate writes the program that the bytes choose.
func generate(b []byte) *program {
	w := newWriter(b)
	p := &program{}
	for i := range 2 {
		w.request = i == 1
		data := map[string]any{"base": w.document(2), "mix": w.document(1)}
		lib := map[string]any{} // beside rules, or where they are
		for range w.roll(4) {
			lib[pick(w.dice, "extra", "n", "sub")] = w.member(anything, 1)
		}
		data["lib"] = lib
		p.worlds = append(p.worlds, world{w.document(2), data, w.request})
	}
	w.modules()
	p.texts, p.rules = w.texts, append(w.rules, "data.lib.sub", "data.lib", "data.main")
	p.compile()
	return p
}

func (p *program) module(pkg string) string {
	return "package " + pkg + "\n" + strings.Join(p.texts[pkg], "\n") + "\n"
}

// String writes the program as a file of testdata/differed.
func (p *program) String() string {
	all := p.module("lib") + "\n" + p.module("main") + "\nask: " + strings.Join(p.rules, " ") + "\n"
	for _, w := range p.worlds {
		input, _ := json.Marshal(w.input)
		data, _ := json.Marshal(w.data)
		kind := "input"
		if w.request {
			kind = "request"
		}
		all += fmt.Sprintf("\n%s: %s\ndata: %s\n", kind, input, data)
	}
	return all
}

// mix are rules beside base documents.
const mix = "package mix\n\nv := {\"k\": 1}\n\nw.x := 2\n\no.a := 7\n"

var v1 = ast.ParserOptions{RegoVersion: ast.RegoV1}

// compile leaves the lines out that do not compile, until the others do.
func (p *program) compile() {
	for pkg, lines := range p.texts {
		p.texts[pkg] = slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
			_, err := ast.ParseModuleWithOpts("x", "package x\n"+line, v1)
			return err != nil
		})
	}
	for {
		modules := map[string]*ast.Module{"mix": ast.MustParseModule(mix)}
		for pkg := range p.texts {
			m, err := ast.ParseModuleWithOpts(pkg, p.module(pkg), v1)
			if err != nil {
				panic(err)
			}
			modules[pkg] = m
		}
		p.compiler = ast.NewCompiler().SetErrorLimit(0)
		if p.compiler.Compile(modules); !p.compiler.Failed() {
			return
		}
		p.drop(p.compiler.Errors)
	}
}

// drop leaves the lines out that have errors.
func (p *program) drop(errs ast.Errors) {
	wrong := map[string]map[int]bool{}
	for _, err := range errs {
		at := err.Location
		if at == nil || p.texts[at.File] == nil || at.Row < 2 {
			continue
		}
		if wrong[at.File] == nil {
			wrong[at.File] = map[int]bool{}
		}
		wrong[at.File][at.Row-2] = true
	}
	if len(wrong) == 0 { // they are said of a package, or of another
		for pkg, lines := range p.texts {
			p.texts[pkg] = lines[:len(lines)/2]
		}
	}
	for pkg, rows := range wrong {
		var kept []string
		for i, line := range p.texts[pkg] {
			if !rows[i] {
				kept = append(kept, line)
			}
		}
		p.texts[pkg] = kept
	}
}

// documents are input and data for each engine.
func (w *world) documents() (in vm.Input, input *ast.Term, data storage.Store) {
	in.Now = now
	input = ast.NewTerm(ast.MustInterfaceToValue(w.input))
	base := w.data
	if w.request {
		given, tables := authzOf(w.input), authzOf(w.data)
		in.Value, in.Data = value.Of(given), value.Indexed(tables)
		input = parsed(given.AppendJSON(nil))
		base = nil
		if err := util.UnmarshalJSON(tables.AppendJSON(nil), &base); err != nil {
			panic(err)
		}
	} else {
		in.Value, in.Data = valueOf(input.Value), valueOf(ast.MustInterfaceToValue(w.data))
	}
	return in, input, inmem.NewFromObjectWithOpts(base, inmem.OptReturnASTValuesOnRead(true))
}

func parsed(text []byte) *ast.Term {
	v, err := ast.ValueFromReader(bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	return ast.NewTerm(v)
}

func valueOf(v ast.Value) value.Value {
	out, err := value.FromAST(nil, v)
	if err != nil {
		panic(err)
	}
	return out
}

func authzOf(v any) authz.Value {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	out, err := authz.Parse(text)
	if err != nil {
		panic(fmt.Sprintf("%v: %s", err, text))
	}
	return out
}
