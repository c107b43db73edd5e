package builtin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var now = time.Date(2026, 3, 29, 1, 59, 59, 123456789, time.UTC)

func newCall(h *value.Heap) *Call {
	return &Call{Heap: h, Context: context.Background(), Now: now, Cache: builtins.Cache{}}
}

// court compares a function with OPA's. Its Call is used for every case, as an
// engine does, so that what one case leaves behind shows in the next.
type court struct {
	call     *Call
	heap     *value.Heap
	answered map[string]int // natively, by function
}

func newCourt() *court {
	h := &value.Heap{Limit: 100_000}
	return &court{call: newCall(h), heap: h, answered: map[string]int{}}
}

// raw are the functions without the judge behind them.
var raw = func() table {
	all := table{}
	for _, t := range tables {
		for name, f := range t {
			all[name] = f
		}
	}
	return all
}()

// compare fails where the native function, or one bound to the arguments that
// are constant, differs from OPA's: in the value and how it is written, or in
// the code or text of the error.
func (c *court) compare(t interface{ Fatalf(string, ...any) }, name string, terms []ast.Value, constant []bool) {
	defer c.heap.Reset()
	args, masked := make([]value.Value, len(terms)), make([]value.Value, len(terms))
	for i, term := range terms {
		v, err := value.FromAST(c.heap, term)
		if err != nil {
			t.Fatalf("%v: %v", term, err)
		}
		args[i] = v
		if constant != nil && constant[i] {
			args[i] = value.Freeze(v)
			masked[i] = args[i]
		}
	}
	f := Bind(name, masked)
	if f == nil {
		f, _ = Lookup(name)
	}
	got := outcome(f, c.call, args)
	if strings.Contains(got, value.ErrMemory.Error()) {
		return // OPA's might not come back
	}
	judge := newCall(nil)
	judge.Cancel = c.call.Cancel
	// Where OPA's function panics, as net.cidr_merge does on some mapped
	// addresses, a native one may answer; an evaluation that panics denies.
	if want := outcome(foreign(name), judge, args); got != want && want != panicked {
		t.Fatalf("%s%v constant %v\ngot  %s\nwant %s", name, terms, constant, got, want)
	}
	for i, term := range terms {
		if again := shown(args[i], nil); again != written1(term) {
			t.Fatalf("%s%v changed argument %d to %s", name, terms, i, again)
		}
	}
	if got == panicked {
		return
	}
	if _, err := raw[name](c.call, args); err != errAsk {
		c.answered[name]++
	}
}

const panicked = "a panic"

func outcome(f Func, c *Call, args []value.Value) (text string) {
	defer func() {
		if recover() != nil {
			text = panicked
		}
	}()
	return shown(f(c, args))
}

func written1(v ast.Value) string { return fmt.Sprintf("%T %v", v, v) }

func shown(v value.Value, err error) string {
	var failed *Error
	switch {
	case errors.As(err, &failed):
		return failed.Code + "|" + failed.Message
	case err != nil:
		return fmt.Sprintf("%T %v", err, err)
	case !v.Defined():
		return "undefined"
	}
	return written1(v.AST())
}

func TestForeignFunctionsKeepHaltsApart(t *testing.T) {
	h := &value.Heap{Limit: 100_000}
	c := newCall(h)
	two, _ := value.FromAST(h, ast.MustParseTerm(`[{1, 2}]`).Value)
	if _, err := foreign(ast.InternalTemplateString.Name)(c, []value.Value{two}); errors.As(err, new(*Error)) || !errors.As(err, new(topdown.Halt)) {
		t.Errorf("a halt of OPA's function came as %T %v", err, err)
	}
	if _, err := foreign(ast.Rem.Name)(c, []value.Value{value.OfInt(1), value.OfInt(0)}); !errors.As(err, new(*Error)) {
		t.Errorf("a built-in error came as %T %v", err, err)
	}
	if f, native := Lookup("no.such"); f != nil || native || Bind("no.such", nil) != nil {
		t.Error("a function that OPA has not was found")
	}
}
