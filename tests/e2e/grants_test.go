//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// desk is a tenant's policy with a rule of every kind that a grant meets.
const desk = `id: desk
name: The desk
version: "1.0"
title: {en: The desk, zh: 柜台}
scope: {actions: ["desk.*"]}
reads: [context.reason]
rules:
  - {id: opens, condition: "action == 'desk.open'", effect: ALLOW, message: {en: It may open., zh: 可。}}
  - id: large
    condition: "resource.properties.size > tables.desk.most"
    effect: REVIEW
    admits: false
    template: desk
    message: {en: Large., zh: 过大。}
    obligations: [{id: audit_trail, must: true, params: {}}]
  - {id: shut, condition: "has(resource.properties.shut)", effect: DENY, waivable: true, message: {en: Shut., zh: 已关。}}
  - {id: sealed, condition: "has(resource.properties.sealed)", effect: DENY, message: {en: Sealed., zh: 已封。}}
  - {id: burns, condition: "action == 'desk.burn'", effect: REVIEW, admits: false, message: {en: It burns., zh: 焚毁。}}
  - {id: lends, condition: "action == 'desk.lend'", effect: REVIEW, admits: true, message: {en: It lends., zh: 出借。}}
`

const deskTemplate = `title: {en: Something large, zh: 大件}
decide_by: 72h
grant_for: {default: 4h, ceiling: 24h}
all_of:
  - {title: {en: Tenant, zh: 租户}, role: admin, approvals: 1}
`

func deskFiles() files {
	return files{
		"tenants/acme/desk.policy.yaml": desk,
		"approvals/desk.yaml":           deskTemplate,
		"tables/desk.yaml":              "tenants:\n  acme: {most: 10}\n",
	}
}

// question is what li.wei asks at the desk, through the gateway.
func question(action string, properties object) object {
	return object{
		"tenant": "acme", "subject": object{"type": "user", "id": "li.wei"}, "action": action,
		"resource": object{"type": "desk", "id": "desk-1", "properties": properties}, "context": object{"reason": "work", "weather": "fine"},
	}
}

// changed returns the question with a member of the top, or of a member
// ("resource.id"), replaced.
func changed(question object, at string, value any) object {
	next := maps.Clone(question)
	if member, inner, nested := strings.Cut(at, "."); nested {
		part := maps.Clone(next[member].(object))
		part[inner] = value
		next[member] = part
	} else {
		next[at] = value
	}
	return next
}

// grant is the body that mints one for an hour; more replaces members, nil
// removes them.
func grant(request object, more object) string {
	body := object{
		"type": "DYNAMIC", "kind": "grant", "tenant": "acme", "request": request, "reason": "a test",
		"validity": object{"end": time.Now().Add(time.Hour).Format(time.RFC3339Nano)},
	}
	return encode(with(body, more))
}

func with(body, more object) object {
	for name, value := range more {
		if value == nil {
			delete(body, name)
		} else {
			body[name] = value
		}
	}
	return body
}

const dynamic = "/api/v1/policy/dynamic"

// mint mints a grant and returns its id.
func (s *server) mint(as string, request, more object) string {
	s.t.Helper()
	return s.must(http.StatusCreated, call{as: as, path: dynamic, body: grant(request, more)}).textAt("/id")
}

func satisfies(rules ...string) object { return object{"satisfies": rules} }

// effect expects the answer to a question.
func (s *server) effect(want string, request object) decision {
	s.t.Helper()
	d := s.decide("pep", request)
	if d.Effect != want {
		s.t.Errorf("%s, want %s: %+v", d.Effect, want, d.Reasons)
	}
	return d
}

func TestAReviewThatNobodyBacksIsADeny(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	burn := question("desk.burn", object{"size": 1})
	if d := s.effect("DENY", burn); !d.has("no_allow") || !d.has("tenants/acme/desk/burns") {
		t.Errorf("reasons %+v", d.Reasons)
	}
	boss := s.member("acme", "user:boss", "admin")
	id := s.mint(boss, burn, satisfies("tenants/acme/desk/burns"))
	d := s.effect("DENY", burn)
	if r, _ := d.reason("tenants/acme/desk/burns"); r.Grant != id || !d.has("no_allow") {
		t.Errorf("a grant satisfies the review and allows nothing: %+v", d.Reasons)
	}

	// One that admits is asked, and its yes allows.
	lend := question("desk.lend", object{"size": 1})
	s.effect("REVIEW", lend)
	s.mint(boss, lend, satisfies("tenants/acme/desk/lends"))
	s.effect("ALLOW", lend)
}

func TestAGrantCountsForItsBoundRequestOnly(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss := s.member("acme", "user:boss", "admin")
	open := question("desk.open", object{"size": 20, "colour": "red"})
	before := s.effect("REVIEW", open)
	if !before.obliges("audit_trail") {
		t.Errorf("a review states its obligations: %+v", before.Obligations)
	}
	id := s.mint(boss, open, satisfies("tenants/acme/desk/large"))
	after := s.effect("ALLOW", open)
	if r, _ := after.reason("tenants/acme/desk/large"); r.Effect != "REVIEW" || r.Grant != id {
		t.Errorf("a satisfied review stays in the answer, marked with the grant: %+v", after.Reasons)
	}
	if !after.obliges("audit_trail") {
		t.Errorf("a satisfied review keeps its obligations: %+v", after.Obligations)
	}

	for _, row := range []struct {
		name    string
		request object
		want    string
	}{
		{"a number written otherwise", changed(open, "resource.properties", json.RawMessage(`{"size": 2.0e1, "colour": "red"}`)), "ALLOW"},
		{"a context member that no policy reads", changed(open, "context.weather", "foul"), "ALLOW"},
		{"another size", changed(open, "resource.properties", object{"size": 21, "colour": "red"}), "REVIEW"},
		{"a property that no policy reads", changed(open, "resource.properties", object{"size": 20, "colour": "blue"}), "REVIEW"},
		{"a property more", changed(open, "resource.properties", object{"size": 20, "colour": "red", "x": nil}), "REVIEW"},
		{"another resource", changed(open, "resource.id", "desk-2"), "REVIEW"},
		{"another type of resource", changed(open, "resource.type", "table"), "REVIEW"},
		{"another subject", changed(open, "subject.id", "wang.fang"), "REVIEW"},
		{"another type of subject", changed(open, "subject.type", "agent"), "REVIEW"},
		{"an action with properties", changed(open, "action", object{"name": "desk.open", "properties": object{"soft": true}}), "REVIEW"},
		{"a context member that a policy reads", changed(open, "context.reason", "fun"), "REVIEW"},
		{"a context without it", changed(open, "context", object{"weather": "fine"}), "REVIEW"},
		{"beside a DENY", changed(open, "resource.properties", object{"size": 20, "colour": "red", "shut": true}), "DENY"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t) // evaluate opens no case, of which a subject may have few
			if d := s.decisionOf(s.do(call{as: "pep", path: "/api/v1/evaluate", body: encode(row.request)})); d.Effect != row.want {
				t.Errorf("%s, want %s: %+v", d.Effect, row.want, d.Reasons)
			}
		})
	}

	t.Run("revoked", func(t *testing.T) {
		s := s.in(t)
		s.must(http.StatusOK, call{as: boss, method: http.MethodDelete, path: dynamic + "/" + id + "?reason=over"})
		s.effect("REVIEW", open)
		if ended := s.must(http.StatusOK, call{as: boss, path: dynamic + "/" + id}); ended.textAt("/ended") == "" {
			t.Errorf("it does not say that it ended: %s", ended.text)
		}
	})
}

func TestAGrantWaivesOnlyWhatMayBeWaived(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss := s.member("acme", "user:boss", "admin")
	shut := question("desk.open", object{"size": 1, "shut": true})
	s.effect("DENY", shut)
	id := s.mint(boss, shut, object{"waives": []string{"tenants/acme/desk/shut"}})
	d := s.effect("ALLOW", shut)
	if r, _ := d.reason("tenants/acme/desk/shut"); r.Effect != "DENY" || r.Grant != id {
		t.Errorf("a waived DENY stays in the answer: %+v", d.Reasons)
	}
	s.effect("DENY", changed(shut, "resource.properties", object{"size": 1, "shut": true, "sealed": true}))
	s.effect("REVIEW", question("desk.open", object{"size": 11}))
}

func TestAGrantCountsWhileItIsValid(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss := s.member("acme", "user:boss", "admin")
	open := question("desk.open", object{"size": 20})
	begin := time.Now().Add(1500 * time.Millisecond)
	end := begin.Add(1500 * time.Millisecond)
	s.mint(boss, open, with(satisfies("tenants/acme/desk/large"), object{
		"validity": object{"start": begin.Format(time.RFC3339Nano), "end": end.Format(time.RFC3339Nano)},
	}))
	s.watch(open, "REVIEW", "ALLOW", begin)
	s.watch(open, "ALLOW", "REVIEW", end)
}

// watch asks until the answer changes, and checks that it did at the time that
// was announced, by the clock that the server shares with the test.
func (s *server) watch(request object, from, to string, at time.Time) {
	s.t.Helper()
	await(s.t, time.Until(at)+patience, "the answer "+to, func() bool {
		asked := time.Now()
		d := s.decide("pep", request)
		answered := time.Now()
		switch {
		case d.Effect != from && d.Effect != to:
			s.t.Fatalf("neither %s nor %s: %+v", from, to, d)
		case d.Effect == to && answered.Before(at):
			s.t.Fatalf("%s %s too early", to, at.Sub(answered))
		case d.Effect == from && asked.After(at):
			s.t.Fatalf("still %s, asked %s too late", from, asked.Sub(at))
		}
		return d.Effect == to
	})
}

// A grant names a rule as it was: when that changes, the grant is over, also
// when the rule becomes what it was.
func TestAGrantEndsForGoodWhenItsRuleChanges(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss := s.member("acme", "user:boss", "admin")
	open := question("desk.open", object{"size": 20})
	mint := func() string {
		t.Helper()
		id := s.mint(boss, open, satisfies("tenants/acme/desk/large"))
		s.effect("ALLOW", open)
		return id
	}

	id := mint()
	s.saved("tables/desk.yaml", "tenants:\n  acme: {most: 12}\n")
	s.effect("ALLOW", open) // a table is not the rule
	s.saved("tenants/acme/other.policy.yaml", "id: other\nname: Other\nscope: {actions: [other]}\nrules:\n  - {id: o, condition: 'true', effect: ALLOW, message: {en: o, zh: o}}\n")
	s.effect("ALLOW", open) // nor is another policy

	for _, row := range []struct{ name, path, old, new string }{
		{"the rule", "tenants/acme/desk.policy.yaml", desk, strings.Replace(desk, "size > tables", "size >= tables", 1)},
		{"another rule of its policy", "tenants/acme/desk.policy.yaml", desk, strings.Replace(desk, "It may open.", "It may.", 1)},
		{"its approval template", "approvals/desk.yaml", deskTemplate, deskTemplate + "# changed\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			s.saved(row.path, row.new)
			s.effect("REVIEW", open)
			s.saved(row.path, row.old)
			s.effect("REVIEW", open)
			if over := s.must(http.StatusOK, call{as: boss, path: dynamic + "/" + id}); !strings.Contains(over.textAt("/ended_reason"), "tenants/acme/desk/large changed") {
				t.Errorf("it does not say why it ended: %s", over.text)
			}
		})
		id = mint()
	}

	// Restoring an old release through the API brings no grant back either.
	old := s.release()
	s.saved("tenants/acme/desk.policy.yaml", strings.Replace(desk, "Large.", "Very large.", 1))
	s.must(http.StatusCreated, call{as: "admin", method: http.MethodPost, path: "/api/v1/releases/" + encode(old) + "/restore"})
	s.effect("REVIEW", open)
}

// saved saves a file and waits until the server has published it.
func (s *server) saved(path, text string) {
	s.t.Helper()
	// The list tells of a release a moment before the node answers by it.
	before := fmt.Sprintf("r%.0f.", s.release())
	s.save(path, text)
	await(s.t, patience, "answers by a new release", func() bool {
		return !strings.HasPrefix(s.decide("pep", question("probe", object{})).Revision, before)
	})
}

func TestUsesOfAGrantAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss := s.member("acme", "user:boss", "admin")
	gateway := s.member("acme", "service:side-door", "pep")
	open := question("desk.open", object{"size": 20})
	keyed := func(as, key string) string {
		t.Helper()
		return s.decisionOf(s.do(call{as: as, path: "/api/v1/decide", body: encode(open), header: map[string]string{"Idempotency-Key": key}})).Effect
	}
	large := func(uses int) object {
		return with(satisfies("tenants/acme/desk/large"), object{"uses": uses})
	}

	s.mint(boss, open, large(2))
	for range 3 { // what changes nothing uses nothing
		if d := s.decisionOf(s.do(call{as: "author", path: "/api/v1/evaluate", body: encode(open)})); d.Effect != "ALLOW" {
			t.Errorf("evaluate: %+v", d)
		}
	}
	got := []string{keyed("pep", "one"), keyed("pep", "one"), keyed("pep", "one"), keyed("pep", "two"), keyed("pep", "one"), keyed("pep", "three"), keyed("pep", "two")}
	if want := []string{"ALLOW", "ALLOW", "ALLOW", "ALLOW", "ALLOW", "REVIEW", "ALLOW"}; !slices.Equal(got, want) {
		t.Errorf("two uses, retries under the same key count once: got %v, want %v", got, want)
	}
	// A key is its caller's own: another's call under it is another use.
	if got := keyed(gateway, "one"); got != "REVIEW" {
		t.Errorf("somebody else's key: %s", got)
	}
	s.effect("REVIEW", open)
	if d := s.decisionOf(s.do(call{as: "author", path: "/api/v1/evaluate", body: encode(open)})); d.Effect != "REVIEW" {
		t.Errorf("evaluate by a spent grant: %+v", d)
	}

	// Without keys each ALLOW is a use; every door counts.
	s.mint(boss, open, large(3))
	s.effect("ALLOW", open)
	batch := s.must(http.StatusOK, call{as: "pep", path: "/api/v1/decide/batch", body: encode(object{"evaluations": []object{open}})})
	standard := s.must(http.StatusOK, call{as: "pep", path: "/access/v1/evaluation", body: encode(with(maps.Clone(open), object{"action": object{"name": "desk.open"}}))})
	if batch.at("/evaluations/0/decision") != true || standard.at("/decision") != true {
		t.Errorf("batch %s, AuthZEN %s", batch.text, standard.text)
	}
	s.effect("REVIEW", open)

	// A DENY beside it uses nothing, and one batch cannot use more than there is.
	s.mint(boss, open, large(2))
	s.effect("DENY", changed(open, "resource.properties", object{"size": 20, "sealed": true}))
	many := s.must(http.StatusOK, call{as: "pep", path: "/api/v1/decide/batch", body: encode(object{"evaluations": []object{open, open, open, open, open, open}})})
	allowed := 0
	for i := range 6 {
		if many.at("/evaluations/"+encode(i)+"/decision") == true {
			allowed++
		}
	}
	if allowed != 2 {
		t.Errorf("%d of a batch were allowed by a grant of two uses: %s", allowed, many.text)
	}
}

func TestARestrictionEndsAsAnnounced(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss := s.member("acme", "user:boss", "admin")
	open := question("desk.open", object{"size": 1})
	restrict := func(effect string, end time.Time) string {
		t.Helper()
		return s.must(http.StatusCreated, call{as: boss, path: dynamic, body: encode(object{
			"type": "DYNAMIC", "kind": "restriction", "tenant": "acme", "reason": "a test",
			"rules":    []object{{"id": "frozen", "condition": "action.startsWith('desk.') && resource.id == 'desk-1'", "effect": effect, "message": "Frozen."}},
			"validity": object{"end": end.Format(time.RFC3339Nano)},
		})}).textAt("/id")
	}

	s.effect("ALLOW", open)
	end := time.Now().Add(1500 * time.Millisecond)
	id := restrict("DENY", end)
	if d := s.effect("DENY", open); !d.has("dynamic/" + id + "/frozen") {
		t.Errorf("reasons %+v", d.Reasons)
	}
	s.effect("ALLOW", changed(open, "resource.id", "desk-2"))
	s.watch(open, "DENY", "ALLOW", end)

	id = restrict("REVIEW", time.Now().Add(time.Hour))
	s.effect("REVIEW", open)
	s.mint(boss, open, satisfies("dynamic/"+id+"/frozen"))
	if d := s.effect("ALLOW", open); !d.has("dynamic/" + id + "/frozen") {
		t.Errorf("a satisfied review leaves the answer: %+v", d.Reasons)
	}
	s.effect("REVIEW", changed(open, "subject.id", "somebody.else"))
	s.refused(call{as: boss, path: dynamic, body: grant(open, satisfies("dynamic/"+id+"/nothing"))}, http.StatusBadRequest)
	s.must(http.StatusOK, call{as: boss, method: http.MethodDelete, path: dynamic + "/" + id})
	s.effect("ALLOW", open)

	// One that cannot be evaluated closes.
	id = s.must(http.StatusCreated, call{as: boss, path: dynamic, body: encode(object{
		"type": "DYNAMIC", "kind": "restriction", "tenant": "acme", "reason": "a test",
		"rules":    []object{{"condition": "resource.properties.nowhere > 1", "effect": "DENY"}},
		"validity": object{"end": time.Now().Add(time.Hour).Format(time.RFC3339Nano)},
	})}).textAt("/id")
	if d := s.effect("DENY", open); !d.has("dynamic/" + id + "/evaluation_error") {
		t.Errorf("reasons %+v", d.Reasons)
	}
	s.must(http.StatusOK, call{as: boss, method: http.MethodDelete, path: dynamic + "/" + id})
	s.effect("ALLOW", open)
}
