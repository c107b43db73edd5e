package cheq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrConfirm means that a yes in an emergency is noted and does not count yet:
// the same person must say it once more.
var ErrConfirm = errors.New("say yes once more to confirm")

// Times of a second confirmation: a finger that slips twice is no second
// thought, and a first yes is not kept in reserve.
const (
	confirmAfter  = 2 * time.Second
	confirmWithin = 10 * time.Minute
)

// emergency puts the break-glass template in place of those that the rules
// name, where each of them lets it.
func (c *Case) emergency(tx Tx, name string) error {
	for i := range c.Opens {
		o := &c.Opens[i]
		switch t, _ := tx.Template(o.Template); {
		case t == nil:
			return &NotAskableError{o.Rule, "it names no approval template: nobody can be asked"}
		case t.BreakGlass != name:
			return &NotAskableError{o.Rule, fmt.Sprintf("the template %s does not let %q break the glass", t.Name, name)}
		}
		o.Template = name
	}
	c.BreakGlass = name
	return nil
}

// confirmed reports whether a yes counts. The first one of a person in an
// emergency does not: it is noted, and the same again counts, unless it comes
// too soon, which changes nothing.
func (c *Case) confirmed(v *Vote, now time.Time) (counts, noted bool) {
	if c.BreakGlass == "" || !v.Yes {
		return true, false
	}
	i := slices.IndexFunc(c.Halves, func(h Half) bool { return h.Voter == v.Voter })
	if i >= 0 && now.Sub(c.Halves[i].At) <= confirmWithin {
		return now.Sub(c.Halves[i].At) >= confirmAfter, false
	}
	if i < 0 {
		i, c.Halves = len(c.Halves), append(c.Halves, Half{Voter: v.Voter})
	}
	c.Halves[i].At = now
	return false, true
}

// Half is a yes in an emergency that was not confirmed yet.
type Half struct {
	Voter Person    `json:"voter"`
	At    time.Time `json:"at"`
}

// Review is somebody's look back at an emergency.
type Review struct {
	By   Person    `json:"by"`
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// What callers of [Service.Review] branch on.
var (
	// ErrNoReview means that the case is no approved emergency, or was reviewed.
	ErrNoReview = errors.New("there is nothing to review")
	// ErrOwnReview means that who asked or said yes would review oneself.
	ErrOwnReview = errors.New("who asked or answered does not review it")
)

// Review looks back at an emergency: somebody who could have answered, but
// neither asked nor did, writes what was found.
func (s *Service) Review(ctx context.Context, id string, who Person, text string) (Case, error) {
	switch {
	case len(text) > maxText:
		return Case{}, fmt.Errorf("review: %w", ErrText)
	case strings.TrimSpace(text) == "":
		return Case{}, fmt.Errorf("review: %w", ErrNoText)
	}
	return s.change(ctx, id, func(tx Tx, c *Case, now time.Time) error {
		switch {
		case c.ReviewBy.IsZero() || c.Reviewed != nil:
			return fmt.Errorf("case %s: %w", c.ID, ErrNoReview)
		case who == c.Requester || who == c.Caller || slices.ContainsFunc(c.Votes, func(v Vote) bool { return v.Voter == who }):
			return fmt.Errorf("case %s: %s: %w", c.ID, who, ErrOwnReview)
		case !c.reviewer(who, tx, c.SettledAt):
			return fmt.Errorf("case %s: %s: %w", c.ID, who, ErrNotReviewer)
		}
		c.Reviewed = &Review{By: who, At: now, Text: text}
		c.Due = c.after()
		return tx.Note(c, Event{At: now, Actor: who, Action: "review", Detail: text})
	})
}

// after is when a settled case must be looked at: at the end of its grant, or
// when its review is due.
func (c *Case) after() time.Time {
	var due time.Time
	if c.Yield == Live {
		due = c.GrantEnd
	}
	if !c.ReviewBy.IsZero() && c.Reviewed == nil && !c.Overdue {
		due = earlier(due, c.ReviewBy)
	}
	return due
}

// lookAfter does what the time of an approved case asks for.
func (c *Case) lookAfter(tx Tx, now time.Time) error {
	if c.Yield == Live && !now.Before(c.GrantEnd) {
		if err := c.EndGrant(Ended); err != nil {
			return err
		}
		if err := tx.Note(c, Event{At: now, Action: "grant.expire"}); err != nil {
			return err
		}
	}
	if !c.ReviewBy.IsZero() && c.Reviewed == nil && !c.Overdue && !now.Before(c.ReviewBy) {
		c.Overdue = true
		if err := tx.Note(c, Event{At: now, Action: "review.overdue"}); err != nil {
			return err
		}
	}
	c.Due = c.after()
	return nil
}

// reviewBy is when somebody must have looked back at what was just approved;
// zero where it is no emergency.
func (c *Case) reviewBy(w World) time.Time {
	if t, _ := w.Template(c.BreakGlass); c.BreakGlass != "" && t != nil {
		return c.SettledAt.Add(t.ReviewWithin)
	}
	return time.Time{}
}
