package approvals

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/fault"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Config is what a Store is handed; every field but Late and Sources
// is required.
type Config struct {
	Store     pap.Store // whose transactions are [cheq.Rows]
	Active    func() *pdp.Snapshot
	Directory *pap.Directory
	// CatchUp makes this node know everything committed so far.
	CatchUp func(ctx context.Context) error
	// Late is told where what was stored is not known to this node yet, which
	// reads it as soon as it can; nil: nobody is.
	Late  func(err error)
	NewID func() string
	// Sources are asked for reviewers, by the name that templates use. They end
	// with their context.
	Sources map[string]pdp.AttributeSource
}

// Store implements [cheq.Store]. It is safe for concurrent use.
type Store struct {
	config    Config
	templates templates
}

// NewStore returns a Store.
func NewStore(c Config) *Store { return &Store{config: c} }

// maxTries is how often an update begins again because something newer was
// committed meanwhile.
const maxTries = 10

// Update implements [cheq.Store]. What is stored is stored, also where this
// node could not read it back: that is no error.
func (s *Store) Update(ctx context.Context, fn func(cheq.Tx) error) error {
	reviewers := s.lookups()
	for try := 1; ; try++ {
		err := s.config.Store.Update(ctx, func(tx pap.Tx) error {
			return s.in(ctx, tx, reviewers, func(t *transaction) error {
				if err := pap.StillHolds(tx, t.active.Revision()); err != nil {
					return err
				}
				return fn(t)
			})
		})
		if len(reviewers.wanted) > 0 {
			reviewers.ask(ctx)
			try--
			continue
		}
		behind := errors.Is(err, pap.ErrVersion) || errors.Is(err, pdp.ErrNotReady)
		if err != nil && (!behind || try == maxTries) {
			return err
		}
		late := s.config.CatchUp(ctx)
		if behind {
			if late != nil {
				return late
			}
			continue
		}
		if late != nil && s.config.Late != nil {
			s.config.Late(late)
		}
		return nil
	}
}

// View implements [cheq.Store]. What it reads of rules and people is this
// node's view.
func (s *Store) View(ctx context.Context, fn func(cheq.Tx) error) error {
	for reviewers := s.lookups(); ; reviewers.ask(ctx) {
		err := s.config.Store.View(ctx, func(tx pap.Tx) error {
			return s.in(ctx, tx, reviewers, func(t *transaction) error { return fn(t) })
		})
		if len(reviewers.wanted) == 0 {
			return err
		}
	}
}

func (s *Store) in(ctx context.Context, tx pap.Tx, reviewers *lookups, fn func(*transaction) error) error {
	active := s.config.Active()
	if active == nil {
		return pdp.ErrNotReady
	}
	rows, ok := tx.(cheq.Rows)
	if !ok {
		return fmt.Errorf("%T keeps no cases", tx)
	}
	err := fn(&transaction{Rows: rows, ctx: ctx, tx: tx, active: active, config: &s.config, templates: &s.templates, reviewers: reviewers})
	if len(reviewers.wanted) > 0 {
		return errLookup
	}
	return err
}

// transaction implements [cheq.Tx].
type transaction struct {
	cheq.Rows
	ctx       context.Context
	tx        pap.Tx
	active    *pdp.Snapshot
	config    *Config
	templates *templates
	reviewers *lookups
}

// Rule implements [cheq.World].
func (t *transaction) Rule(tenant, name string) string {
	rule, ok := t.active.Release.Rule(name)
	if _, of, err := pdp.PolicyPlace(name); !ok || err != nil || of != "" && of != tenant {
		return ""
	}
	return rule.Digest.String()
}

// Template implements [cheq.World].
func (t *transaction) Template(name string) (*cheq.Template, string) {
	return t.templates.of(t.active.Release, name)
}

// Member implements [cheq.World]. A person has the roles of its home: a
// tenant's none in another, the platform's its platform roles everywhere.
func (t *transaction) Member(c *cheq.Case, who cheq.Person, p *cheq.People) bool {
	switch {
	case who.Tenant != "" && who.Tenant != c.Tenant:
		return false
	case p.Role != "":
		platform := strings.HasPrefix(p.Role, pap.Platform+":")
		return platform == (who.Tenant == "") && slices.Contains(t.config.Directory.Roles(who.Tenant, who.Name), p.Role)
	}
	if _, err := t.config.Directory.SubjectStanding(who.Tenant, who.Name); err != nil {
		return false
	}
	if p.Lookup != nil {
		p = t.reviewers.people(c, p.Lookup)
	}
	return p != nil && p.Named(c.Tenant, who)
}

// Line implements [cheq.World].
func (t *transaction) Line(who cheq.Person) ([]cheq.Person, error) {
	names, err := pap.ActsFor(t.tx, who.Tenant, who.Name)
	if err != nil {
		return nil, err
	}
	line := make([]cheq.Person, len(names))
	for i, name := range names {
		line[i] = cheq.Person{Tenant: who.Tenant, Name: name}
	}
	return line, nil
}

// PutCase implements [cheq.Rows]; that a case ended goes into the log.
func (t *transaction) PutCase(c cheq.Case) error {
	if err := t.Rows.PutCase(c); err != nil || !c.State.Settled() {
		return err
	}
	fault.Point("case settled")
	return pap.PutCaseEnd(t.tx, c.ID, c.Tenant, c.SettledAt, pap.CaseEnd{State: string(c.State), Grant: c.Grant})
}

// Note implements [cheq.Rows]; every event is an audit record as well.
func (t *transaction) Note(c *cheq.Case, e cheq.Event) error {
	if err := t.Rows.Note(c, e); err != nil {
		return err
	}
	head, err := t.tx.Head()
	if err != nil {
		return err
	}
	body, err := authz.ValueOf(map[string]any{"state": string(c.State), "cause": c.Cause, "grant": c.Grant, "detail": e.Detail})
	if err != nil {
		return err
	}
	return t.tx.Audit(authz.AuditRecord{
		ID: t.config.NewID(), Time: e.At, Kind: authz.AuditChange, Tenant: c.Tenant, Actor: actor(e.Actor),
		Action: "cheq." + e.Action, Resource: "cheq:" + c.ID, Subject: c.Requester.Name, Revision: head.String(), Body: body,
	})
}

// actor names who did something; time has no name.
func actor(who cheq.Person) string {
	if who == (cheq.Person{}) {
		return "xiezhi"
	}
	return who.String()
}

// Mint implements [cheq.Tx].
func (t *transaction) Mint(g authz.Grant) error { return pap.MintApproved(t.tx, g) }

// Grant implements [cheq.Tx].
func (t *transaction) Grant(id string) (is cheq.Yield, why string, err error) {
	g, spent, err := pap.ApprovedGrant(t.tx, id)
	switch {
	case err != nil:
		return cheq.NoYield, "", err
	case g.Ended != nil:
		return cheq.Revoked, g.EndedReason, nil
	case spent:
		return cheq.UsedUp, "", nil
	default:
		return cheq.Live, "", nil
	}
}

// EndGrant implements [cheq.Tx].
func (t *transaction) EndGrant(id, why string, at time.Time) error {
	return pap.EndApproved(t.tx, id, why, at)
}
