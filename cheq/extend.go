package cheq

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Extension asks for more time of what a case opened.
type Extension struct {
	Caller   Person
	Reason   string
	GrantFor time.Duration // 0: as the templates say
	// Digest is that of the case's request, computed again from what is stored
	// of it. One that was masked has another: nobody could be shown what the
	// new yes is about.
	Digest string
}

// Extend opens a case that would prolong the grant of another, or joins it:
// the same request, the same rules, another yes. The grant must be live. It
// fails with ErrSettled where it is not, and with a [*NotAskableError] where
// the same cannot be asked again.
func (s *Service) Extend(ctx context.Context, id string, e Extension) (Case, bool, error) {
	var old Case
	err := s.Store.View(ctx, func(tx Tx) (err error) {
		if old, err = tx.Case(id); err != nil {
			return fmt.Errorf("case %s: %w", id, err)
		}
		if old.Yield != Live || !s.Now().Before(old.GrantEnd) {
			return fmt.Errorf("case %s has no live grant to extend: %w", id, ErrSettled)
		}
		if is, _, err := tx.Grant(old.Grant); err != nil {
			return err
		} else if is != Live {
			return fmt.Errorf("the grant of case %s has ended: %w", id, ErrSettled)
		}
		for _, o := range old.Opens {
			if tx.Rule(old.Tenant, o.Rule) != o.Digest {
				return &NotAskableError{o.Rule, "it changed since the case was approved: ask anew"}
			}
		}
		if old.Digests[0] != e.Digest {
			return &NotAskableError{old.Opens[0].Rule, "what is stored of the request is not the whole of it, such as where it is masked: ask anew with the request"}
		}
		return nil
	})
	if err != nil {
		return Case{}, false, err
	}
	return s.Open(ctx, Ask{
		Requester: old.Requester, Caller: e.Caller, Reason: e.Reason, Request: old.Request, Digests: old.Digests, Newly: old.Newly,
		Opens: old.Opens, Authors: old.Excluded, GrantFor: e.GrantFor, Extends: old.ID,
	})
}

const (
	actionComment = "comment"
	// maxComments leaves room in a timeline for what else it must show.
	maxComments = 100
)

// Comment writes a line into the timeline of a case. It answers nothing. Who
// may is the caller's to ask.
func (s *Service) Comment(ctx context.Context, id string, who Person, text string) error {
	switch {
	case len(text) > maxText:
		return fmt.Errorf("comment: %w", ErrText)
	case strings.TrimSpace(text) == "":
		return fmt.Errorf("comment: %w", ErrNoText)
	}
	_, err := s.change(ctx, id, func(tx Tx, c *Case, now time.Time) error {
		events, err := tx.Timeline(id, maxEvents)
		if err != nil {
			return err
		}
		comments := 0
		for i := range events {
			if events[i].Action == actionComment {
				comments++
			}
		}
		if comments >= maxComments {
			return fmt.Errorf("case %s has %d comments, as many as may be: %w", id, comments, ErrTooMany)
		}
		if err := tx.Note(c, Event{At: now, Actor: who, Action: actionComment, Detail: text}); err != nil || !c.State.Settled() {
			return err
		}
		return errSame // a case that ended is not told of again
	})
	return err
}
