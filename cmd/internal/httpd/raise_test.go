package httpd

import (
	"errors"
	"testing"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestTheNewestReleaseIsRaisedAboveWhatPEPsMayHold(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		n, by := s.nodes[0], admin.LocalActor()
		before, err := n.Release(t.Context(), by, 2)
		s.must(err)
		revision, err := n.RaiseReleases(t.Context(), by, 57)
		s.must(err)
		if revision.Release != 58 || s.head().Release != 58 {
			t.Fatalf("raised to %s, head %s", revision, s.head())
		}
		raised, err := n.Release(t.Context(), by, 58)
		s.must(err)
		if raised.Digest != before.Digest || raised.Restores != 2 || raised.Author != by.Name || len(raised.Files) != len(before.Files) {
			t.Errorf("raised %+v", raised)
		}
		if trail := s.trail("release.raise", "releases"); len(trail) != 1 || trail[0].Actor != by.Name {
			t.Errorf("audit trail: %+v", trail)
		}
		if r := s.publish(nil); r.Number != 59 {
			t.Errorf("the next is release %d", r.Number)
		}
		if revision, err := n.RaiseReleases(t.Context(), by, 58); err != nil || revision.Release != 59 {
			t.Errorf("above already: %s, %v", revision, err)
		}
		if _, err := n.RaiseReleases(t.Context(), by, 1<<40); !errors.As(err, new(*authz.FieldError)) {
			t.Errorf("far above: %v", err)
		}
		s.publish([]pap.Selector{canary})
		if _, err := n.RaiseReleases(t.Context(), by, 100); !errors.Is(err, pap.ErrRolloutInProgress) {
			t.Errorf("in a rollout: %v", err)
		}
		if _, err := n.RaiseReleases(t.Context(), tenantActor("acme", "user:boss"), 100); !errors.Is(err, pap.ErrForbidden) {
			t.Errorf("a tenant: %v", err)
		}
	})
}
