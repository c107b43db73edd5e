package serve

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestThePolicySourceIsASubjectThatPublishesTenantsPoliciesOnly(t *testing.T) {
	core, _ := openCore(t, t.TempDir())
	owner := &sourceOwner{core: core, name: "service:git"}
	rights := func() (may []string) {
		t.Helper()
		actor, err := owner.actor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range [][2]string{
			{"release.publish", "acme"}, {"release.publish.platform", pap.Platform}, {"release.publish.self", pap.Platform},
			{"policy.write", "acme"}, {"directory.write", pap.Platform}, {"grant.mint", "acme"},
		} {
			err := actor.May(t.Context(), c[0], c[1])
			if err == nil {
				may = append(may, c[0])
			} else if !errors.Is(err, pap.ErrForbidden) {
				t.Fatal(err)
			}
		}
		return may
	}
	if got := rights(); len(got) != 1 || got[0] != "release.publish" {
		t.Errorf("%v", got)
	}
	bind := pap.Binding{Subject: "service:git", Role: "guardrail_publisher"}
	if _, _, err := core.PAP.CreateBinding(t.Context(), admin.LocalActor(), bind); err != nil {
		t.Fatal(err)
	}
	if got := rights(); len(got) != 2 || got[1] != "release.publish.platform" {
		t.Errorf("with the role guardrail_publisher: %v", got)
	}
	if _, _, err := core.PAP.SetSubjectDisabled(t.Context(), admin.LocalActor(), "", "service:git", true); err != nil {
		t.Fatal(err)
	}
	owner = &sourceOwner{core: core, name: "service:git"} // as after a restart
	if got := rights(); len(got) != 0 {
		t.Errorf("disabled, it still may %v", got)
	}
}

func TestStaticAttributesAreReadAgainUnlessTheyAreWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "static.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &staticFile{path: path}
	clearance := func() string {
		t.Helper()
		v, ok, err := s.Attribute(t.Context(), pdp.AttributeQuery{Name: "subject.clearance", Tenant: "acme", Entity: &authz.Entity{Type: "user", ID: "li.wei"}})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return string(v.AppendJSON(nil))
	}
	if s.load() == nil {
		t.Fatal("a file that is not there is read")
	}
	for _, level := range []string{"2", "3"} {
		write("tenants: {acme: {subject: {\"user:li.wei\": {clearance: " + level + "}}}}")
		if err := s.load(); err != nil || clearance() != level {
			t.Errorf("%s: %v", clearance(), err)
		}
	}
	write("tenants: [")
	if err := s.load(); err == nil || clearance() != "3" {
		t.Errorf("a wrong file: %v, %s", err, clearance())
	}
}
