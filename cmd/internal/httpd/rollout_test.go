package httpd

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

var (
	canary = pap.Selector{Labels: map[string]string{"ring": "canary"}}
	early  = pap.Selector{IDs: []string{"e1"}}
)

func (s *site) step(n *pap.Service) {
	s.t.Helper()
	s.must(n.StepRollout(s.t.Context()))
}

func (s *site) isAt(number uint64, stage int, state pap.RolloutState) {
	s.t.Helper()
	if r := s.rollout(number); r.Stage != stage || r.State != state {
		s.t.Fatalf("rollout of %d is %s at stage %d (%s), want %s at %d", number, r.State, r.Stage, r.Reason, state, stage)
	}
}

func TestARolloutGoesOnWhenEveryPEPOfItsStageHasAcknowledged(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		c1 := s.pep("acme", "c1", 2, canary.Labels)
		c2 := s.pep("", "c2", 2, canary.Labels)
		e1 := s.pep("acme", "e1", 2, nil)
		gone := s.pep("acme", "gone", 2, canary.Labels)
		gone.Connected = false
		lost := s.pep("acme", "lost", 2, canary.Labels)
		lost.SeenAt = s.now().Add(-time.Minute)
		s.seen(c1, c2, e1, gone, lost)
		if r := s.publish([]pap.Selector{canary, early}); r.Number != 3 {
			t.Fatalf("release %d", r.Number)
		}
		n := s.nodes[0]
		s.step(n)
		s.isAt(3, 0, pap.RolloutRunning)
		r := s.rollout(3)
		if got := []uint64{r.Target(3, "c1", canary.Labels), r.Target(3, "e1", nil), r.NodeTarget(3)}; got[0] != 3 || got[1] != 2 || got[2] != 2 {
			t.Errorf("targets %d", got)
		}
		s.acks(c1, 3)
		s.step(n)
		s.isAt(3, 0, pap.RolloutRunning)
		if p := s.rollout(3).Progress; p[0] != (pap.StageProgress{Connected: 2, Holding: 1}) {
			t.Errorf("progress %+v", p)
		}
		s.acks(c2, 3)
		s.step(n)
		s.isAt(3, 1, pap.RolloutRunning)
		s.acks(e1, 3)
		s.step(n)
		s.isAt(3, 1, pap.RolloutDone)
		r = s.rollout(3)
		if got := r.Target(3, "other", nil); got != 3 {
			t.Errorf("after the last stage others should hold %d", got)
		}
		for _, action := range []string{"rollout.advance", "rollout.done"} {
			trail := s.trail(action, "release:3")
			if len(trail) != 1 || trail[0].Actor != pap.RolloutActor {
				t.Errorf("%s: %+v", action, trail)
			}
		}
		s.step(n) // there is nothing left to do
		s.publish(nil)
	})
}

func TestAStageThatSelectsNobodyLastsItsLeastTime(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		_, err := s.tryPublish(admin.LocalActor(), pap.Publication{Stages: []pap.Selector{canary, early}, MinStage: time.Hour})
		s.must(err)
		s.step(s.nodes[0])
		s.isAt(3, 0, pap.RolloutRunning)
		s.ahead.Add(int64(time.Hour))
		s.step(s.nodes[0])
		s.isAt(3, 1, pap.RolloutRunning)
		s.step(s.nodes[0]) // this stage has just begun
		s.isAt(3, 1, pap.RolloutRunning)
		s.ahead.Add(int64(time.Hour))
		s.step(s.nodes[0])
		s.isAt(3, 1, pap.RolloutDone)
	})
}

func TestARejectionHaltsARolloutAndRestoresWhatWasBeforeOnce(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		for range 3 {
			s.node()
		}
		c1 := s.pep("acme", "c1", 2, canary.Labels)
		other := s.pep("acme", "other", 2, nil)
		s.seen(c1, other)
		before := s.publish([]pap.Selector{canary, early})
		s.rejects(other, 3, "was never sent to it")
		s.step(s.nodes[0])
		s.isAt(3, 0, pap.RolloutRunning)
		s.rejects(c1, 3, "cannot compile\x00"+strings.Repeat("x", 1<<16))
		s.together(func(n *pap.Service) { s.step(n) })

		s.isAt(3, 0, pap.RolloutHalted)
		r := s.rollout(3)
		if !strings.HasPrefix(r.Reason, "PEP acme/service:shop/c1 rejected it: cannot compile") || len(r.Reason) > 2048 {
			t.Errorf("reason %q", r.Reason)
		}
		if head := s.head().Release; head != 4 {
			t.Fatalf("head is release %d", head)
		}
		restored, err := s.nodes[0].Release(t.Context(), admin.LocalActor(), 4)
		s.must(err)
		base, err := s.nodes[0].Release(t.Context(), admin.LocalActor(), 2)
		s.must(err)
		if restored.Restores != 2 || restored.Author != pap.RolloutActor || restored.Digest != base.Digest || restored.Digest == before.Digest {
			t.Errorf("restored %+v", restored)
		}
		for _, id := range []string{"c1", "other"} {
			if got := r.Target(4, id, canary.Labels); got != 4 {
				t.Errorf("%s should hold %d", id, got)
			}
		}
		if halts, releases := s.trail("rollout.halt", "release:3"), s.trail("release.publish", "release:4"); len(halts) != 1 || len(releases) != 1 || releases[0].Actor != pap.RolloutActor {
			t.Errorf("audit trail: %+v %+v", halts, releases)
		}
		if drafts, err := s.nodes[0].Documents(t.Context(), admin.LocalActor(), pap.DocumentFilter{OnlyDrafts: true}, "", 10); err != nil || len(drafts.Items) != 0 {
			t.Errorf("drafts after: %v %v", drafts.Items, err)
		}
		s.publish(nil) // nothing is in the way of the next
	})
}

// together lets every node do the same at once.
func (s *site) together(do func(n *pap.Service)) {
	var running sync.WaitGroup
	for _, n := range s.nodes {
		running.Go(func() { do(n) })
	}
	running.Wait()
}

func TestNodesThatStepTogetherTakeEachStageOnce(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		for range 3 {
			s.node()
		}
		stages := []pap.Selector{canary, early, {IDs: []string{"e2"}}, {IDs: []string{"e3"}}}
		s.publish(stages)
		for range 2 * len(stages) {
			s.together(func(n *pap.Service) { s.step(n) })
		}
		s.isAt(3, 3, pap.RolloutDone)
		if advanced, done := s.trail("rollout.advance", "release:3"), s.trail("rollout.done", "release:3"); len(advanced) != 3 || len(done) != 1 {
			t.Errorf("advanced %d times, done %d times", len(advanced), len(done))
		}
	})
}

func TestAPEPThatTookTheReleaseAfterARejectionHaltsNothing(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		c1 := s.pep("acme", "c1", 2, canary.Labels)
		s.seen(c1)
		s.publish([]pap.Selector{canary})
		c1.Rejected = &pap.Rejection{Release: 3, Reason: "not yet"}
		s.acks(c1, 3)
		s.step(s.nodes[0])
		s.isAt(3, 0, pap.RolloutDone)
	})
}

func TestOneRolloutAtATimeAndRestoringEndsIt(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		s.seen(s.pep("acme", "c1", 2, canary.Labels))
		s.publish([]pap.Selector{canary})
		for name, p := range map[string]pap.Publication{"plain": {}, "in stages": {Stages: []pap.Selector{early}}} {
			if _, err := s.tryPublish(admin.LocalActor(), p); !errors.Is(err, pap.ErrRolloutInProgress) {
				t.Errorf("%s: %v", name, err)
			}
		}
		r, _, err := s.nodes[0].Restore(t.Context(), admin.LocalActor(), 1)
		s.must(err)
		s.isAt(3, 0, pap.RolloutHalted)
		if r.Number != 4 || r.Restores != 1 {
			t.Errorf("restored %+v", r)
		}
		s.step(s.nodes[0]) // it must not take back what was restored
		if head := s.head().Release; head != 4 {
			t.Errorf("head is release %d", head)
		}
	})
}

func TestARolloutIsAbortedAndAdvancedByHandByThePlatform(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		n := s.nodes[0]
		s.seen(s.pep("acme", "c1", 2, canary.Labels), s.pep("acme", "e1", 2, nil))
		tenant := tenantActor("acme", "user:boss")
		if _, err := s.tryPublish(tenant, pap.Publication{Stages: []pap.Selector{canary}}); !errors.Is(err, pap.ErrForbidden) {
			t.Errorf("a tenant's rollout: %v", err)
		}
		s.publish([]pap.Selector{canary, early})
		if _, err := n.AbortRollout(t.Context(), tenant, 3, ""); !errors.Is(err, pap.ErrForbidden) {
			t.Errorf("a tenant's abort: %v", err)
		}
		if _, err := n.AdvanceRollout(t.Context(), admin.LocalActor(), 2); !errors.Is(err, pap.ErrNoRollout) {
			t.Errorf("another release: %v", err)
		}
		_, err := n.AdvanceRollout(t.Context(), admin.LocalActor(), 3)
		s.must(err)
		s.isAt(3, 1, pap.RolloutRunning)
		revision, err := n.AbortRollout(t.Context(), admin.LocalActor(), 3, "wrong table")
		s.must(err)
		s.isAt(3, 1, pap.RolloutHalted)
		if r := s.rollout(3); revision.Release != 4 || r.Reason != "aborted by "+admin.LocalActor().Name+": wrong table" {
			t.Errorf("%s, %q", revision, r.Reason)
		}
		if _, err := n.AbortRollout(t.Context(), admin.LocalActor(), 3, ""); !errors.Is(err, pap.ErrNoRollout) {
			t.Errorf("again: %v", err)
		}
	})
}

func TestStagesThatSelectNobodyInParticularAreRefused(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		for name, p := range map[string]pap.Publication{
			"an empty stage":       {Stages: []pap.Selector{{}}},
			"too many":             {Stages: make([]pap.Selector, 17)},
			"an empty id":          {Stages: []pap.Selector{{IDs: []string{""}}}},
			"a long label":         {Stages: []pap.Selector{{Labels: map[string]string{"a": strings.Repeat("x", 257)}}}},
			"a label with U+0000":  {Stages: []pap.Selector{{Labels: map[string]string{"a": "\x00"}}}},
			"a stage of two days":  {Stages: []pap.Selector{canary}, MinStage: 48 * time.Hour},
			"a stage of less than": {Stages: []pap.Selector{canary}, MinStage: -time.Second},
		} {
			if _, err := s.tryPublish(admin.LocalActor(), p); !errors.As(err, new(*authz.FieldError)) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestGrantsAreMintedDuringARolloutAndEndWithTheRuleTheyName(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		n := s.nodes[0]
		publish := func(name string, stages []pap.Selector) {
			t.Helper()
			const path = "tenants/acme/asks.policy.json"
			version := int64(0)
			if doc, err := n.Document(t.Context(), admin.LocalActor(), path); err == nil {
				version = doc.Version
			}
			text := `{"id":"asks","name":"` + name + `","rules":[{"id":"ask","condition":"action == 'ask'","effect":"REVIEW","message":{"en":"Ask.","zh":"请问。"}}]}`
			_, err := n.PutDocument(t.Context(), admin.LocalActor(), path, []byte(text), version)
			s.must(err)
			_, _, err = n.Publish(t.Context(), admin.LocalActor(), pap.Publication{Drafts: []string{path}, Stages: stages})
			s.must(err)
		}
		ended := func(g authz.Grant) bool {
			t.Helper()
			page, err := n.Grants(t.Context(), admin.LocalActor(), "acme", "", 10)
			s.must(err)
			for _, stored := range page.Items {
				if stored.ID == g.ID {
					return stored.Ended != nil
				}
			}
			t.Fatal("the grant is not there")
			return false
		}
		publish("one", nil)                    // release 3
		publish("two", []pap.Selector{canary}) // release 4
		g := s.mint("tenants/acme/asks/ask", "ask")
		if ended(g) {
			t.Error("the grant ended before the rule it names did")
		}
		s.step(n)
		s.isAt(4, 0, pap.RolloutDone)
		if !ended(g) {
			t.Error("a grant for a rule that changed outlives the rollout")
		}
	})
}

// Ids and labels are what a PEP says of itself: whoever has a PEP's token may
// call itself by a stage's.
func TestOnlyPEPsWhoseCredentialsSpeakForAStageHoldOrHaltIt(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		n := s.nodes[0]
		stranger := s.pep("globex", "stranger", 2, canary.Labels) // acme's part changes
		opa := s.pep("", "opa", 2, canary.Labels)
		opa.Kind = pap.KindOPA // keeps the base
		own, platform := s.pep("acme", "own", 2, canary.Labels), s.pep("", "gw", 2, canary.Labels)
		s.seen(stranger, opa, own, platform)
		s.publish([]pap.Selector{canary})
		s.rejects(stranger, 3, "I do not like it")
		s.step(n)
		s.isAt(3, 0, pap.RolloutRunning)
		if p := s.rollout(3).Progress[0]; p != (pap.StageProgress{Connected: 2}) {
			t.Errorf("progress %+v", p)
		}
		if p, err := n.PEP(t.Context(), admin.LocalActor(), "stranger"); err != nil || p.Rejected == nil || p.Rejected.Reason != "I do not like it" {
			t.Errorf("it is not shown: %+v, %v", p, err)
		}
		s.acks(own, 3)
		s.step(n)
		s.isAt(3, 0, pap.RolloutRunning) // the platform's own is waited for
		s.acks(platform, 3)
		s.step(n)
		s.isAt(3, 0, pap.RolloutDone)
	})
}

func TestARejectionOfWhatWasNeverSentHaltsNothing(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		n := s.nodes[0]
		p := s.pep("acme", "own", 2, canary.Labels)
		s.seen(p)
		s.publish([]pap.Selector{canary})
		p.Rejected = &pap.Rejection{Release: 3, Reason: "guessed"}
		p.Offered = 2
		s.seen(p)
		s.step(n)
		s.isAt(3, 0, pap.RolloutRunning)
		p.Offered = 3
		s.seen(p)
		p.Offered = 0 // another node, which did not send it
		s.seen(p)
		s.step(n)
		s.isAt(3, 0, pap.RolloutHalted)
	})
}

func TestARolloutNamesTenantsWhoseOwnPEPsCount(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		p := s.pep("globex", "g", 2, canary.Labels)
		s.seen(p)
		for name, wrong := range map[string]pap.Publication{
			"none such":       {Stages: []pap.Selector{canary}, Tenants: []string{"hooli"}},
			"no tenant":       {Stages: []pap.Selector{canary}, Tenants: []string{""}},
			"without a stage": {Tenants: []string{"globex"}},
		} {
			if _, err := s.tryPublish(admin.LocalActor(), wrong); !errors.As(err, new(*authz.FieldError)) {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := s.tryPublish(admin.LocalActor(), pap.Publication{Stages: []pap.Selector{canary}, Tenants: []string{"globex"}})
		s.must(err)
		if r := s.rollout(3); len(r.Tenants) != 2 || !r.Speaks("acme") || !r.Speaks("globex") || !r.Speaks("") || r.Speaks("hooli") {
			t.Errorf("who speaks: %q", r.Tenants)
		}
		s.rejects(p, 3, "bad")
		s.step(s.nodes[0])
		s.isAt(3, 0, pap.RolloutHalted)
	})
}
