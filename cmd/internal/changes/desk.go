package changes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Config is what a Desk is handed; every field is required.
type Config struct {
	PAP       *pap.Service
	PDP       *pdp.PDP
	Cases     *cheq.Service
	Decisions pap.AuditStore
	// Subject is a subject of the directory with the rights of now.
	Subject func(ctx context.Context, tenant, name string) (pap.Actor, error)
	// Request is what the self policies are asked of a release in a tenant, with
	// what more the context has.
	Request func(author pap.Actor, tenant string, release authz.Entity, more ...authz.Member) authz.Request
	// Candidate is what passed the gate, compiled, and how its tests came out.
	Candidate func(c pap.Candidate) (*pdp.Release, cheq.Tests)
	// CatchUp makes this node answer by everything committed so far.
	CatchUp func(ctx context.Context) error
	Now     func() time.Time
}

// Desk puts changes to people. Review is safe for concurrent use, Sweep is one
// goroutine's.
type Desk struct {
	config    Config
	proposals pap.OpenProposals
	noted     map[string]bool // case and action: what need not be noted again
}

// New returns a Desk.
func New(c Config) *Desk { return &Desk{config: c, noted: map[string]bool{}} }

// action is what the self policies are asked.
const action = "release.change"

// RefusedError says why the self policies do not let a change be published. It
// wraps [pap.ErrForbidden].
type RefusedError struct{ Decision authz.Decision }

func (e *RefusedError) Error() string {
	var why []string
	for _, r := range e.Decision.Reasons {
		if r.Effect != authz.Allow {
			why = append(why, r.Message)
		}
	}
	return "the self policies do not let this change be published: " + strings.Join(why, " ")
}

// Unwrap makes the error one that pap knows.
func (e *RefusedError) Unwrap() error { return pap.ErrForbidden }

// Review is a [pap.Config]'s: it returns nil where a change may be published,
// and opens the case where people must say yes first. An installation whose
// self policies name no such question is asked none.
func (d *Desk) Review(ctx context.Context, author pap.Actor, c pap.Change) error {
	active := d.config.PDP.Active()
	if active == nil {
		return pdp.ErrNotReady
	}
	asked, reads := question(active.Release)
	if !asked {
		return nil
	}
	compiled, tests := d.config.Candidate(c.Candidate)
	candidate := *active
	candidate.Release = compiled
	var flips cheq.Flips
	var err error
	if reads {
		if flips, err = d.flips(ctx, active, &candidate, c.Changes); err != nil {
			return err
		}
	}
	decision, obstacles, err := d.config.PDP.ObstaclesSelf(ctx, active, d.request(author, &c, flips, weakens(active.Release, compiled, flips)))
	switch {
	case err != nil:
		return fmt.Errorf("ask the self policies about the change: %w", err)
	case decision.Effect == authz.Deny:
		return &RefusedError{decision}
	case decision.Effect == authz.Allow:
		return d.rests(ctx, decision, c.Approved)
	case c.Approved != "":
		return &pap.NeedsReviewError{Case: c.Approved} // its yes is over, or about something else
	}
	if !reads {
		if flips, err = d.flips(ctx, active, &candidate, c.Changes); err != nil {
			return err
		}
	}
	return d.ask(ctx, author, &c, obstacles, &cheq.Change{Base: c.Base, Digest: c.Next.Digest().String(), Tests: tests, Flips: flips})
}

// question reports whether the self policies ask about changes at all, and
// whether they read what is replayed.
func question(active *pdp.Release) (asked, reads bool) {
	for _, p := range active.Policies() {
		if p.Layer != pdp.LayerSelf {
			continue
		}
		asked = asked || slices.ContainsFunc(p.Scope.Actions, func(pattern string) bool { return pattern != "*" && pdp.MatchPattern(pattern, action) })
		reads = reads || slices.Contains(p.Reads, "context.flips") || slices.Contains(p.Reads, "context.weakens")
	}
	return asked, reads
}

// request is the question. Who may publish was asked by right.
func (d *Desk) request(author pap.Actor, c *pap.Change, f cheq.Flips, weakens bool) authz.Request {
	var layers, tenants, paths []string
	add := func(to *[]string, name string) {
		if name != "" && !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	for _, change := range c.Changes {
		layer, tenant, _ := pap.Place(change.Path) // checked with the rights
		add(&layers, layer)
		add(&tenants, tenant)
		add(&paths, change.Path)
	}
	for _, list := range [...][]string{layers, tenants, paths} {
		slices.Sort(list)
	}
	release := authz.Entity{Type: "xiezhi.release", ID: c.Next.Digest().String(), Properties: authz.MustValue(map[string]any{
		"base": int64(c.Base), "layers": authz.Strings(layers...), "tenants": authz.Strings(tenants...), "paths": authz.Strings(paths...),
	})}
	return d.config.Request(author, tenantOf(c.Changes), release,
		authz.Member{Name: "flips", Value: authz.MustValue(map[string]any{
			"allow_to_deny": f.AllowToDeny, "deny_to_allow": f.DenyToAllow, "other": f.Other, "unknown": f.Unknown,
		})},
		authz.Member{Name: "weakens", Value: authz.BoolValue(weakens)},
	)
}

// tenantOf is the tenant whose case a change is: the one that it changes, or
// the platform.
func tenantOf(changes []bundles.Change) string {
	only := ""
	for i, c := range changes {
		_, tenant, _ := pap.Place(c.Path) // checked with the rights
		if tenant == "" || i > 0 && tenant != only {
			return pap.Platform
		}
		only = tenant
	}
	return only
}

// rests returns nil for an ALLOW that rests on no grant, or on the one of the
// case that was approved. What a case opened is published as its proposal, and
// in no other way.
func (d *Desk) rests(ctx context.Context, decision authz.Decision, approved string) error {
	for _, r := range decision.Reasons {
		if r.Grant == "" {
			continue
		}
		source, err := d.source(ctx, r.Grant)
		if err != nil {
			return err
		}
		switch of, ok := strings.CutPrefix(source, authz.SourceApproval); {
		case !ok:
			return &pap.NeedsReviewError{} // made by hand: nobody was shown the change
		case of != approved:
			return &pap.NeedsReviewError{Case: of}
		}
	}
	return nil
}

// source says where a grant came from.
func (d *Desk) source(ctx context.Context, id string) (string, error) {
	var g authz.Grant
	err := d.config.PAP.Store.View(ctx, func(tx pap.Tx) error {
		record, err := tx.Record(pap.KindGrant, id)
		if err != nil {
			return err
		}
		return json.Unmarshal(record.Body, &g)
	})
	if err != nil {
		return "", fmt.Errorf("read grant %s: %w", id, err)
	}
	return g.Source, nil
}

// maxReason is how much of a note a case shows as its reason, in bytes.
const maxReason = 2000

func (d *Desk) ask(ctx context.Context, author pap.Actor, c *pap.Change, o *pdp.Obstacles, shown *cheq.Change) error {
	shown.Files, shown.More = difference(c.Content, c.Changes)
	reason := c.Release.Note
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	if c.Release.Commit != "" {
		reason = fmt.Sprintf("%s (commit %s by %s)", reason, c.Release.Commit, c.Release.Author)
	}
	who := cheq.Person{Tenant: author.Tenant, Name: author.Name}
	ask := cheq.Ask{Requester: who, Caller: who, Reason: reason, Request: o.Request, Digests: []string{o.Digest}, Change: shown}
	for _, rule := range o.Rules {
		ask.Opens = append(ask.Opens, cheq.Opening{
			RuleRef: authz.RuleRef{Rule: rule.Name, Digest: rule.Rule.Digest.String()}, Effect: rule.Effect,
			Message: cheq.Text(rule.Message), Template: rule.Rule.Template,
		})
	}
	opened, _, err := d.config.Cases.Open(ctx, ask)
	if err != nil {
		return fmt.Errorf("ask people about the change: %w", err)
	}
	return &pap.NeedsReviewError{Case: opened.ID}
}
