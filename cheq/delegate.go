package cheq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Delegation is a reviewer's place in one case, handed to somebody else.
type Delegation struct {
	From Person    `json:"from"`
	To   Person    `json:"to"`
	At   time.Time `json:"at"`
}

// ErrDelegate means that a reviewer's place cannot be handed to this person.
var ErrDelegate = errors.New("the place cannot be handed on so")

// Delegate hands a reviewer's place to somebody else, for this case: the other
// one's answer counts where the reviewer's would, and the reviewer's own does
// not count any more. What was handed on is not handed on again, and there is
// no taking back.
func (s *Service) Delegate(ctx context.Context, id string, from, to Person, why string) (Case, error) {
	if len(why) > maxText {
		return Case{}, fmt.Errorf("reason: %w", ErrText)
	}
	return s.change(ctx, id, func(tx Tx, c *Case, now time.Time) error {
		if err := s.settle(tx, c, now); err != nil {
			return err
		}
		if c.State.Settled() {
			return fmt.Errorf("case %s is %s: %w", c.ID, c.State, ErrSettled)
		}
		line, err := tx.Line(to)
		if err != nil {
			return err
		}
		switch {
		case !c.reviewer(from, tx, now):
			return fmt.Errorf("case %s: %s: %w", c.ID, from, ErrNotReviewer)
		case to == from, slices.ContainsFunc(line, func(n Person) bool { return slices.Contains(c.Excluded, n) }):
			return fmt.Errorf("case %s: %s may not answer it: %w", c.ID, to, ErrDelegate)
		case slices.ContainsFunc(c.Delegated, func(d Delegation) bool { return d.From == to || d.To == to || d.To == from }):
			return fmt.Errorf("case %s: a place was handed to or on by %s or %s already: %w", c.ID, from, to, ErrDelegate)
		}
		c.Delegated = append(c.Delegated, Delegation{From: from, To: to, At: now})
		return tx.Note(c, Event{At: now, Actor: from, Action: "delegate", Detail: to.String() + ": " + why})
	})
}

// stands is whose place a voter has: its own, somebody's who handed it on, or
// nobody's, having handed on its own.
func (c *Case) stands(voter Person) (places []Person) {
	places = []Person{voter}
	for _, d := range c.Delegated {
		switch voter {
		case d.From:
			return nil
		case d.To:
			places = append(places, d.From)
		}
	}
	return places
}
