package cheq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config is what a Service is handed; Limits may be zero.
type Config struct {
	Store  Store
	Now    func() time.Time
	NewID  func() string
	Limits Limits
}

// Limits bound the cases that one requester has opened through one caller by
// one template.
type Limits struct {
	Pending int // at a time; 0 means 5
	Hourly  int // 0 means 20
}

// Service runs the cases of one installation. It is safe for concurrent use and
// holds no state of its own: any node may take any vote.
type Service struct {
	Config
}

// New returns a Service.
func New(c Config) *Service {
	if c.Limits.Pending == 0 {
		c.Limits.Pending = 5
	}
	if c.Limits.Hourly == 0 {
		c.Limits.Hourly = 20
	}
	return &Service{c}
}

// What callers branch on, beside ErrNotFound, ErrSettled and ErrShown.
var (
	// ErrTooMany means that the requester has as many cases as it may, or the
	// case as many comments, or answers of this voter.
	ErrTooMany = errors.New("too many cases")
	// ErrNotReviewer means that the voter's answer counts nowhere in this case.
	ErrNotReviewer = errors.New("not a reviewer of this case")
	// ErrNotAsker means that somebody else's case was to be cancelled.
	ErrNotAsker = errors.New("only who asked may cancel")
)

// maxText bounds what people write into a case, in bytes.
const maxText = 4096

// ErrText refuses a reason or comment that is longer than people read,
// ErrNoText a comment that says nothing.
var (
	ErrText   = fmt.Errorf("longer than %d bytes", maxText)
	ErrNoText = errors.New("it says nothing")
)

// change runs fn on one case in a transaction and stores what it made of it.
// What fn settles stays settled though fn returns [ErrSettled]: a case that was
// found over is over. So is a grant that ended without its case.
func (s *Service) change(ctx context.Context, id string, fn func(tx Tx, c *Case, now time.Time) error) (Case, error) {
	var c Case
	var refusal error
	err := s.Store.Update(ctx, func(tx Tx) error {
		var err error
		if c, err = tx.Case(id); err != nil {
			return fmt.Errorf("case %s: %w", id, err)
		}
		state, yield, now := c.State, c.Yield, s.Now().UTC()
		if err := c.lookAtGrant(tx, now); err != nil {
			return err
		}
		refusal = fn(tx, &c, now)
		ended := c.State != state || c.Yield != yield
		switch {
		case errors.Is(refusal, errSame):
			if refusal = nil; !ended {
				return nil
			}
		case refusal != nil && (!errors.Is(refusal, ErrSettled) || !ended):
			return refusal
		}
		return keep(tx, &c, now)
	})
	if err != nil {
		return Case{}, err
	}
	return c, refusal
}

// errSame says that there is nothing to store: the case is as it was.
var errSame = errors.New("nothing changed")

// keep stores a case as its next version, which is to be shown wherever the
// case is.
func keep(tx Tx, c *Case, now time.Time) error {
	c.Version++
	if err := tx.PutCase(*c); err != nil {
		return err
	}
	return want(tx, c, now)
}

// Vote is one person's answer. The voter is a subject that was verified; a
// yes or no counts if its voter is a reviewer now, and was shown what the case
// is about. The same answer again changes nothing; another one replaces it, at
// most 20 times, then it is ErrTooMany. An answer that decides
// settles the case and mints its grant in the same transaction. In an emergency
// the first yes of a person is noted and answered with ErrConfirm.
func (s *Service) Vote(ctx context.Context, id string, v Vote) (Case, error) {
	return s.VoteBy(ctx, id, v, func(Tx, *Case) (Person, error) { return v.Voter, nil })
}

// VoteBy is [Service.Vote] of somebody whom the case's own transaction finds
// out: who says who the voter is, or why it is nobody. What who writes is
// stored with the vote, and only with it.
func (s *Service) VoteBy(ctx context.Context, id string, v Vote, who func(tx Tx, c *Case) (Person, error)) (Case, error) {
	if len(v.Reason) > maxText {
		return Case{}, fmt.Errorf("reason: %w", ErrText)
	}
	var waits error // for the second yes
	c, err := s.change(ctx, id, func(tx Tx, c *Case, now time.Time) error {
		waits = nil
		var err error
		if v.Voter, err = who(tx, c); err != nil {
			return err
		}
		if err := s.settle(tx, c, now); err != nil {
			return err
		}
		if c.State.Settled() {
			return fmt.Errorf("case %s is %s: %w", c.ID, c.State, ErrSettled)
		}
		switch {
		case !c.reviewer(v.Voter, tx, now):
			return fmt.Errorf("case %s: %s: %w", c.ID, v.Voter, ErrNotReviewer)
		case v.Shown != c.Shown:
			return fmt.Errorf("case %s: %s answered: %w", c.ID, v.Voter, ErrShown)
		case slices.ContainsFunc(c.answers(), func(a Answer) bool { return a == Answer{v.Voter, v.Yes} }):
			return errSame
		case c.answered(v.Voter) > maxChanges:
			return fmt.Errorf("case %s: %s changed the answer %d times, as often as may be: %w", c.ID, v.Voter, maxChanges, ErrTooMany)
		}
		if counts, noted := c.confirmed(&v, now); !counts {
			waits = fmt.Errorf("case %s: %w", c.ID, ErrConfirm)
			if !noted {
				return errSame
			}
			return tx.Note(c, Event{At: now, Actor: v.Voter, Action: "vote.confirm", Detail: v.Reason})
		}
		v.At = now
		c.Votes = append(c.Votes, v)
		if err := tx.Note(c, Event{At: now, Actor: v.Voter, Action: voted(v.Yes), Detail: v.Reason}); err != nil {
			return err
		}
		return s.settle(tx, c, now)
	})
	if err == nil {
		err = waits
	}
	return c, err
}

// maxChanges is how often somebody may change an answer: all of them are kept.
const maxChanges = 20

// answered counts the answers of a voter, those that were changed too.
func (c *Case) answered(voter Person) (times int) {
	for i := range c.Votes {
		if c.Votes[i].Voter == voter {
			times++
		}
	}
	return times
}

func voted(yes bool) string {
	if yes {
		return "vote.approve"
	}
	return "vote.reject"
}

// reviewer reports whether a vote of this voter could count now.
func (c *Case) reviewer(voter Person, w World, now time.Time) bool {
	templates, _ := c.templates(w, now)
	for _, t := range templates {
		for _, g := range slices.Concat(t.AllOf, t.AnyOf) {
			if c.mayAnswer(voter, &g, w) {
				return true
			}
		}
	}
	return false
}

// settle ends a pending case where it has come to its end, and mints.
func (s *Service) settle(tx Tx, c *Case, now time.Time) error {
	if c.State.Settled() {
		return nil
	}
	if err := c.Settle(tx, now); err != nil || !c.State.Settled() {
		return err
	}
	if c.State == Approved {
		c.ReviewBy = c.reviewBy(tx)
		g, err := c.Mint("grt-"+strings.ToLower(s.NewID()), now)
		if err != nil {
			return err
		}
		if err := tx.Mint(g); err != nil {
			return err
		}
	}
	return tx.Note(c, Event{At: now, Action: string(c.State), Detail: c.Cause})
}

// Cancel takes a case back. Only who asked may, or whom it was asked for.
func (s *Service) Cancel(ctx context.Context, id string, who Person, why string) (Case, error) {
	if len(why) > maxText {
		return Case{}, fmt.Errorf("reason: %w", ErrText)
	}
	return s.change(ctx, id, func(tx Tx, c *Case, now time.Time) error {
		if who != c.Requester && who != c.Caller {
			return fmt.Errorf("case %s: %s: %w", c.ID, who, ErrNotAsker)
		}
		if err := c.End(Cancelled, "requester", now); err != nil {
			return err
		}
		return tx.Note(c, Event{At: now, Actor: who, Action: "cancelled", Detail: why})
	})
}

// Revoke ends the grant that a case minted. Whether who may is the caller's to
// ask: closing needs less than opening.
func (s *Service) Revoke(ctx context.Context, id string, who Person, why string) (Case, error) {
	if len(why) > maxText {
		return Case{}, fmt.Errorf("reason: %w", ErrText)
	}
	return s.change(ctx, id, func(tx Tx, c *Case, now time.Time) error {
		if err := c.EndGrant(Revoked); err != nil {
			return err
		}
		if err := tx.EndGrant(c.Grant, "revoked by "+who.String()+": "+why, now); err != nil {
			return err
		}
		return tx.Note(c, Event{At: now, Actor: who, Action: "grant.revoke", Detail: why})
	})
}
