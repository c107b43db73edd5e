package serve

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/local"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// member is one engine in-process, of one audience.
type member struct {
	tenants []string
	engine  *local.Engine
	release *pdp.Release
}

// Each shipped test case is asked of the server's core on the whole release,
// and of engines that hold only what their audience gets, before and after a
// grant for every rule that the case asks review for.
func TestInProcessAnswersAreTheServers(t *testing.T) {
	shipped, err := engine.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	compiler := local.NewCompiler()
	whole, err := compiler.Compile(t.Context(), shipped)
	if err != nil {
		t.Fatal(err)
	}
	var members []member
	for _, tenants := range [][]string{{"acme"}, {"globex"}, {bundles.AllTenants}} {
		members = append(members, open(t, compiler, shipped, tenants))
	}
	cases, faults := policytest.Cases(whole)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	asked, granted := 0, 0
	for _, c := range cases {
		roles, told := c.Answers["subject.roles"]
		if c.Layer == pdp.LayerSelf || told && roles.Kind() != authz.KindList {
			continue // PEPs are sent no self policies, and the directory always answers with a list
		}
		for _, m := range members {
			if !serves(m.tenants, c.Request.Tenant) {
				continue
			}
			asked++
			if compareAnswers(t, whole, m, c) {
				granted++
			}
		}
	}
	if asked < 200 || granted < 20 {
		t.Errorf("only %d answers and %d grants were compared", asked, granted)
	}
}

func serves(tenants []string, tenant string) bool {
	for _, served := range tenants {
		if served == tenant || served == bundles.AllTenants {
			return true
		}
	}
	return false
}

// open compiles an audience's part, and holds its rules to their digests.
func open(t *testing.T, compiler *local.Compiler, whole *bundles.Content, tenants []string) member {
	t.Helper()
	part, err := pap.Subset(whole, tenants)
	if err != nil {
		t.Fatal(err)
	}
	m := member{tenants: tenants, engine: local.New(local.Options{Compiler: compiler})}
	compiled, err := m.engine.Compile(t.Context(), 7, part)
	if err != nil {
		t.Fatalf("%v: %v", tenants, err)
	}
	if err := m.engine.Apply(pep.Change{Release: compiled, Reset: true, Position: 9}); err != nil {
		t.Fatal(err)
	}
	if m.release, err = compiler.Compile(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	all, err := compiler.Compile(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, p := range all.Policies() {
		if p.Layer == pdp.LayerSelf || p.Layer == pdp.LayerTenant && !serves(tenants, p.Tenant) {
			continue
		}
		want++
		for _, rule := range p.Rules {
			if got, ok := m.release.Rule(p.ID + "/" + rule.ID); !ok || got.Digest != rule.Digest {
				t.Errorf("%v: %s/%s has another digest, or is missing", tenants, p.ID, rule.ID)
			}
		}
	}
	if got := len(m.release.Policies()); got != want {
		t.Errorf("%v: %d policies, want %d", tenants, got, want)
	}
	return m
}

// compareAnswers reports whether a grant opened the request.
func compareAnswers(t *testing.T, whole *pdp.Release, m member, c policytest.Case) (granted bool) {
	t.Helper()
	core := pdp.New(pdp.Config{Now: func() time.Time { return c.Now }, NewID: func() string { return "" }})
	snapshot := &pdp.Snapshot{Release: whole.Numbered(7), Dynamic: &pdp.Dynamic{}, Position: 9, Directory: c.Answers}
	entries := []stream.Entry{rolesEntry(t, c)}
	before := compareOn(t, core, snapshot, m, c, entries)
	if before.Effect != authz.Review {
		return false
	}
	grant := grantFor(t, whole, snapshot, c, before)
	snapshot.Dynamic = snapshot.Dynamic.With(pdp.DynamicChange{Grants: []*authz.Grant{grant}}, c.Now)
	after := compareOn(t, core, snapshot, m, c, []stream.Entry{entryOf(t, stream.EntryGrant, c.Request.Tenant, grant.ID, grant)})
	ended := *grant
	ended.Ended = &c.Now
	snapshot.Dynamic = snapshot.Dynamic.With(pdp.DynamicChange{Grants: []*authz.Grant{&ended}}, c.Now)
	if last := compareOn(t, core, snapshot, m, c, []stream.Entry{entryOf(t, stream.EntryGrant, c.Request.Tenant, grant.ID, &ended)}); last.Effect != authz.Review {
		t.Errorf("%s: the grant outlives its end", c.Name)
	}
	return after.Effect == authz.Allow
}

func compareOn(t *testing.T, core *pdp.PDP, snapshot *pdp.Snapshot, m member, c policytest.Case, entries []stream.Entry) authz.Decision {
	t.Helper()
	if err := m.engine.Apply(pep.Change{Entries: entries, Position: 9}); err != nil {
		t.Fatal(err)
	}
	want, _, err := core.Evaluate(t.Context(), snapshot, c.Request, false)
	got, gotErr := m.engine.Decide(t.Context(), c.Request, authz.Freshness{Now: c.Now, Grants: true})
	if (err == nil) != (gotErr == nil) {
		t.Errorf("%v: %s:%d %s: %v, want %v", m.tenants, c.File, c.Line, c.Name, gotErr, err)
		return want
	}
	want.ID = got.Decision.ID
	if a, b := string(got.Decision.AppendJSON(nil)), string(want.AppendJSON(nil)); a != b {
		t.Errorf("%v: %s:%d %s:\n%s\nwant\n%s", m.tenants, c.File, c.Line, c.Name, a, b)
	}
	return want
}

// grantFor satisfies every rule that asks for review, as minting does.
func grantFor(t *testing.T, whole *pdp.Release, snapshot *pdp.Snapshot, c policytest.Case, d authz.Decision) *authz.Grant {
	t.Helper()
	digest, err := snapshot.RequestDigest(c.Request, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	g := &authz.Grant{ID: "grant-1", Tenant: c.Request.Tenant, Requests: []string{digest.String()}, Request: c.Request,
		Validity: authz.Validity{Start: c.Now.Add(-time.Minute), End: c.Now.Add(time.Hour)}}
	for _, r := range d.Reasons {
		if rule, ok := whole.Rule(r.Policy + "/" + r.Rule); ok && r.Effect == authz.Review {
			g.Satisfies = append(g.Satisfies, authz.RuleRef{Rule: r.Policy + "/" + r.Rule, Digest: rule.Digest.String()})
		}
	}
	return g
}

func rolesEntry(t *testing.T, c policytest.Case) stream.Entry {
	var roles stream.Roles
	held := c.Answers["subject.roles"]
	for i := range held.Len() {
		roles.Roles = append(roles.Roles, held.Index(i).Text())
	}
	return entryOf(t, stream.EntryRoles, c.Request.Tenant, pap.SubjectName(c.Request.Subject.Type, c.Request.Subject.ID), roles)
}

func entryOf(t *testing.T, kind stream.EntryKind, tenant, key string, body any) stream.Entry {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return stream.Entry{Kind: kind, Tenant: tenant, Key: key, Body: data}
}
