package pdp

import (
	"testing"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestTheOverlayHoldsTheRequestAsItIs(t *testing.T) {
	object := authz.MustValue(map[string]any{"b": 1, "d": []any{"x"}})
	empty, _ := authz.ObjectValue()
	for _, properties := range []authz.Value{{}, empty, object} {
		for _, context := range []authz.Value{{}, empty, object} {
			req := authz.Request{
				Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "李", Properties: properties}, Context: context,
				Action: authz.Action{Name: "vm.create", Properties: context}, Resource: authz.Entity{Type: "vm", ID: "web", Properties: properties},
			}
			var o overlay
			if got, want := o.request(&req), req.Value(); !got.Equal(want) {
				t.Errorf("got %s, want %s", got.AppendJSON(nil), want.AppendJSON(nil))
			}
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				if got, want := o.with(properties, name, context), properties.With(name, context); !got.Equal(want) {
					t.Errorf("with %s: got %s, want %s", name, got.AppendJSON(nil), want.AppendJSON(nil))
				}
			}
		}
	}
}

func TestTheOverlayKnowsWhatLiesInIt(t *testing.T) {
	o := overlay{members: make([]authz.Member, 0, 64)} // what it grows out of is nobody's any more
	req := authz.Request{Subject: authz.Entity{ID: "a"}, Context: authz.MustValue(map[string]any{"list": []any{1}})}
	v := o.request(&req)
	subject, _ := v.Get("subject")
	for _, inside := range []authz.Value{v, subject, authz.ListValue(authz.StringValue("x"), subject), authz.Value{}.With("deep", authz.ListValue(v))} {
		if !o.holds(inside) {
			t.Errorf("%s lies in it", inside.AppendJSON(nil))
		}
	}
	id, _ := subject.Get("id")
	empty, _ := authz.ObjectValue()
	for _, outside := range []authz.Value{{}, empty, id, req.Context, subject.With("more", id)} {
		if o.holds(outside) {
			t.Errorf("%s does not lie in it", outside.AppendJSON(nil))
		}
	}
	o.reset()
	if o.holds(authz.ListValue(id)) || len(o.members) > 0 {
		t.Error("after a reset nothing lies in it")
	}
}
