package pap

import (
	"context"
	"fmt"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// maxRaise bounds how many releases one call adds.
const maxRaise = 10_000

// RaiseReleases gives the newest release numbers above one that PEPs may hold,
// so that they take it. It is for a database that was restored from a backup:
// PEPs never take a lower release than they hold, and what was published after
// the backup they hold still. Every number up to above+1 becomes a release of
// the newest one's content; where the newest is above already, nothing changes.
func (s *Service) RaiseReleases(ctx context.Context, actor Actor, above uint64) (authz.Revision, error) {
	if err := actor.May(ctx, "release.publish.platform", Platform); err != nil {
		return authz.Revision{}, err
	}
	what := auditEntry{"release.raise", "", "releases", map[string]uint64{"above": above}}
	return s.change(ctx, actor, what, func(tx Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		switch {
		case head.Release > above:
			return nil
		case head.Release == 0:
			return fmt.Errorf("no release was published: %w", ErrNotFound)
		case above-head.Release >= maxRaise:
			return field("/above", "the newest release is %d: at most %d above it", head.Release, maxRaise-1)
		}
		rollout, err := rolloutOf(tx)
		if err != nil {
			return err
		}
		if rollout.Active(head.Release) { // all would get what some were to get
			return fmt.Errorf("release %d: %w", head.Release, ErrRolloutInProgress)
		}
		r, err := tx.Release(head.Release)
		if err != nil {
			return err
		}
		r.Restores, r.Author, r.CreatedAt = head.Release, actor.Name, s.Now().UTC()
		r.Note = fmt.Sprintf("release %d under a number above %d, which PEPs may hold", head.Release, above)
		for r.Number <= above {
			r.Number++
			if err := tx.InsertRelease(r); err != nil {
				return err
			}
		}
		return nil
	})
}
