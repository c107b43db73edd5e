package cheq

import (
	"context"
	"errors"
	"time"
)

// sweepSize is how many cases one sweep looks at.
const sweepSize = 100

// Sweep looks at the cases whose time has come: it ends those that nobody
// decided in time and grants that are over, and takes the steps that templates
// ask for. It returns how many it looked at; callers sweep again at once while
// that is sweepSize. Any node may sweep at any time.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	var due []string
	err := s.Store.View(ctx, func(tx Tx) (err error) {
		due, err = tx.Due(s.Now().UTC(), sweepSize)
		return err
	})
	if err != nil {
		return 0, err
	}
	var failed []error
	for _, id := range due {
		if _, err := s.change(ctx, id, s.wake); err != nil {
			failed = append(failed, err)
		}
	}
	return len(due), errors.Join(failed...)
}

// wake does what a case's time asks for.
func (s *Service) wake(tx Tx, c *Case, now time.Time) error {
	if c.Due.IsZero() || now.Before(c.Due) {
		return errSame // another node was here
	}
	if c.State == Approved {
		return c.lookAfter(tx, now)
	}
	if err := s.settle(tx, c, now); err != nil || c.State.Settled() {
		return err
	}
	templates, _ := c.templates(tx, now)
	waited := now.Sub(c.OpenedAt)
	for _, t := range templates {
		for _, step := range t.Steps {
			if step.After <= c.Reached || step.After > waited {
				continue
			}
			if err := tx.Note(c, Event{At: now, Action: step.action(), Detail: step.Group}); err != nil {
				return err
			}
		}
	}
	c.Reached = max(c.Reached, waited)
	c.Due = c.next(templates)
	return nil
}

func (s Step) action() string {
	switch {
	case s.Remind:
		return "remind"
	case s.Add != nil:
		return "reviewers.add"
	default:
		return "reviewers.switch"
	}
}

// next is when a pending case must be looked at: at its next step, or its end.
func (c *Case) next(templates []*Template) time.Time {
	due := c.DecideBy
	for _, t := range templates {
		for _, step := range t.Steps {
			if step.After > c.Reached {
				due = earlier(due, c.OpenedAt.Add(step.After))
				break
			}
		}
	}
	return due
}
