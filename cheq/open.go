package cheq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Ask is what people are to be asked.
type Ask struct {
	Requester, Caller Person
	Reason            string
	Request           authz.Request // as it may be stored
	Digests           []string      // the request's first
	Newly             []Combination // for each digest what a yes would change
	// Opens are the rules that stand in the way; their templates' digests are
	// filled in when the case opens.
	Opens []Opening
	// Authors wrote those rules, as far as that is known.
	Authors  []Person
	GrantFor time.Duration // 0: as the templates say
	Extends  string        // a case
	// Change is the change of policy that is asked about; nil: it is none.
	Change *Change
	// BreakGlass asks by this template, in an emergency, and not by those that
	// the rules name.
	BreakGlass string
}

// NotAskableError says why nobody can be asked.
type NotAskableError struct {
	Rule   string
	Detail string
}

func (e *NotAskableError) Error() string { return fmt.Sprintf("rule %s: %s", e.Rule, e.Detail) }

// Open opens a case, or joins the pending one that asks the same for the same
// requester.
func (s *Service) Open(ctx context.Context, ask Ask) (c Case, joined bool, err error) {
	if len(ask.Reason) > maxText {
		return Case{}, false, fmt.Errorf("reason: %w", ErrText)
	}
	if len(ask.Digests) == 0 || len(ask.Opens) == 0 {
		return Case{}, false, errors.New("a case needs a request digest, and a rule that it opens")
	}
	err = s.Store.Update(ctx, func(tx Tx) error {
		now := s.Now().UTC()
		c, err = tx.Asked(ask.Requester, ask.Request.Tenant, ask.Digests[0])
		if err == nil {
			if joined, err = s.join(tx, &c, ask, now); joined || err != nil {
				return err
			}
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		joined = false
		if c, err = s.begin(tx, ask, now); err != nil {
			return err
		}
		if err := keep(tx, &c, now); err != nil {
			return err
		}
		return tx.Note(&c, Event{At: now, Actor: ask.Requester, Action: "open", Detail: ask.Reason})
	})
	return c, joined, err
}

// join reports whether the case is still one that answers the ask: the same
// rules stand in the way, it asks for no less, such as in an emergency or with
// members left open, and its time is not over. What is over is settled.
func (s *Service) join(tx Tx, c *Case, ask Ask, now time.Time) (bool, error) {
	if err := s.settle(tx, c, now); err != nil {
		return false, err
	}
	if c.State.Settled() {
		return false, keep(tx, c, now)
	}
	same := (ask.BreakGlass == "" || ask.BreakGlass == c.BreakGlass) && len(c.Opens) == len(ask.Opens)
	for _, digest := range ask.Digests {
		same = same && slices.Contains(c.Digests, digest)
	}
	for _, o := range ask.Opens {
		same = same && slices.ContainsFunc(c.Opens, func(known Opening) bool { return known.RuleRef == o.RuleRef && known.Effect == o.Effect })
	}
	if same {
		return true, nil
	}
	if err := c.End(Cancelled, "asked_anew", now); err != nil {
		return false, err
	}
	if err := tx.Note(c, Event{At: now, Action: "cancelled", Detail: "other rules stand in the way by now"}); err != nil {
		return false, err
	}
	return false, keep(tx, c, now)
}

// begin makes a case by the templates that its rules name: the shortest time
// to decide, the shortest grant and the fewest uses of all.
func (s *Service) begin(tx Tx, ask Ask, now time.Time) (Case, error) {
	c := Case{
		ID: "cheq-" + strings.ToLower(s.NewID()), Tenant: ask.Request.Tenant, State: Pending,
		Requester: ask.Requester, Caller: ask.Caller, Reason: ask.Reason,
		Request: ask.Request, Digests: ask.Digests, Newly: ask.Newly, Opens: slices.Clone(ask.Opens), OpenedAt: now, Extends: ask.Extends,
		Change: ask.Change,
	}
	if ask.BreakGlass != "" {
		if err := c.emergency(tx, ask.BreakGlass); err != nil {
			return Case{}, err
		}
	}
	for i := range c.Opens {
		o := &c.Opens[i]
		if tx.Rule(c.Tenant, o.Rule) != o.Digest {
			return Case{}, &NotAskableError{o.Rule, "it is of no release, such as a restriction's: who made it lifts it"}
		}
		t, digest := tx.Template(o.Template)
		if t == nil {
			return Case{}, &NotAskableError{o.Rule, "it names no approval template: nobody can be asked"}
		}
		if (t.Kind == BreakGlass) != (ask.BreakGlass != "") {
			return Case{}, &NotAskableError{o.Rule, fmt.Sprintf("the template %s is of the kind %s: emergencies, and nothing else, are asked by such a template, by its name", t.Name, t.Kind)}
		}
		if err := s.within(tx, &c, t, now); err != nil {
			return Case{}, err
		}
		if t.Reason && strings.TrimSpace(ask.Reason) == "" {
			return Case{}, &NotAskableError{o.Rule, "the template " + t.Name + " wants a reason: say why"}
		}
		if ask.GrantFor > t.GrantMost {
			return Case{}, &NotAskableError{o.Rule, fmt.Sprintf("a grant lasts at most %s by the template %s", t.GrantMost, t.Name)}
		}
		o.TemplateDigest = digest
		for _, place := range t.Notify {
			if !slices.Contains(c.Places, place) {
				c.Places = append(c.Places, place)
			}
		}
		c.DecideBy = earlier(c.DecideBy, now.Add(t.DecideBy))
		if c.GrantFor == 0 || t.GrantFor < c.GrantFor {
			c.GrantFor = t.GrantFor
		}
		if t.Uses > 0 && (c.Uses == 0 || t.Uses < c.Uses) {
			c.Uses = t.Uses
		}
	}
	if ask.GrantFor > 0 {
		c.GrantFor = ask.GrantFor
	}
	if err := exclude(tx, &c, ask); err != nil {
		return Case{}, err
	}
	var err error
	if c.Shown, err = c.Card().Digest(); err != nil {
		return Case{}, err
	}
	templates, _ := c.templates(tx, now)
	c.Due = c.next(templates)
	return c, nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// within holds the limits of what one requester may ask.
func (s *Service) within(tx Tx, c *Case, t *Template, now time.Time) error {
	hourAgo := now.Add(-time.Hour)
	cases, err := tx.Recent(c.Requester, c.Tenant, hourAgo, maxRecent)
	if err != nil {
		return err
	}
	pending, recent := 0, 0
	for i := range cases {
		if cases[i].Caller != c.Caller || !cases[i].names(t.Name) {
			continue
		}
		if cases[i].State == Pending {
			pending++
		}
		if cases[i].OpenedAt.After(hourAgo) {
			recent++
		}
	}
	if len(cases) == maxRecent || pending >= s.Limits.Pending || recent >= s.Limits.Hourly {
		return fmt.Errorf("%s has %d pending cases by the template %s and opened %d within an hour, %d and %d are the most: %w",
			c.Requester, pending, t.Name, recent, s.Limits.Pending, s.Limits.Hourly, ErrTooMany)
	}
	return nil
}

// maxRecent is how many cases of one requester are counted; more are too many.
const maxRecent = 1000

func (c *Case) names(template string) bool {
	return slices.ContainsFunc(c.Opens, func(o Opening) bool { return o.Template == template })
}

// exclude notes who may not answer: everybody whom the requester or the caller
// acts for, and the authors. Who acts for the requester is found the other way
// round, when a vote is counted.
func exclude(tx Tx, c *Case, ask Ask) error {
	for _, who := range append([]Person{c.Requester, c.Caller}, ask.Authors...) {
		line, err := tx.Line(who)
		if err != nil {
			return fmt.Errorf("whom %s acts for: %w", who, err)
		}
		for _, n := range line {
			if !slices.Contains(c.Excluded, n) {
				c.Excluded = append(c.Excluded, n)
			}
		}
	}
	return nil
}
