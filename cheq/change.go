package cheq

import (
	"context"
	"slices"
	"time"
)

// Change is what a case about a change of policy shows of it.
type Change struct {
	// Base is the release that is changed, Digest that of the content by then.
	Base   uint64        `json:"base"`
	Digest string        `json:"digest"`
	Files  []ChangedFile `json:"files"`
	More   int           `json:"more,omitempty"` // files that are not listed
	Tests  Tests         `json:"tests"`
	Flips  Flips         `json:"flips"`
}

// ChangedFile is one file that changes.
type ChangedFile struct {
	Path    string `json:"path"`
	Added   int    `json:"added"` // lines
	Removed int    `json:"removed"`
	// Diff are the first lines of the difference, Cut how many are not shown.
	Diff string `json:"diff,omitempty"`
	Cut  int    `json:"cut,omitempty"`
}

// Tests is what the candidate's test cases came to.
type Tests struct {
	Passed int `json:"passed"`
	Failed int `json:"failed"`
}

// Flips are how many of the decisions that were recorded in the last Days would
// be others under the candidate, by now.
type Flips struct {
	AllowToDeny int `json:"allow_to_deny"`
	DenyToAllow int `json:"deny_to_allow"`
	Other       int `json:"other"` // to or from REVIEW
	// Unknown could not be told: what a changed rule reads was masked, or the
	// request cannot be asked any more.
	Unknown  int `json:"unknown"`
	Replayed int `json:"replayed"` // of all that were looked at
	Days     int `json:"days"`
	// Partial says that there are more, older ones, which were not looked at.
	Partial bool `json:"partial,omitempty"`
}

// Progress notes once what became of a case's matter after it was answered. A
// second note of the same action changes nothing.
func (s *Service) Progress(ctx context.Context, id, action, detail string) error {
	_, err := s.change(ctx, id, func(tx Tx, c *Case, now time.Time) error { return progress(tx, c, action, detail, now) })
	return err
}

// Outdate notes once that a case's matter is not what it was any more, and ends
// the case where people are still asked.
func (s *Service) Outdate(ctx context.Context, id, detail string) error {
	const outdated = "outdated"
	_, err := s.change(ctx, id, func(tx Tx, c *Case, now time.Time) error {
		if !c.State.Settled() {
			if err := c.End(Cancelled, outdated, now); err != nil {
				return err
			}
		}
		return progress(tx, c, outdated, detail, now)
	})
	return err
}

func progress(tx Tx, c *Case, action, detail string, now time.Time) error {
	events, err := tx.Timeline(c.ID, maxEvents)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(events, func(e Event) bool { return e.Action == action }) {
		return errSame
	}
	return tx.Note(c, Event{At: now, Action: action, Detail: detail})
}
