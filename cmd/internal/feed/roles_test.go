package feed

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func put(t *testing.T, d *pap.Directory, kind pap.Kind, key string, object any) {
	t.Helper()
	body, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply([]pap.Record{{Kind: kind, Key: key, Body: body}}); err != nil {
		t.Fatal(err)
	}
}

func rolesOf(t *testing.T, source *Roles, tenant, id string) string {
	t.Helper()
	roles, ok, err := source.Attribute(t.Context(), pdp.AttributeQuery{
		Name: "subject.roles", Tenant: tenant, Entity: &authz.Entity{Type: "user", ID: id}})
	if err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	return roles.String()
}

func TestAChangeOfTheDirectoryIsAnsweredAtOnce(t *testing.T) {
	d := &pap.Directory{}
	source := RolesOf(d)
	binding := pap.Binding{ID: "b", Tenant: "acme", Subject: "user:li.wei", Role: "engineer"}
	for i, step := range []struct {
		change func()
		want   string
	}{
		{func() {}, `[]`},
		{func() { put(t, d, pap.KindTenant, "acme", pap.Tenant{ID: "acme"}) }, `[]`},
		{func() {
			put(t, d, pap.KindSubject, "acme/user:li.wei", pap.Subject{Tenant: "acme", Type: "user", ID: "li.wei"})
		}, `[]`},
		{func() { put(t, d, pap.KindRole, "acme/engineer", pap.Role{Tenant: "acme", Name: "engineer"}) }, `[]`},
		{func() { put(t, d, pap.KindBinding, "b", binding) }, `["engineer"]`},
		{func() { binding.Disabled = true; put(t, d, pap.KindBinding, "b", binding) }, `[]`},
	} {
		step.change()
		for range 2 { // the second time from memory
			if got := rolesOf(t, source, "acme", "li.wei"); got != step.want {
				t.Errorf("step %d: %s, want %s", i, got, step.want)
			}
		}
		if got := rolesOf(t, source, "other", "li.wei"); got != `[]` {
			t.Errorf("step %d: another tenant's subject of that name has %s", i, got)
		}
	}
}

func TestRequestsCannotFillTheMemoryOfRoles(t *testing.T) {
	source := RolesOf(&pap.Directory{})
	for i := range 2*maxKnown + 1 {
		rolesOf(t, source, "acme", fmt.Sprint(i))
		if len(source.known) > maxKnown {
			t.Fatalf("%d subjects are remembered", len(source.known))
		}
	}
}
