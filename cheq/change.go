package cheq

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

// Text says the flips in a sentence.
func (f *Flips) Text() Text {
	t := Text{
		EN: fmt.Sprintf("Of %d decisions of the last %d days, %d ALLOW would be DENY, %d DENY would be ALLOW, %d would be others, and %d are unknown.",
			f.Replayed, f.Days, f.AllowToDeny, f.DenyToAllow, f.Other, f.Unknown),
		ZH: fmt.Sprintf("回放近 %[2]d 天的 %[1]d 条决策：%[3]d 条由允许变为拒绝，%[4]d 条由拒绝变为允许，%[5]d 条为其他变化，%[6]d 条无法判定。",
			f.Replayed, f.Days, f.AllowToDeny, f.DenyToAllow, f.Other, f.Unknown),
	}
	if f.Partial {
		t.EN, t.ZH = t.EN+" Older ones were not looked at.", t.ZH+"更早的决策未回放。"
	}
	return t
}

// Text says how the tests came out.
func (t Tests) Text() Text {
	return Text{EN: fmt.Sprintf("%d held, %d did not", t.Passed, t.Failed), ZH: fmt.Sprintf("%d 个通过，%d 个未通过", t.Passed, t.Failed)}
}

// String names the file and counts its lines.
func (f *ChangedFile) String() string { return fmt.Sprintf("%s +%d −%d", f.Path, f.Added, f.Removed) }

// Lines are the first lines of the difference, and how many are left out.
func (f *ChangedFile) Lines(most int) (lines []string, left int) {
	if f.Diff != "" {
		lines = strings.Split(f.Diff, "\n")
	}
	left = f.Cut + max(0, len(lines)-most)
	return lines[:min(len(lines), most)], left
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
