package cheq

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// approved opens a case and says yes to it.
func (d *desk) approved(t *testing.T, digest string) Case {
	t.Helper()
	c, _, err := d.Open(t.Context(), ask(digest))
	for _, voter := range []string{"user:n", "user:s", "user:t"} {
		if err == nil {
			c, err = d.says(c.ID, voter, true)
		}
	}
	if err != nil || c.State != Approved {
		t.Fatalf("the case is %s, %v", c.State, err)
	}
	return c
}

func TestALookTellsHowFarGroupsAreAndWhoLooks(t *testing.T) {
	d := newDesk(t)
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	for voter, yes := range map[string]bool{"user:s": true, "user:n": false} {
		if voter == "user:n" {
			d.store.templates["exposure"].AllOf[0].Denials = 2
		}
		if _, err := d.says(c.ID, voter, yes); err != nil {
			t.Fatal(err)
		}
	}
	v, of1, err := d.Look(t.Context(), c.ID, of("user:t"))
	if err != nil || v.Title.ZH != "暴露" || len(v.Events) != 3 || len(v.Groups) != 2 || of1 != (Standing{Reviewer: true}) {
		t.Fatalf("%+v as %+v, %v", v, of1, err)
	}
	if g := v.Groups; g[0].Title.EN != "Network" || g[0].Yes != 0 || g[0].No != 1 || g[1].Yes != 1 || g[1].Approvals != 2 || g[1].Any {
		t.Errorf("groups: %+v", g)
	}
	for who, want := range map[Person]Standing{
		of("user:me"):         {Asker: true}, // who has a reviewer's roles, too
		of("service:shop"):    {Asker: true},
		of("user:x"):          {},
		{"", "user:me"}:       {},
		{"globex", "user:s"}:  {},
		{"globex", "user:me"}: {},
	} {
		if _, got, err := d.Standing(t.Context(), c.ID, who); err != nil || got != want {
			t.Errorf("%+v is %+v, want %+v; %v", who, got, want, err)
		}
	}
	if _, _, err := d.Look(t.Context(), "cheq-none", of("user:t")); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such case: %v", err)
	}
}

// Who could answer a case that has ended is asked at the time when it did.
func TestWhoReviewedMayLookAfterTheEnd(t *testing.T) {
	d := newDesk(t)
	d.store.templates["exposure"].Steps = []Step{{After: 2 * time.Hour, Group: "network", Switch: &People{Role: "ciso"}}}
	c := d.approved(t, "sha256:r")
	d.now = start.Add(20 * time.Hour)
	if _, got, err := d.Standing(t.Context(), c.ID, of("user:n")); err != nil || !got.Reviewer {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAListHasPagesAndOnlyWhatConcernsOne(t *testing.T) {
	d := newDesk(t)
	var ids []string
	for i := range 7 {
		a := ask(fmt.Sprint("sha256:", i))
		a.Requester = of(fmt.Sprint("user:", i%2))
		c, _, err := d.Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		ids = append([]string{c.ID}, ids...)
	}
	read := func(f Filter, limit int, concerning *Person) (got []string) {
		before := ""
		for {
			list, next, err := d.List(t.Context(), f, before, limit, concerning)
			if err != nil || len(list) > limit {
				t.Fatalf("%d cases, %v", len(list), err)
			}
			for i := range list {
				got = append(got, list[i].ID)
			}
			if next == "" {
				return got
			}
			before = next
		}
	}
	zero, one, stranger, reviewer := of("user:0"), of("user:1"), of("user:x"), of("user:s")
	for _, row := range []struct {
		name       string
		filter     Filter
		concerning *Person
		want       []string
	}{
		{"all", Filter{}, nil, ids},
		{"a requester's", Filter{Requester: &one}, nil, []string{ids[1], ids[3], ids[5]}},
		{"that concern a requester", Filter{}, &one, []string{ids[1], ids[3], ids[5]}},
		{"that concern another", Filter{}, &zero, []string{ids[0], ids[2], ids[4], ids[6]}},
		{"that concern a reviewer", Filter{State: Pending}, &reviewer, ids},
		{"that concern nobody", Filter{}, &stranger, nil},
		{"of another tenant", Filter{Tenant: "globex"}, nil, nil},
	} {
		for limit := 1; limit <= len(ids)+1; limit++ {
			if got := read(row.filter, limit, row.concerning); strings.Join(got, " ") != strings.Join(row.want, " ") {
				t.Errorf("%s, %d a page: %v, want %v", row.name, limit, got, row.want)
			}
		}
	}
}

func TestAnExtensionAsksAnewForTheSame(t *testing.T) {
	d := newDesk(t)
	old := d.approved(t, "sha256:r")
	extend := func(digest string) (Case, bool, error) {
		return d.Extend(t.Context(), old.ID, Extension{Caller: of("user:other"), Reason: "not done", GrantFor: time.Hour, Digest: digest})
	}
	c, joined, err := extend("sha256:r")
	if err != nil || joined || c.ID == old.ID || c.Extends != old.ID || c.Requester != old.Requester || c.GrantFor != time.Hour || c.State != Pending {
		t.Fatalf("%+v, joined %v, %v", c, joined, err)
	}
	for _, excluded := range []string{"user:me", "service:shop", "user:other"} {
		if _, err := d.says(c.ID, excluded, true); !errors.Is(err, ErrNotReviewer) {
			t.Errorf("%s answers: %v", excluded, err)
		}
	}
	if _, joined, err := extend("sha256:r"); err != nil || !joined {
		t.Errorf("the same extension again: joined %v, %v", joined, err)
	}
	for _, voter := range []string{"user:n", "user:s", "user:t"} {
		if c, err = d.says(c.ID, voter, true); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.store.grants) != 2 || c.Grant == old.Grant || d.store.grants[old.Grant].Ended != nil {
		t.Errorf("grants: %+v", d.store.grants)
	}

	var refused *NotAskableError
	if _, _, err := extend("sha256:masked"); !errors.As(err, &refused) || !strings.Contains(err.Error(), "masked") {
		t.Errorf("a request that is masked: %v", err)
	}
	d.store.rules["platform/network/public"] = "sha256:2"
	if _, _, err := extend("sha256:r"); !errors.As(err, &refused) || refused.Rule != "platform/network/public" {
		t.Errorf("a rule that changed: %v", err)
	}
	d.store.rules["platform/network/public"] = "sha256:1"
	d.now = old.GrantEnd
	if _, _, err := extend("sha256:r"); !errors.Is(err, ErrSettled) {
		t.Errorf("a grant that is over: %v", err)
	}
	d.now = start
	if _, err := d.Revoke(t.Context(), old.ID, of("user:s"), ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := extend("sha256:r"); !errors.Is(err, ErrSettled) {
		t.Errorf("a grant that was revoked: %v", err)
	}
}

func TestCommentsAreKeptAndBounded(t *testing.T) {
	d := newDesk(t)
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{" \n": ErrNoText, strings.Repeat("x", maxText+1): ErrText, "why now?": nil} {
		if err := d.Comment(t.Context(), c.ID, of("user:s"), text); !errors.Is(err, want) {
			t.Errorf("%.10q: %v, want %v", text, err, want)
		}
	}
	for range maxComments - 1 {
		if err := d.Comment(t.Context(), c.ID, of("user:s"), "again"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Comment(t.Context(), c.ID, of("user:s"), "again"); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more than may be: %v", err)
	}
	if e := d.store.events[c.ID][1]; e.Action != "comment" || e.Detail != "why now?" || e.Actor != of("user:s") {
		t.Errorf("%+v", e)
	}
	if err := d.Comment(t.Context(), "cheq-none", of("user:s"), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such case: %v", err)
	}
}

func TestReasonsToCloseAreBoundedToo(t *testing.T) {
	d := newDesk(t)
	long := strings.Repeat("x", 100_000)
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Cancel(t.Context(), c.ID, of("user:me"), long); !errors.Is(err, ErrText) {
		t.Errorf("to cancel: %v", err)
	}
	if _, err := d.Revoke(t.Context(), d.approved(t, "sha256:r").ID, of("user:s"), long); !errors.Is(err, ErrText) {
		t.Errorf("to revoke: %v", err)
	}
}
