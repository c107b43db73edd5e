package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/local"
	"github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

const (
	attributes = "attributes:\n  subject.roles: {trusted: true, source: directory}\n  resource.owner: {trusted: true, source: cmdb}\n"
	shop       = `id: shop
name: Shop
reads: [subject.roles]
rules:
  - {id: engineers, condition: '"engineer" in subject.properties.roles', effect: ALLOW, message: {en: Engineers may., zh: 工程师可以。}}
  - {id: large, condition: 'resource.properties.cpu > 8', effect: REVIEW, message: {en: It is large., zh: 过大。}}
`
	owned = `id: owned
name: Owned
scope: {actions: [delete]}
reads: [resource.owner]
rules:
  - {id: of_nobody, condition: 'resource.properties.owner == ""', effect: DENY, message: {en: Nobody owns it., zh: 无主。}}
`
)

func content(t testing.TB, files map[string]string) *bundles.Content {
	t.Helper()
	var list []bundles.File
	for path, data := range files {
		list = append(list, bundles.File{Path: path, Data: []byte(data)})
	}
	c, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shopContent(t testing.TB) *bundles.Content {
	return content(t, map[string]string{"attributes.yaml": attributes, "platform/shop.policy.yaml": shop, "platform/owned.policy.yaml": owned})
}

// open returns an engine in which release 3 is active and li.wei is an
// engineer of acme's.
func open(t testing.TB, o local.Options) (*local.Engine, *pdp.Release) {
	t.Helper()
	if o.Compiler == nil {
		o.Compiler = local.NewCompiler()
	}
	e := local.New(o)
	compiled, err := e.Compile(t.Context(), 3, shopContent(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(pep.Change{Release: compiled, Reset: true, Entries: []stream.Entry{roles("acme", "user:li.wei", "engineer")}, Position: 1}); err != nil {
		t.Fatal(err)
	}
	release, err := o.Compiler.Compile(t.Context(), shopContent(t))
	if err != nil {
		t.Fatal(err)
	}
	return e, release
}

func entry(kind stream.EntryKind, tenant, key string, body any) stream.Entry {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return stream.Entry{Kind: kind, Tenant: tenant, Key: key, Body: data}
}

func roles(tenant, subject string, names ...string) stream.Entry {
	return entry(stream.EntryRoles, tenant, subject, stream.Roles{Roles: names})
}

func request(action string, cpu int) authz.Request {
	return authz.Request{
		Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: action},
		Resource: authz.Entity{Type: "server", ID: "s-1", Properties: authz.MustValue(map[string]any{"cpu": cpu})},
	}
}

func fresh() authz.Freshness { return authz.Freshness{Now: now(), Grants: true} }

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// grant opens shop/large for the request.
func grant(t testing.TB, release *pdp.Release, id string, req authz.Request, uses int) stream.Entry {
	t.Helper()
	rule, _ := release.Rule("platform/shop/large")
	digest, err := (&pdp.Snapshot{Release: release}).RequestDigest(req, now())
	if err != nil {
		t.Fatal(err)
	}
	return entry(stream.EntryGrant, "acme", id, authz.Grant{
		ID: id, Tenant: "acme", Satisfies: []authz.RuleRef{{Rule: "platform/shop/large", Digest: rule.Digest.String()}},
		Requests: []string{digest.String()}, Request: req, Validity: authz.Validity{Start: now().Add(-time.Hour), End: now().Add(time.Hour)}, Uses: uses,
	})
}

func decide(t testing.TB, e *local.Engine, req authz.Request, f authz.Freshness) pep.Outcome {
	t.Helper()
	o, err := e.Decide(t.Context(), req, f)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestNothingIsAnsweredBeforeARelease(t *testing.T) {
	_, err := local.New(local.Options{}).Decide(t.Context(), request("read", 1), fresh())
	if !errors.Is(err, pdp.ErrNotReady) {
		t.Errorf("got %v", err)
	}
}

func TestAnswersSayWhatOnlyTheServerHas(t *testing.T) {
	e, release := open(t, local.Options{})
	stranger := request("read", 1)
	stranger.Subject.ID = "someone"
	for _, row := range []struct {
		name    string
		entries []stream.Entry
		req     authz.Request
		f       authz.Freshness
		effect  authz.Effect
		needs   string
	}{
		{"roles decide here", nil, request("read", 1), fresh(), authz.Allow, ""},
		{"nobody without a role", nil, stranger, fresh(), authz.Deny, ""},
		{"people are asked by the server", nil, request("read", 16), fresh(), authz.Review, "approval"},
		{"a grant counts here", []stream.Entry{grant(t, release, "g", request("read", 16), 0)}, request("read", 16), fresh(), authz.Allow, ""},
		{"not where it is stale", nil, request("read", 16), authz.Freshness{Now: now()}, authz.Review, "approval"},
		{"not above the stale bound", nil, request("read", 16), authz.Freshness{Now: now(), Grants: true, GrantsAge: 6 * time.Second, StaleBound: 5 * time.Second}, authz.Review, "approval"},
		{"nor for another request", nil, request("read", 17), fresh(), authz.Review, "approval"},
		{"a counted grant is counted by the server", []stream.Entry{grant(t, release, "g", request("read", 16), 1)}, request("read", 16), fresh(), authz.Review, "uses"},
		{"an attribute of another source", nil, request("delete", 1), fresh(), authz.Deny, "attribute"},
		{"a stale bound that is over", nil, request("read", 1), authz.Freshness{Now: now(), Stale: true, Age: 2 * time.Hour}, authz.Deny, ""},
	} {
		if err := e.Apply(pep.Change{Entries: row.entries, Position: 2}); err != nil {
			t.Fatal(err)
		}
		o := decide(t, e, row.req, row.f)
		if o.Decision.Effect != row.effect || o.Needs != row.needs || o.Decision.Stale != row.f.Stale {
			t.Errorf("%s: %s, needs %q, stale %v, want %s, %q: %+v", row.name, o.Decision.Effect, o.Needs, o.Decision.Stale, row.effect, row.needs, o.Decision.Reasons)
		}
	}
}

func TestRestrictionCountsUntilItsEndByTheHandedClock(t *testing.T) {
	e, _ := open(t, local.Options{})
	restrict := func(condition string) stream.Entry {
		return entry(stream.EntryRestriction, "acme", "r-1", authz.Restriction{
			ID: "r-1", Tenant: "acme", Rules: []authz.RestrictionRule{{ID: "no", Condition: condition, Effect: authz.Deny}},
			Validity: authz.Validity{Start: now().Add(-time.Hour), End: now().Add(time.Hour)},
		})
	}
	for _, condition := range []string{"resource.properties.cpu > 0", "this is no condition ("} {
		if err := e.Apply(pep.Change{Entries: []stream.Entry{restrict(condition)}, Position: 2}); err != nil {
			t.Fatal(err)
		}
		if o := decide(t, e, request("read", 1), authz.Freshness{Now: now(), Stale: true}); o.Decision.Effect != authz.Deny {
			t.Errorf("%s: stale, the restriction does not count: %+v", condition, o.Decision)
		}
		if o := decide(t, e, request("read", 1), authz.Freshness{Now: now().Add(2 * time.Hour)}); o.Decision.Effect != authz.Allow {
			t.Errorf("%s: it outlives its end: %+v", condition, o.Decision)
		}
	}
}

func TestChangeThatDoesNotDecodeChangesNothing(t *testing.T) {
	e, release := open(t, local.Options{})
	before := decide(t, e, request("read", 1), fresh()).Decision.Revision
	good := roles("acme", "user:li.wei")
	misplaced := grant(t, release, "g", request("read", 16), 0)
	misplaced.Tenant = "globex"
	renamed := grant(t, release, "g", request("read", 16), 0)
	renamed.Key = "h"
	for name, bad := range map[string]stream.Entry{
		"a body that is no JSON":        {Kind: stream.EntryGrant, Tenant: "acme", Key: "g", Body: json.RawMessage(`{`)},
		"another tenant's":              misplaced,
		"another grant's":               renamed,
		"an unknown kind":               {Kind: "wish", Tenant: "acme", Key: "g", Body: json.RawMessage(`{}`)},
		"no tenant":                     {Kind: stream.EntryRoles, Key: "user:a", Body: json.RawMessage(`{}`)},
		"a subject that is none":        roles("acme", "li.wei", "engineer"),
		"roles that are no list":        {Kind: stream.EntryRoles, Tenant: "acme", Key: "user:a", Body: json.RawMessage(`{"roles":1}`)},
		"a restriction of another name": entry(stream.EntryRestriction, "acme", "r", authz.Restriction{ID: "s", Tenant: "acme"}),
	} {
		err := e.Apply(pep.Change{Reset: true, Entries: []stream.Entry{good, bad}, Position: 9})
		if err == nil || !strings.Contains(err.Error(), "log position") {
			t.Errorf("%s: %v", name, err)
		}
		if o := decide(t, e, request("read", 1), fresh()); o.Decision.Effect != authz.Allow || o.Decision.Revision != before {
			t.Errorf("%s: something was applied: %+v", name, o.Decision)
		}
	}
	if err := e.Apply(pep.Change{Release: release, Position: 9}); err == nil {
		t.Error("a release that the engine did not compile is taken")
	}
}

func TestRecordsAreMaskedAndNamedByTheDecisionsClock(t *testing.T) {
	e, _ := open(t, local.Options{})
	o := decide(t, e, request("read", 1), fresh())
	record, strict, err := o.Record("service:shop")
	if err != nil || strict || record.Actor != "service:shop" || record.ID != o.Decision.ID || !record.Time.Equal(now()) || len(record.ID) != 26 {
		t.Errorf("%+v, strict %v, %v", record, strict, err)
	}
	later := decide(t, e, request("read", 1), authz.Freshness{Now: now().Add(time.Millisecond), Grants: true})
	if later.Decision.ID <= o.Decision.ID {
		t.Errorf("%s of a later decision sorts before %s", later.Decision.ID, o.Decision.ID)
	}
}

func TestEnginesOfOneCompilerCompileAReleaseOnce(t *testing.T) {
	compiler := local.NewCompiler()
	compile := func(c *bundles.Content) (pep.Compiled, error) {
		return local.New(local.Options{Compiler: compiler}).Compile(t.Context(), 1, c)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := compile(shopContent(t)); err != nil {
				t.Error(err)
			}
			if _, err := compile(content(t, map[string]string{"platform/x.policy.yaml": "id: ["})); err == nil {
				t.Error("a release that does not compile is taken")
			}
		})
	}
	all.Wait()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := local.New(local.Options{}).Compile(ended, 1, shopContent(t)); err == nil {
		t.Error("compiles though nobody waits")
	}
}

// BenchmarkApplyOneGrantAmong100000 is the cost of a mint in a busy tenant.
func BenchmarkApplyOneGrantAmong100000(b *testing.B) {
	e, release := open(b, local.Options{})
	var entries []stream.Entry
	for i := range 100_000 {
		entries = append(entries, roles("acme", "user:u"+strconv.Itoa(i), "engineer"))
		if i%10 == 0 {
			entries = append(entries, grant(b, release, fmt.Sprintf("g%d", i), request("read", 16+i), 0))
		}
	}
	if err := e.Apply(pep.Change{Entries: entries, Position: 100_000}); err != nil {
		b.Fatal(err)
	}
	one := []stream.Entry{grant(b, release, "one", request("read", 9), 0)}
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Apply(pep.Change{Entries: one, Position: 100_001}); err != nil {
			b.Fatal(err)
		}
	}
}

// The two benchmarks below answer the same request; the SDK's may cost a
// tenth more than the server core's.
func BenchmarkDecideInProcess(b *testing.B) {
	e, _ := open(b, local.Options{})
	req, ctx := request("read", 4), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Decide(ctx, req, fresh()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecideByTheServersCore(b *testing.B) {
	_, release := open(b, local.Options{})
	core := pdp.New(pdp.Config{Now: now, NewID: func() string { return "01J00000000000000000000000" }})
	core.Activate(&pdp.Snapshot{Release: release.Numbered(3), Dynamic: &pdp.Dynamic{}, Position: 1,
		Directory: (&pdp.Roles{}).With([]pdp.SubjectRoles{{Tenant: "acme", Subject: "user:li.wei", Roles: []string{"engineer"}}})})
	req, ctx := request("read", 4), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := core.Decide(ctx, req, pdp.Caller{Name: "service:shop"}); err != nil {
			b.Fatal(err)
		}
	}
}
