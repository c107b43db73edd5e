package pdp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

var testNow = time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)

// world is one random question: what every policy says, and which grants are
// there. It is what combine reads.
type world struct {
	outcomes []Outcome
	grants   []*authz.Grant
	digest   bundles.Digest
}

func (w *world) combine(outcomes []Outcome, grants []*authz.Grant) authz.Decision {
	return w.combineAt(outcomes, grants, testNow)
}

func (w *world) combineAt(outcomes []Outcome, grants []*authz.Grant, now time.Time) authz.Decision {
	req := &authz.Request{Tenant: "acme"}
	q := &question{digest: w.digest}
	q.digestOnce.Do(func() {})
	c := combination{
		question: q,
		in:       &Input{Request: req, Value: req.Value(), Now: now}, outcomes: outcomes,
		// The index is built while every grant still lives, so that it is the
		// decision's own clock that ends them.
		dynamic:     new(Dynamic).With(DynamicChange{Grants: grants}, testNow.Add(-24*time.Hour)),
		obligations: &obligationSchema{orders: map[string]map[string]string{"retention": {"days": "max"}}},
		messages:    &filling{},
	}
	return c.combine().Decision
}

func drawWorld(t *rapid.T) *world {
	w := &world{digest: bundles.Digest{7}}
	var names []string
	var digests []bundles.Digest
	for i := range rapid.IntRange(0, 3).Draw(t, "policies") {
		p := &Policy{ID: fmt.Sprintf("platform/p%d", i), File: "f", Scope: Scope{BusinessSystem: rapid.SampledFrom([]string{"", "", "tianshu"}).Draw(t, "system")}}
		o := Outcome{Policy: p}
		if rapid.IntRange(0, 19).Draw(t, "fails") == 0 {
			o.Err = &EvaluationError{Cause: CausePolicyError, Message: "broken"}
		}
		for j := range rapid.IntRange(0, 3).Draw(t, "findings") {
			r := &Rule{ID: fmt.Sprintf("r%d", j), Digest: bundles.Digest{byte(i), byte(j), 1},
				Kind:     rapid.SampledFrom([]RuleKind{KindDeny, KindReview, KindAllow}).Draw(t, "kind"),
				Waivable: rapid.Bool().Draw(t, "waivable"), Admits: rapid.Bool().Draw(t, "admits")}
			p.Rules = append(p.Rules, r)
			o.Findings = append(o.Findings, Finding{Rule: r, Path: rapid.SampledFrom([]string{"", "/resource/id"}).Draw(t, "path")})
			names, digests = append(names, p.ID+"/"+r.ID), append(digests, r.Digest)
		}
		if rapid.IntRange(0, 3).Draw(t, "obliges") == 0 {
			days, _ := authz.IntValue(rapid.Int64Range(1, 3).Draw(t, "days"))
			params, _ := authz.ObjectValue(authz.Member{Name: "days", Value: days})
			id := rapid.SampledFrom([]string{"retention", "notify"}).Draw(t, "obligation")
			o.Obligations = append(o.Obligations, authz.Obligation{Policy: p.ID, Rule: "o", ID: id, Must: rapid.Bool().Draw(t, "must"), Params: params})
		}
		if rapid.IntRange(0, 5).Draw(t, "routes") == 0 {
			o.Routes = append(o.Routes, authz.Route{Policy: p.ID, Rule: "t", Pool: rapid.SampledFrom([]string{"a", "a", "a", "b"}).Draw(t, "pool")})
		}
		w.outcomes = append(w.outcomes, o)
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "grants") {
		if len(names) == 0 {
			break
		}
		w.grants = append(w.grants, drawGrant(t, i, names, digests))
	}
	return w
}

func drawGrant(t *rapid.T, i int, names []string, digests []bundles.Digest) *authz.Grant {
	g := &authz.Grant{ID: fmt.Sprintf("grt-%d", i), Tenant: "acme", Requests: []string{bundles.Digest{7}.String()},
		Validity: authz.Validity{Start: testNow.Add(-time.Hour), End: testNow.Add(time.Hour)}}
	for range rapid.IntRange(1, 3).Draw(t, "refs") {
		k := rapid.IntRange(0, len(names)-1).Draw(t, "rule")
		ref := authz.RuleRef{Rule: names[k], Digest: digests[k].String()}
		if rapid.IntRange(0, 5).Draw(t, "changed") == 0 {
			ref.Digest = bundles.Digest{99}.String()
		}
		if rapid.Bool().Draw(t, "waives") {
			g.Waives = append(g.Waives, ref)
		} else {
			g.Satisfies = append(g.Satisfies, ref)
		}
	}
	switch rapid.IntRange(0, 5).Draw(t, "flaw") {
	case 0:
		g.Requests = []string{bundles.Digest{8}.String()}
	case 1:
		g.Validity.End = testNow // half-open: over at this instant
	case 2:
		g.Validity.Start = testNow.Add(time.Minute)
	}
	return g
}

// expected is docs/semantics.md as predicates over the whole world, sharing nothing
// with combine.
func (w *world) expected() authz.Effect {
	opens := func(o Outcome, r *Rule, refs func(*authz.Grant) []authz.RuleRef) bool {
		return slices.ContainsFunc(w.grants, func(g *authz.Grant) bool {
			return slices.Contains(refs(g), authz.RuleRef{Rule: o.Policy.ID + "/" + r.ID, Digest: r.Digest.String()}) &&
				slices.Contains(g.Requests, w.digest.String()) && !testNow.Before(g.Validity.Start) && testNow.Before(g.Validity.End)
		})
	}
	satisfies := func(g *authz.Grant) []authz.RuleRef { return g.Satisfies }
	waives := func(g *authz.Grant) []authz.RuleRef { return g.Waives }
	any := func(holds func(Outcome, *Rule) bool) bool {
		return slices.ContainsFunc(w.outcomes, func(o Outcome) bool {
			return slices.ContainsFunc(o.Findings, func(f Finding) bool { return holds(o, f.Rule) })
		})
	}
	failed := slices.ContainsFunc(w.outcomes, func(o Outcome) bool { return o.Err != nil })
	denied := any(func(o Outcome, r *Rule) bool { return r.Kind == KindDeny && !(r.Waivable && opens(o, r, waives)) })
	allowed := any(func(o Outcome, r *Rule) bool { return r.Kind == KindAllow && o.Policy.Scope.BusinessSystem == "" })
	admitting := any(func(_ Outcome, r *Rule) bool { return r.Kind == KindReview && r.Admits })
	pending := any(func(o Outcome, r *Rule) bool { return r.Kind == KindReview && !opens(o, r, satisfies) })
	switch {
	case failed || denied || w.conflict() || !allowed && !admitting:
		return authz.Deny
	case pending:
		return authz.Review
	default:
		return authz.Allow
	}
}

func (w *world) conflict() bool {
	pools := map[string]bool{}
	notify := map[int64]bool{} // retention is ordered, so only notify can conflict
	for _, o := range w.outcomes {
		for _, r := range o.Routes {
			pools[r.Pool] = true
		}
		for _, ob := range o.Obligations {
			if days, _ := ob.Params.Get("days"); ob.ID == "notify" {
				notify[days.Int()] = true
			}
		}
	}
	return len(pools) > 1 || len(notify) > 1
}

func TestFindingsCombineAsTheNumberedRulesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		if got, want := w.combine(w.outcomes, w.grants).Effect, w.expected(); got != want {
			t.Fatalf("effect %s, want %s", got, want)
		}
	})
}

func TestOrderOfPoliciesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		want, _ := w.combine(w.outcomes, w.grants).MarshalJSON()
		shuffled := slices.Clone(w.outcomes)
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, seed)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got, _ := w.combine(shuffled, w.grants).MarshalJSON()
		if string(got) != string(want) {
			t.Fatalf("in another order:\n%s\nbefore:\n%s", got, want)
		}
	})
}

func TestAddingADenyNeverOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		more := slices.Clone(w.outcomes)
		p := &Policy{ID: "tenants/acme/extra"}
		more = append(more, Outcome{Policy: p, Findings: []Finding{{Rule: &Rule{ID: "no", Kind: KindDeny}}}})
		if d := w.combine(more, w.grants); d.Allowed() {
			t.Fatal("allowed in spite of a DENY that nothing waives")
		}
	})
}

func TestLosingAGrantNeverOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		if len(w.grants) == 0 || w.combine(w.outcomes, w.grants).Allowed() {
			t.Skip("nothing to lose, or open already")
		}
		i := rapid.IntRange(0, len(w.grants)-1).Draw(t, "lost")
		lost := slices.Clone(w.grants)
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			lost = slices.Delete(lost, i, i+1)
		case 1:
			expired := *lost[i]
			expired.Validity.End = testNow
			lost[i] = &expired
		default:
			revoked := *lost[i]
			revoked.Ended = &testNow
			lost[i] = &revoked
		}
		if w.combine(w.outcomes, lost).Allowed() {
			t.Fatalf("allowed without grant %s, not with it", w.grants[i].ID)
		}
	})
}

func TestSatisfiedReviewAndWaivedDenyStayInTheAnswerWithTheirObligations(t *testing.T) {
	review := &Rule{ID: "ask", Kind: KindReview, Digest: bundles.Digest{1}}
	deny := &Rule{ID: "no", Kind: KindDeny, Waivable: true, Digest: bundles.Digest{2}}
	allow := &Rule{ID: "yes", Kind: KindAllow}
	p := &Policy{ID: "platform/p"}
	w := &world{digest: bundles.Digest{7}}
	outcomes := []Outcome{{Policy: p, Findings: []Finding{{Rule: review}, {Rule: deny}, {Rule: allow}},
		Obligations: []authz.Obligation{{Policy: p.ID, Rule: "ask", ID: "encrypt_at_rest", Must: true}}}}
	g := &authz.Grant{ID: "grt-1", Tenant: "acme", Requests: []string{w.digest.String()},
		Validity:  authz.Validity{Start: testNow, End: testNow.Add(time.Hour)},
		Satisfies: []authz.RuleRef{{Rule: "platform/p/ask", Digest: review.Digest.String()}},
		Waives:    []authz.RuleRef{{Rule: "platform/p/no", Digest: deny.Digest.String()}}}
	d := w.combine(outcomes, []*authz.Grant{g})
	if d.Effect != authz.Allow || len(d.Reasons) != 3 || len(d.Obligations) != 1 {
		t.Fatalf("effect %s with %d reasons and %d obligations, want ALLOW with 3 and 1", d.Effect, len(d.Reasons), len(d.Obligations))
	}
	for _, r := range d.Reasons[:2] {
		if r.Grant != "grt-1" {
			t.Errorf("reason %s is not marked with the grant", r.Rule)
		}
	}
	if d := w.combineAt(outcomes, []*authz.Grant{g}, g.Validity.End); d.Effect != authz.Deny {
		t.Errorf("effect %s at the grant's end, want DENY", d.Effect)
	}
}

func TestGrantOpensOnlyWhatItNames(t *testing.T) {
	grant := func(change func(*authz.Grant)) *authz.Grant {
		g := &authz.Grant{ID: "grt-1", Tenant: "acme", Requests: []string{bundles.Digest{7}.String()},
			Validity: authz.Validity{Start: testNow.Add(-time.Hour), End: testNow.Add(time.Hour)},
			Waives:   []authz.RuleRef{{Rule: "platform/p/no", Digest: bundles.Digest{1}.String()}}}
		change(g)
		return g
	}
	for name, c := range map[string]struct {
		waivable bool
		grant    *authz.Grant
		want     authz.Effect
	}{
		"a waivable DENY that it names": {true, grant(func(*authz.Grant) {}), authz.Allow},
		"a DENY that is not waivable":   {false, grant(func(*authz.Grant) {}), authz.Deny},
		"another rule digest":           {true, grant(func(g *authz.Grant) { g.Waives[0].Digest = bundles.Digest{2}.String() }), authz.Deny},
		"another request":               {true, grant(func(g *authz.Grant) { g.Requests[0] = bundles.Digest{8}.String() }), authz.Deny},
		"another tenant":                {true, grant(func(g *authz.Grant) { g.Tenant = "globex" }), authz.Deny},
		"satisfying is not waiving":     {true, grant(func(g *authz.Grant) { g.Satisfies, g.Waives = g.Waives, nil }), authz.Deny},
		"before its start":              {true, grant(func(g *authz.Grant) { g.Validity.Start = testNow.Add(1) }), authz.Deny},
		"at its end":                    {true, grant(func(g *authz.Grant) { g.Validity.End = testNow }), authz.Deny},
		"revoked":                       {true, grant(func(g *authz.Grant) { g.Ended = &testNow }), authz.Deny},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{digest: bundles.Digest{7}}
			p := &Policy{ID: "platform/p"}
			outcomes := []Outcome{{Policy: p, Findings: []Finding{
				{Rule: &Rule{ID: "no", Kind: KindDeny, Waivable: c.waivable, Digest: bundles.Digest{1}}}, {Rule: &Rule{ID: "yes", Kind: KindAllow}},
			}}}
			if got := w.combine(outcomes, []*authz.Grant{c.grant}).Effect; got != c.want {
				t.Errorf("effect %s, want %s", got, c.want)
			}
		})
	}
}

func TestPolicyOfAnUnnamedBusinessSystemClosesButDoesNotOpen(t *testing.T) {
	w := &world{}
	p := &Policy{ID: "platform/p", Scope: Scope{BusinessSystem: "tianshu"}}
	if d := w.combine([]Outcome{{Policy: p, Findings: []Finding{{Rule: &Rule{ID: "yes", Kind: KindAllow}}}}}, nil); d.Allowed() {
		t.Error("an ALLOW scoped to a business system opened a request that names none")
	}
}

func TestReviewThatNoAllowBacksIsDeniedAsNoAllow(t *testing.T) {
	w := &world{}
	outcomes := []Outcome{{Policy: &Policy{ID: "platform/p"}, Findings: []Finding{{Rule: &Rule{ID: "ask", Kind: KindReview}}}}}
	d := w.combine(outcomes, nil)
	if d.Effect != authz.Deny || !slices.ContainsFunc(d.Reasons, func(r authz.Reason) bool { return r.Rule == authz.RuleNoAllow }) {
		t.Fatalf("effect %s with reasons %v, want DENY with no_allow", d.Effect, d.Reasons)
	}
}

func TestOrderedObligationsCombineToTheStricter(t *testing.T) {
	w := &world{}
	retention := func(policy string, days int64) Outcome {
		v, _ := authz.IntValue(days)
		params, _ := authz.ObjectValue(authz.Member{Name: "days", Value: v})
		return Outcome{Policy: &Policy{ID: policy}, Obligations: []authz.Obligation{{Policy: policy, ID: "retention", Params: params}}}
	}
	d := w.combine([]Outcome{retention("platform/a", 30), retention("platform/b", 365), retention("platform/c", 7)}, nil)
	if days, _ := d.Obligations[0].Params.Get("days"); len(d.Obligations) != 1 || days.Int() != 365 {
		t.Fatalf("obligations %v, want one retention of 365 days", d.Obligations)
	}
}

func TestMessagesCannotBeRewrittenByTheRequest(t *testing.T) {
	args := authz.MustValue(map[string]any{"name": "a\u202eb\nc", "n": 7})
	if got, want := fillText("{name} {n} {missing} {", args, authz.Value{}), "abc 7 ? {"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
