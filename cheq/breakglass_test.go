package cheq

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// emergencyDesk lets "emergency" break the glass of "exposure".
func emergencyDesk(t *testing.T) (*desk, Ask) {
	t.Helper()
	tmpl, err := ParseTemplate("approvals/emergency.yaml", []byte(`title: {en: Emergency, zh: 紧急}
kind: break_glass
decide_by: 1h
grant_for: {default: 30m, ceiling: 1h}
review_within: 24h
notify: [{channel: feishu, to: "chat:oc_all"}]
all_of:
  - {title: {en: Security, zh: 安全}, role: security, approvals: 1}
`))
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	d.store.templates["emergency"], d.store.digests["emergency"] = tmpl, "sha256:e"
	exposure := *d.store.templates["exposure"]
	exposure.BreakGlass = "emergency"
	d.store.templates["exposure"] = &exposure
	a := ask("sha256:r")
	a.BreakGlass = "emergency"
	return d, a
}

func TestAnEmergencyIsConfirmedMarkedAndReviewed(t *testing.T) {
	d, a := emergencyDesk(t)
	c, _, err := d.Open(t.Context(), a)
	if err != nil || c.BreakGlass != "emergency" || c.Opens[0].Template != "emergency" || c.GrantFor != 30*time.Minute || len(c.Places) != 1 {
		t.Fatalf("%v: %+v", err, c)
	}
	if _, err := d.says(c.ID, "user:n", true); !errors.Is(err, ErrNotReviewer) {
		t.Errorf("a reviewer of the ordinary template: %v", err)
	}
	// Noted, too soon to be noted, too late for the first, counted.
	for _, step := range []struct {
		after time.Duration
		want  error
	}{{0, ErrConfirm}, {time.Second, ErrConfirm}, {confirmWithin + time.Second, ErrConfirm}, {confirmAfter, nil}} {
		d.now = d.now.Add(step.after)
		if c, err = d.says(c.ID, "user:s", true); !errors.Is(err, step.want) || (c.State == Approved) != (step.want == nil) {
			t.Fatalf("a yes after %s: %v, %s; want %v", step.after, err, c.State, step.want)
		}
	}
	if g := d.store.grants[c.Grant]; !g.BreakGlass || !g.Validity.End.Equal(d.now.Add(30*time.Minute)) {
		t.Errorf("minted %+v", g)
	}
	for who, want := range map[string]error{"user:s": ErrOwnReview, "user:me": ErrOwnReview, "user:n": ErrNotReviewer} {
		if _, err := d.Review(t.Context(), c.ID, of(who), "all was well"); !errors.Is(err, want) {
			t.Errorf("%s reviews: %v, want %v", who, err, want)
		}
	}
	sweep := func(at time.Time) {
		t.Helper()
		d.now = at
		if _, err := d.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		c = d.store.cases[c.ID]
	}
	sweep(c.GrantEnd)
	if c.Yield != Ended || c.Overdue || !c.Due.Equal(c.ReviewBy) {
		t.Errorf("after its grant: %s, overdue %t, due %s", c.Yield, c.Overdue, c.Due)
	}
	sweep(c.ReviewBy)
	if !c.Overdue || !c.Due.IsZero() {
		t.Errorf("after its review was due: overdue %t, due %s", c.Overdue, c.Due)
	}
	if c, err = d.Review(t.Context(), c.ID, of("user:t"), "all was well"); err != nil || c.Reviewed == nil || c.Reviewed.By != of("user:t") {
		t.Errorf("%v, %+v", err, c.Reviewed)
	}
	if _, err := d.Review(t.Context(), c.ID, of("user:t"), "again"); !errors.Is(err, ErrNoReview) {
		t.Errorf("reviewed twice: %v", err)
	}
	var actions []string
	for _, e := range d.store.events[c.ID] {
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, " "); got != "open vote.confirm vote.confirm vote.approve approved grant.expire review.overdue review" {
		t.Errorf("the timeline is %s", got)
	}
}

func TestTheGlassBreaksOnlyWhereATemplateLetsIt(t *testing.T) {
	d, a := emergencyDesk(t)
	var refused *NotAskableError
	no := a
	no.Reason = " "
	if _, _, err := d.Open(t.Context(), no); !errors.As(err, &refused) || !strings.Contains(err.Error(), "reason") {
		t.Errorf("without a reason: %v", err)
	}
	no = a
	no.BreakGlass = "exposure"
	if _, _, err := d.Open(t.Context(), no); !errors.As(err, &refused) {
		t.Errorf("by a template that does not let it: %v", err)
	}
	direct := ask("sha256:r")
	direct.Opens[0].Template = "emergency"
	if _, _, err := d.Open(t.Context(), direct); !errors.As(err, &refused) {
		t.Errorf("an emergency that nobody named: %v", err)
	}
	ordinary, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	c, joined, err := d.Open(t.Context(), a)
	if err != nil || joined || c.ID == ordinary.ID || d.store.cases[ordinary.ID].State != Cancelled {
		t.Errorf("the emergency joined what was asked before: %t, %v", joined, err)
	}
	if again, joined, err := d.Open(t.Context(), ask("sha256:r")); err != nil || !joined || again.ID != c.ID {
		t.Errorf("what is asked again in an emergency is not the emergency's: %t, %v", joined, err)
	}
}
