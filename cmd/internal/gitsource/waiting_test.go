package gitsource

import (
	"context"
	"fmt"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
)

// look runs a round that nobody asked for.
func (i *installation) look(s *Source, want pap.SourceResult) pap.SourceStatus {
	i.t.Helper()
	if err := s.round(i.t.Context(), false); err != nil {
		i.t.Fatal(err)
	}
	if status := s.Status(); status.Result != want {
		i.t.Fatalf("%s, want %s: %s", status.Result, want, status.Reason)
	}
	return s.Status()
}

func TestACommitWaitsForPeople(t *testing.T) {
	i, r, s, first := started(t)
	asked := 0
	i.pap.Review = func(_ context.Context, _ pap.Actor, c pap.Change) error {
		if c.Approved != "" {
			return nil
		}
		asked++
		return &pap.NeedsReviewError{Case: fmt.Sprintf("cheq-%d", asked)}
	}
	r.Write(sizes, policy(6))
	second := r.Commit("acme: smaller")
	r.Push()
	status := i.load(s, pap.SourceWaiting)
	contains(t, status.Reason, "cheq-1")
	if status.Seen.ID != second || i.newest().Commit != first {
		t.Errorf("seen %s, the newest release is of %s", status.Seen.ID, i.newest().Commit)
	}
	i.look(s, pap.SourceWaiting)
	if asked != 1 {
		t.Errorf("people were asked %d times about one commit", asked)
	}
	if _, err := i.pap.PublishProposal(t.Context(), subject("service:git", "release.publish"), "cheq-1"); err != nil {
		t.Fatal(err)
	}
	i.look(s, pap.SourcePublished)
	if release := i.newest(); release.Number != 3 || release.Commit != second || release.Author != "Li Wei <li.wei@example.com>" || !i.has(sizes, policy(6)) {
		t.Errorf("%+v", release)
	}

	r.Write(sizes, policy(700))
	r.Commit("acme: large")
	r.Push()
	i.look(s, pap.SourceWaiting)
	if err := i.pap.EndProposal(t.Context(), "cheq-2", pap.ProposalDropped, "rejected"); err != nil {
		t.Fatal(err)
	}
	status = i.look(s, pap.SourceRefused)
	contains(t, status.Reason, "cheq-2", "rejected")
	i.look(s, pap.SourceRefused)
	if asked != 2 || i.newest().Number != 3 {
		t.Errorf("asked %d times, release %d", asked, i.newest().Number)
	}
}
