package pdp_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// files is a candidate release by path.
type files map[string]string

func compile(t *testing.T, number uint64, f files) *pdp.Release {
	t.Helper()
	var list []bundles.File
	for path, text := range f {
		list = append(list, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pdp.Compile(t.Context(), number, content, celeval.New())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// directory answers subject.roles.
type directory map[string][]string

func (d directory) Attribute(_ context.Context, q pdp.AttributeQuery) (authz.Value, bool, error) {
	roles, ok := d[q.Entity.ID]
	return authz.Strings(roles...), ok, nil
}

func (directory) Local() bool { return true }

// hanging does not answer before its context ends, or with until, not before
// that is closed, whatever its context says.
type hanging struct{ until chan struct{} }

func (h hanging) Attribute(ctx context.Context, _ pdp.AttributeQuery) (authz.Value, bool, error) {
	if h.until != nil {
		<-h.until
		return authz.Value{}, true, nil
	}
	<-ctx.Done()
	return authz.Value{}, false, ctx.Err()
}

func (hanging) Local() bool { return false }

const allowAll = `{"id":"all","name":"all","version":"1","rules":[{"id":"yes","condition":"true","effect":"ALLOW"}]}`

func newPDP(snapshot *pdp.Snapshot, change func(*pdp.Config)) *pdp.PDP {
	var ids atomic.Int64
	c := pdp.Config{Now: time.Now, NewID: func() string { return "dec-" + string('a'+rune(ids.Add(1))) }}
	if change != nil {
		change(&c)
	}
	p := pdp.New(c)
	if snapshot != nil {
		p.Activate(snapshot)
	}
	return p
}

func request() authz.Request {
	return authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "vm.create"}, Resource: authz.Entity{Type: "vm", ID: "web"}}
}

func rules(d authz.Decision) []string {
	var names []string
	for _, r := range d.Reasons {
		names = append(names, strings.TrimPrefix(r.Policy+"/"+r.Rule, "/"))
	}
	return names
}

func TestWithoutAReleaseNothingIsDecided(t *testing.T) {
	d, err := newPDP(nil, nil).Decide(t.Context(), request(), pdp.Caller{})
	if !errors.Is(err, pdp.ErrNotReady) || d.Allowed() {
		t.Fatalf("got %v, %v; want ErrNotReady and a decision that denies", d.Effect, err)
	}
}

func TestRolesComeFromTheDirectoryAndNobodyElse(t *testing.T) {
	release := compile(t, 1, files{
		"attributes.yaml":            "attributes:\n  subject.roles: {trusted: true, source: directory}\n",
		"platform/roles.policy.json": `{"id":"roles","name":"r","version":"1","rules":[{"id":"engineer","condition":"'engineer' in subject.properties.roles","effect":"ALLOW"}]}`,
	})
	p := newPDP(&pdp.Snapshot{Release: release, Directory: directory{"li.wei": {"engineer"}, "bo": nil}}, nil)

	d, err := p.Decide(t.Context(), request(), pdp.Caller{})
	if err != nil || d.Effect != authz.Allow {
		t.Fatalf("an engineer got %s, %v", d.Effect, err)
	}
	bo := request()
	bo.Subject.ID = "bo"
	if d, err := p.Decide(t.Context(), bo, pdp.Caller{}); err != nil || d.Effect != authz.Deny {
		t.Fatalf("a subject without roles got %s, %v", d.Effect, err)
	}
	bo.Subject.Properties = authz.MustValue(map[string]any{"roles": []any{"engineer"}})
	_, err = p.Decide(t.Context(), bo, pdp.Caller{})
	var field *authz.FieldError
	if !errors.As(err, &field) || field.Path != "/subject/properties/roles" {
		t.Fatalf("a supplied trusted attribute got %v, want an error at /subject/properties/roles", err)
	}
}

func TestSourceThatHangsDeniesOnlyWhatReadsIt(t *testing.T) {
	for _, name := range []string{"honours its context", "deaf", "missing"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var source pdp.AttributeSource
				switch name {
				case "honours its context":
					source = hanging{}
				case "deaf":
					until := make(chan struct{})
					defer close(until)
					source = hanging{until}
				}
				release := compile(t, 1, files{
					"attributes.yaml":           "attributes:\n  subject.risk: {trusted: true, source: risk}\n",
					"platform/risk.policy.json": `{"id":"risk","name":"r","version":"1","rules":[{"id":"high","condition":"subject.properties.risk == 'high'","effect":"DENY"}]}`,
					"platform/all.policy.json":  allowAll,
				})
				p := newPDP(&pdp.Snapshot{Release: release}, func(c *pdp.Config) {
					if source != nil {
						c.Sources = map[string]pdp.AttributeSource{"risk": source}
					}
				})
				d, err := p.Decide(t.Context(), request(), pdp.Caller{})
				if err != nil {
					t.Fatal(err)
				}
				want := []string{"platform/risk/evaluation_error", "platform/all/yes"}
				if d.Effect != authz.Deny || !slices.Equal(rules(d), want) {
					t.Fatalf("%s by %v, want DENY by %v", d.Effect, rules(d), want)
				}
				if r := d.Reasons[0]; r.Cause != "attribute_unavailable" || !strings.Contains(r.Message, "subject.risk") {
					t.Errorf("reason %+v does not say which attribute was unavailable", r)
				}
			})
		})
	}
}

func TestAttributeIsFetchedOnlyWhenAnApplicablePolicyReadsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := compile(t, 1, files{
			"attributes.yaml":           "attributes:\n  subject.risk: {trusted: true, source: risk}\n",
			"platform/risk.policy.json": `{"id":"risk","name":"r","version":"1","scope":{"actions":["db.*"]},"rules":[{"id":"high","condition":"subject.properties.risk == 'high'","effect":"DENY"}]}`,
			"platform/all.policy.json":  allowAll,
		})
		p := newPDP(&pdp.Snapshot{Release: release}, func(c *pdp.Config) {
			c.Sources = map[string]pdp.AttributeSource{"risk": hanging{}}
		})
		if d, err := p.Decide(t.Context(), request(), pdp.Caller{}); err != nil || d.Effect != authz.Allow {
			t.Fatalf("got %s %v by %v; the policy that reads the attribute does not apply", d.Effect, err, rules(d))
		}
	})
}

func TestRestrictionEndsAtItsEndByTheDecisionsClock(t *testing.T) {
	release := compile(t, 1, files{"platform/all.policy.json": allowAll})
	start := time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)
	r := &authz.Restriction{ID: "rst-1", Tenant: "acme", Validity: authz.Validity{Start: start, End: start.Add(time.Hour)},
		Rules: []authz.RestrictionRule{{ID: "freeze", Condition: "action == 'vm.create'", Effect: authz.Deny, Message: "Change freeze."}}}
	program, err := celeval.New().CompileRestriction(r.ID, r.Tenant, r.Rules)
	if err != nil {
		t.Fatal(err)
	}
	dynamic := new(pdp.Dynamic).With(pdp.DynamicChange{Restrictions: []pdp.CompiledRestriction{{Restriction: r, Program: program}}}, start)
	clock := start
	p := newPDP(&pdp.Snapshot{Release: release, Dynamic: dynamic}, func(c *pdp.Config) { c.Now = func() time.Time { return clock } })
	for _, c := range []struct {
		after time.Duration
		want  authz.Effect
	}{{-1, authz.Allow}, {0, authz.Deny}, {time.Hour - 1, authz.Deny}, {time.Hour, authz.Allow}} {
		clock = start.Add(c.after)
		if d, err := p.Decide(t.Context(), request(), pdp.Caller{}); err != nil || d.Effect != c.want {
			t.Errorf("%s after its start: %s %v, want %s", c.after, d.Effect, err, c.want)
		}
	}
	clock = start
	other := request()
	other.Tenant = "globex"
	if d, _ := p.Decide(t.Context(), other, pdp.Caller{}); d.Effect != authz.Allow {
		t.Error("a restriction of acme closed globex")
	}
}

func TestGrantIsBoundToTheRequestAndTheRulesDigest(t *testing.T) {
	source := files{
		"platform/all.policy.json": allowAll,
		"platform/ask.policy.json": `{"id":"ask","name":"a","version":"1","rules":[{"id":"ask","condition":"has(context.purpose) && context.purpose == 'batch'","effect":"REVIEW"}]}`,
	}
	release := compile(t, 1, source)
	snapshot := &pdp.Snapshot{Release: release}
	req := request()
	req.Context = authz.MustValue(map[string]any{"purpose": "batch", "trace": "1"})
	digest, err := snapshot.RequestDigest(req, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rule, _ := release.Rule("platform/ask/ask")
	g := &authz.Grant{ID: "grt-1", Tenant: "acme", Requests: []string{digest.String()},
		Satisfies: []authz.RuleRef{{Rule: "platform/ask/ask", Digest: rule.Digest.String()}},
		Validity:  authz.Validity{Start: time.Now().Add(-time.Minute), End: time.Now().Add(time.Hour)}}
	snapshot.Dynamic = new(pdp.Dynamic).With(pdp.DynamicChange{Grants: []*authz.Grant{g}}, time.Now())
	p := newPDP(snapshot, nil)
	decide := func(change func(*authz.Request)) authz.Effect {
		asked := req
		change(&asked)
		d, err := p.Decide(t.Context(), asked, pdp.Caller{})
		if err != nil {
			t.Fatal(err)
		}
		return d.Effect
	}
	if got := decide(func(*authz.Request) {}); got != authz.Allow {
		t.Fatalf("the request it is bound to: %s", got)
	}
	if got := decide(func(r *authz.Request) { r.Context = r.Context.With("trace", authz.StringValue("2")) }); got != authz.Allow {
		t.Errorf("a context member that no policy reads: %s, want ALLOW", got)
	}
	for name, change := range map[string]func(*authz.Request){
		"another subject":  func(r *authz.Request) { r.Subject.ID = "bo" },
		"another resource": func(r *authz.Request) { r.Resource.ID = "db" },
		"a property more":  func(r *authz.Request) { r.Resource.Properties = authz.MustValue(map[string]any{"cpu": 64}) },
		"another action":   func(r *authz.Request) { r.Action.Name = "vm.delete" },
	} {
		if got := decide(change); got != authz.Review {
			t.Errorf("%s: %s, want REVIEW", name, got)
		}
	}
	source["platform/ask.policy.json"] = strings.Replace(source["platform/ask.policy.json"], `"name":"a"`, `"name":"b"`, 1)
	p.Activate(&pdp.Snapshot{Release: compile(t, 2, source), Dynamic: snapshot.Dynamic})
	if got := decide(func(*authz.Request) {}); got != authz.Review {
		t.Errorf("after its rule's policy changed: %s, want REVIEW", got)
	}
}

// uses counts in memory, up to max.
type uses struct{ left int }

func (u *uses) CountUses(_ context.Context, grants []*authz.Grant, _ pdp.Caller, _ string) ([]string, error) {
	if u.left == 0 {
		return []string{grants[0].ID}, nil
	}
	u.left--
	return nil, nil
}

func (u *uses) SpentUses(_ context.Context, grants []*authz.Grant) ([]string, error) {
	if u.left == 0 {
		return []string{grants[0].ID}, nil
	}
	return nil, nil
}

func TestCountedGrantStopsWhenItsUsesAreSpent(t *testing.T) {
	release := compile(t, 1, files{
		"platform/all.policy.json": allowAll,
		"platform/ask.policy.json": `{"id":"ask","name":"a","version":"1","rules":[{"id":"ask","condition":"true","effect":"REVIEW"}]}`,
	})
	snapshot := &pdp.Snapshot{Release: release}
	digest, _ := snapshot.RequestDigest(request(), time.Now())
	rule, _ := release.Rule("platform/ask/ask")
	g := &authz.Grant{ID: "grt-1", Tenant: "acme", Uses: 2, Requests: []string{digest.String()},
		Satisfies: []authz.RuleRef{{Rule: "platform/ask/ask", Digest: rule.Digest.String()}},
		Validity:  authz.Validity{Start: time.Now().Add(-time.Minute), End: time.Now().Add(time.Hour)}}
	snapshot.Dynamic = new(pdp.Dynamic).With(pdp.DynamicChange{Grants: []*authz.Grant{g}}, time.Now())
	counter := &uses{left: 2}
	p := newPDP(snapshot, func(c *pdp.Config) { c.Uses = counter })
	for i, want := range []authz.Effect{authz.Allow, authz.Allow, authz.Review} {
		if d, err := p.Decide(t.Context(), request(), pdp.Caller{}); err != nil || d.Effect != want || d.ID == "" {
			t.Errorf("use %d: %s %v, want %s", i+1, d.Effect, err, want)
		}
	}
	evaluate := func(left int, want authz.Effect) {
		t.Helper()
		counter.left = left
		if d, _, err := p.Evaluate(t.Context(), snapshot, request(), false); err != nil || d.Effect != want || counter.left != left {
			t.Errorf("evaluate: %s %v with %d of %d uses left, want %s and no use", d.Effect, err, counter.left, left, want)
		}
	}
	evaluate(0, authz.Review)
	evaluate(1, authz.Allow)
	without := newPDP(snapshot, nil)
	if d, _ := without.Decide(t.Context(), request(), pdp.Caller{}); d.Effect != authz.Review {
		t.Errorf("without a counter: %s, want REVIEW", d.Effect)
	}
}

// journal keeps records, or refuses them.
type journal struct {
	records []pdp.Record
	err     error
}

func (j *journal) Record(_ context.Context, r *pdp.Record) error {
	j.records = append(j.records, *r)
	return j.err
}

func TestDecisionThatCannotBeRecordedIsNoDecision(t *testing.T) {
	release := compile(t, 1, files{"platform/all.policy.json": strings.Replace(allowAll, `"rules"`, `"audit":"strict","masks":["/resource/properties/password","/context/list/*/secret"],"rules"`, 1)})
	j := &journal{}
	p := newPDP(&pdp.Snapshot{Release: release}, func(c *pdp.Config) { c.Recorder = j })
	req := request()
	req.Resource.Properties = authz.MustValue(map[string]any{"password": "hunter2", "cpu": 2})
	req.Context = authz.MustValue(map[string]any{"list": []any{map[string]any{"secret": "s", "open": "o"}}})
	if d, err := p.Decide(t.Context(), req, pdp.Caller{Name: "service:shop"}); err != nil || !d.Allowed() {
		t.Fatalf("%s, %v", d.Effect, err)
	}
	got, _ := j.records[0].Request.MarshalJSON()
	if text := string(got); strings.Contains(text, "hunter2") || strings.Contains(text, `"secret":"s"`) || !strings.Contains(text, `"open":"o"`) || !strings.Contains(text, `"cpu":2`) {
		t.Errorf("recorded %s", got)
	}
	if j.records[0].Durability != pdp.Strict || j.records[0].Caller.Name != "service:shop" {
		t.Errorf("recorded as %+v", j.records[0])
	}
	j.err = errors.New("disk full")
	d, err := p.Decide(t.Context(), req, pdp.Caller{})
	if !errors.Is(err, pdp.ErrAuditUnavailable) || d.Allowed() {
		t.Fatalf("got %s, %v; want ErrAuditUnavailable and the zero decision", d.Effect, err)
	}
}

func TestDecisionEndsOnTheReleaseItBeganWith(t *testing.T) {
	first, second := compile(t, 1, files{"platform/all.policy.json": allowAll}), compile(t, 2, files{"platform/all.policy.json": strings.Replace(allowAll, "ALLOW", "DENY", 1)})
	p := newPDP(&pdp.Snapshot{Release: first}, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			p.Activate(&pdp.Snapshot{Release: []*pdp.Release{first, second}[i%2]})
		}
	}()
	for range 200 {
		d, err := p.Decide(t.Context(), request(), pdp.Caller{})
		if err != nil {
			t.Fatal(err)
		}
		if want := map[uint64]authz.Effect{1: authz.Allow, 2: authz.Deny}[d.Revision.Release]; d.Effect != want {
			t.Fatalf("%s at %s, want %s", d.Effect, d.Revision, want)
		}
	}
	<-done
}

func TestAwaitReturnsWhenTheRevisionIsActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPDP(nil, nil)
		reached := make(chan error, 1)
		go func() { reached <- p.Await(t.Context(), authz.Revision{Release: 2, Position: 5}) }()
		for _, s := range []*pdp.Snapshot{{Release: compile(t, 1, files{"platform/all.policy.json": allowAll}), Position: 9}, {Release: compile(t, 2, files{"platform/all.policy.json": allowAll}), Position: 4}} {
			p.Activate(s)
			synctest.Wait()
			select {
			case err := <-reached:
				t.Fatalf("returned %v at %s", err, s.Revision())
			default:
			}
		}
		p.Activate(&pdp.Snapshot{Release: compile(t, 3, files{"platform/all.policy.json": allowAll}), Position: 5})
		if err := <-reached; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Await(ctx, authz.Revision{Release: 4}); !errors.Is(err, pdp.ErrRevisionUnavailable) {
			t.Fatalf("a revision that never comes: %v", err)
		}
	})
}

func TestCompileNamesEveryFaultAndUnknownFile(t *testing.T) {
	content, _ := bundles.NewContent([]bundles.File{
		{Path: "platform/bad.policy.json", Data: []byte(`{"id":"bad","name":"n","version":"1","rules":[{"condition":"nope(","effect":"DENY"}]}`)},
		{Path: "platform/guard.reog", Data: []byte("x")},
		{Path: "attributes.yaml", Data: []byte("attributes: {roles: {}}")},
		{Path: "tables/t.yaml", Data: []byte("tenants: {ACME: {}}")},
	})
	_, err := pdp.Compile(t.Context(), 1, content, celeval.New())
	var faults pdp.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v, want faults", err)
	}
	for _, file := range []string{"platform/bad.policy.json", "platform/guard.reog", "attributes.yaml", "tables/t.yaml"} {
		if !slices.ContainsFunc(faults, func(f pdp.Fault) bool { return f.File == file }) {
			t.Errorf("no fault names %s: %v", file, faults)
		}
	}
}

// Questions that are over lend their memory to others; what was answered and
// written down stays as it was.
func TestAnswersOwnTheirMemory(t *testing.T) {
	masked := `{"id":"secret","name":"s","version":"1","masks":["/context/token"],"reads":["context.token"],"rules":[{"id":"no","condition":"context.token == 'hunter2'","effect":"DENY","message":{"en":"Not with {context.token}.","zh":"不行。"}}]}`
	release := compile(t, 1, files{"platform/all.policy.json": allowAll, "platform/secret.policy.json": masked})
	p := newPDP(&pdp.Snapshot{Release: release}, nil)
	told := func(a *pdp.Answer) string {
		record := a.Record(pdp.Caller{Name: "service:shop"})
		audit, err := record.Audit()
		if err != nil {
			t.Fatal(err)
		}
		return string(a.AppendJSON(nil)) + string(audit.AppendJSON(nil))
	}
	ask := func(token string) (*pdp.Answer, string) {
		req := request()
		req.Context = authz.MustValue(map[string]any{"token": token})
		a, err := p.Ask(t.Context(), req, authz.Freshness{Now: time.Unix(1_800_000_000, 0), Grants: true})
		if err != nil {
			t.Fatal(err)
		}
		return &a, told(&a)
	}
	first, before := ask("hunter2")
	if !strings.Contains(before, "platform/secret") || strings.Contains(before[strings.Index(before, `"body"`):], "hunter2") {
		t.Fatalf("told %s", before)
	}
	for range 100 {
		ask("other")
		if _, err := p.Decide(t.Context(), request(), pdp.Caller{}); err != nil {
			t.Fatal(err)
		}
	}
	if after := told(first); after != before {
		t.Fatalf("after other questions the answer reads\n%s\nwas\n%s", after, before)
	}
}

// A program may answer with lists that it keeps, or with lists in the room of
// earlier outcomes; neither may see the other's.
func TestRoomIsUsedAgainOnlyByWhoAskedForIt(t *testing.T) {
	keeps := ruleOf(pdp.KindAllow, pdp.Text{EN: "Yes.", ZH: "可以。"})
	borrows := &borrower{ruleOf(pdp.KindReview, pdp.Text{EN: "Ask.", ZH: "待审。"})}
	borrows.policies[0].ID = "platform/borrower"
	content, err := bundles.NewContent(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]pdp.Compiler{{keeps, borrows}, {borrows, keeps}} {
		release, err := pdp.Compile(t.Context(), 1, content, order...)
		if err != nil {
			t.Fatal(err)
		}
		p := newPDP(&pdp.Snapshot{Release: release}, nil)
		for range 10 {
			d, err := p.Decide(t.Context(), request(), pdp.Caller{})
			if got := rules(d); err != nil || !slices.Equal(got, []string{"platform/borrower/always", "platform/constant/always"}) {
				t.Fatalf("found %v, %v", got, err)
			}
		}
	}
}

// borrower is a constant language that appends to the room it is given.
type borrower struct{ *constant }

func (b *borrower) Compile(context.Context, *pdp.Source) (pdp.Program, error) { return b, nil }

func (b *borrower) Evaluate(_ context.Context, _ *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	for i, p := range policies {
		out = pdp.NextOutcome(out, p)
		last := &out[len(out)-1]
		last.Findings = append(last.Findings, b.findings[i])
	}
	return out
}
