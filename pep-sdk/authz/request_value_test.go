package authz

import (
	"strings"
	"testing"
)

func readRequest(t testing.TB, text string, extra ...string) Request {
	t.Helper()
	v, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := RequestOf(v, extra...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A request says what its fields say, whatever it was read from.
func TestValueFollowsEveryChangeOfARequest(t *testing.T) {
	properties := MustValue(map[string]any{"new": 1})
	for name, change := range map[string]func(r *Request){
		"nothing":             func(*Request) {},
		"tenant":              func(r *Request) { r.Tenant = "globex" },
		"subject's type":      func(r *Request) { r.Subject.Type = "service" },
		"subject's id":        func(r *Request) { r.Subject.ID = "li.wei2" },
		"shorter id":          func(r *Request) { r.Subject.ID = r.Subject.ID[:2] },
		"subject's others":    func(r *Request) { r.Subject.Properties = properties },
		"no others":           func(r *Request) { r.Subject.Properties = Value{} },
		"a member more":       func(r *Request) { r.Subject.Properties = r.Subject.Properties.With("roles", Strings("x")) },
		"action":              func(r *Request) { r.Action.Name = "vm.delete" },
		"action's properties": func(r *Request) { r.Action.Properties = Value{} },
		"resource":            func(r *Request) { r.Resource = r.Subject },
		"parts exchanged":     func(r *Request) { r.Subject, r.Resource = r.Resource, r.Subject },
		"resource's others":   func(r *Request) { r.Resource.Properties = properties },
		"context":             func(r *Request) { r.Context = properties },
		"no context":          func(r *Request) { r.Context = Value{} },
		"empty context":       func(r *Request) { r.Context = MustValue(map[string]any{}) },
		"moved":               func(r *Request) { r.Context = part(r.read, "extra") },
		"equal, elsewhere":    func(r *Request) { r.Tenant = strings.Clone(r.Tenant) },
		"all of it":           func(r *Request) { *r = Request{Tenant: "t", Subject: Entity{Type: "a", ID: "b"}} },
	} {
		for form, text := range map[string]string{
			"as an object":               wholeRequest,
			"with a text for the action": strings.Replace(wholeRequest, `{"name":"vm.create","properties":{"dry":true}}`, `"vm.create"`, 1),
			"without context":            strings.Replace(wholeRequest, `,"context":{"ip":"::1"}`, ``, 1),
			"with another member":        strings.Replace(wholeRequest, `"context"`, `"extra"`, 1),
		} {
			r := readRequest(t, text, "extra")
			change(&r)
			fresh := Request{Tenant: r.Tenant, Subject: r.Subject, Action: r.Action, Resource: r.Resource, Context: r.Context}
			if got, want := r.Value().String(), string(fresh.AppendJSON(nil)); got != want {
				t.Errorf("%s, read %s:\ngot  %s\nwant %s", name, form, got, want)
			}
		}
	}
}

func TestValueOfWhatWasReadIsNotMadeAnew(t *testing.T) {
	r := readRequest(t, wholeRequest)
	if v := r.Value(); !v.same(r.read) {
		t.Error("the object was made anew")
	}
	r.Subject.Properties = MustValue(map[string]any{"roles": []string{"dba"}})
	v := r.Value()
	for _, name := range []string{"action", "resource", "context"} {
		if got, _ := v.Get(name); !got.same(part(r.read, name)) {
			t.Errorf("%s was made anew, and only the subject had changed", name)
		}
	}
	if n := testing.AllocsPerRun(100, func() { v = r.Value() }); n > 1 {
		t.Errorf("%g allocations", n)
	}
	r = readRequest(t, wholeRequest)
	if n := testing.AllocsPerRun(100, func() { v = r.Value() }); n > 0 {
		t.Errorf("%g allocations for what was read", n)
	}
}

func TestAFaultyRequestReadsAsNone(t *testing.T) {
	r, err := RequestOf(MustValue([]any{}))
	if err == nil || r.Value().String() != (&Request{}).Value().String() {
		t.Errorf("%v, %v", r.Value(), err)
	}
}

func BenchmarkRequestValue(b *testing.B) {
	r := readRequest(b, wholeRequest)
	b.Run("as it was read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.Value()
		}
	})
	r.Subject.Properties = MustValue(map[string]any{"roles": []string{"dba"}})
	b.Run("with another subject", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.Value()
		}
	})
	r.read = Value{}
	b.Run("not read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.Value()
		}
	})
}
