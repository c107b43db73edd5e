package pap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// GrantSpec is what a caller may say of a grant; the server says the rest.
type GrantSpec struct {
	Tenant    string
	Satisfies []string // full rule names
	Waives    []string
	Request   authz.Request
	Validity  authz.Validity // a zero Start means now
	Uses      int
	Reason    string
}

// MintGrant makes a grant by hand (X10, X11). Needs grant.mint in the tenant,
// and platform.grant.mint where a platform rule is named. Whoever asks may not
// be the grant's subject, nor act for it.
func (s *Service) MintGrant(ctx context.Context, actor Actor, spec GrantSpec) (authz.Grant, authz.Revision, error) {
	if err := actor.May(ctx, "grant.mint", rightsTenant(spec.Tenant)); err != nil {
		return authz.Grant{}, authz.Revision{}, err
	}
	active := s.Active()
	if active == nil {
		return authz.Grant{}, authz.Revision{}, fmt.Errorf("no release is active: %w", ErrNotFound)
	}
	now := s.Now().UTC()
	g := authz.Grant{
		ID: "grt-" + strings.ToLower(s.NewID()), Tenant: spec.Tenant, Uses: spec.Uses, Reason: spec.Reason,
		Source: "manual:" + actor.Name, CreatedBy: actor.Name, CreatedAt: now,
	}
	var err error
	if g.Validity, err = s.validity(spec.Validity, now); err != nil {
		return authz.Grant{}, authz.Revision{}, err
	}
	if err := checkGrantSpec(spec); err != nil {
		return authz.Grant{}, authz.Revision{}, err
	}
	if g.Satisfies, err = s.ruleRefs(ctx, actor, active, spec.Tenant, spec.Satisfies, "/satisfies", authz.Review); err != nil {
		return authz.Grant{}, authz.Revision{}, err
	}
	if g.Waives, err = s.ruleRefs(ctx, actor, active, spec.Tenant, spec.Waives, "/waives", authz.Deny); err != nil {
		return authz.Grant{}, authz.Revision{}, err
	}
	digest, err := active.RequestDigest(spec.Request)
	if err != nil {
		return authz.Grant{}, authz.Revision{}, err
	}
	g.Requests = []string{digest}
	g.Request = active.Masked(spec.Request)
	revision, err := s.change(ctx, actor, auditEntry{"grant.mint", g.Tenant, "grant:" + g.ID, g}, func(tx Tx) error {
		// A release that this node has not met yet could have changed a named
		// rule, and then has ended the grants there were: not this one.
		if err := decidesBy(tx, active.Number()); err != nil {
			return err
		}
		if err := s.apart(ctx, tx, actor, spec); err != nil {
			return err
		}
		return put(tx, KindGrant, g.ID, g.Tenant, now, g)
	})
	return g, revision, err
}

// decidesBy refuses, with ErrVersion, another release than the one that server
// nodes should decide by.
func decidesBy(tx Tx, number uint64) error {
	head, err := tx.Head()
	if err != nil {
		return err
	}
	r, err := rolloutOf(tx)
	if err != nil {
		return err
	}
	if r.NodeTarget(head.Release) != number {
		return fmt.Errorf("release %d was published meanwhile: %w", head.Release, ErrVersion)
	}
	return nil
}

func checkGrantSpec(spec GrantSpec) error {
	switch {
	case len(spec.Satisfies)+len(spec.Waives) == 0:
		return field("/satisfies", "name at least one rule in satisfies or waives")
	case len(spec.Satisfies)+len(spec.Waives) > 64:
		return field("/satisfies", "at most 64 rules")
	case spec.Uses < 0 || spec.Uses > 1_000_000:
		return field("/uses", "want 1 to 1000000, or leave it out for no count")
	case strings.TrimSpace(spec.Reason) == "":
		return field("/reason", "required: it is what the audit shows")
	case spec.Request.Tenant != spec.Tenant:
		return field("/request/tenant", "must be the grant's tenant, %q", spec.Tenant)
	}
	return spec.Request.Validate()
}

// apart keeps the hand that grants from the hand that uses: the actor is not
// the subject, neither acts for the other, both do not act for a third, and the
// actor could not ask in the subject's name, with whatever token.
func (s *Service) apart(ctx context.Context, tx Tx, actor Actor, spec GrantSpec) error {
	name := SubjectName(spec.Request.Subject.Type, spec.Request.Subject.ID)
	refuse := func(why string) error {
		return fmt.Errorf("a grant for %s cannot be minted by %s, %s: %w", name, actor.Name, why, ErrForbidden)
	}
	if actor.Name == name {
		return refuse("its own subject")
	}
	mine, err := actsFor(tx, actor.Tenant, actor.Name)
	if err != nil {
		return err
	}
	theirs, err := actsFor(tx, spec.Tenant, name)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(theirs, func(n string) bool { return slices.Contains(mine, n) }) {
		return refuse("which acts for it or has it act")
	}
	switch err := actor.Could(ctx, "decide.on_behalf", rightsTenant(spec.Tenant)); {
	case err == nil:
		return refuse("which may ask on its behalf (decide.on_behalf)")
	case !errors.Is(err, ErrForbidden): // not knowing is no no
		return err
	default:
		return nil
	}
}

// actsFor lists a subject, its owner, the owner's owner and so on. Owners may
// go round in a circle: nothing keeps two subjects from naming each other.
func actsFor(tx Tx, tenant, name string) ([]string, error) {
	var line []string
	for name != "" && !slices.Contains(line, name) {
		line = append(line, name)
		sub, err := get[Subject](tx, KindSubject, subjectKey(tenant, name))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		name = sub.Owner
	}
	return line, nil
}

func (s *Service) ruleRefs(ctx context.Context, actor Actor, active Candidate, tenant string, names []string, path string, effect authz.Effect) ([]authz.RuleRef, error) {
	refs := make([]authz.RuleRef, 0, len(names))
	for i, name := range names {
		at := fmt.Sprintf("%s/%d", path, i)
		info, ok := active.Rule(name)
		switch {
		case !ok || info.Tenant != "" && info.Tenant != tenant:
			return nil, field(at, "no rule %q in the active release", name)
		case !info.Finding || info.Effect != effect:
			return nil, field(at, "rule %q is not a %s rule", name, effect)
		case effect == authz.Deny && !info.Waivable:
			return nil, field(at, "rule %q is not waivable", name)
		case slices.ContainsFunc(refs, func(r authz.RuleRef) bool { return r.Rule == name }):
			return nil, field(at, "rule %q is named twice", name)
		}
		if info.Tenant == "" || info.Platform {
			if err := actor.May(ctx, "platform.grant.mint", Platform); err != nil {
				return nil, fmt.Errorf("rule %s is the platform's: %w", name, err)
			}
		}
		refs = append(refs, authz.RuleRef{Rule: name, Digest: info.Digest})
	}
	return refs, nil
}

// validity fills in the start and holds the ceiling.
func (s *Service) validity(v authz.Validity, now time.Time) (authz.Validity, error) {
	if v.Start.IsZero() {
		v.Start = now
	}
	switch {
	case v.End.IsZero():
		return v, field("/validity/end", "required")
	case !v.End.After(v.Start):
		return v, field("/validity/end", "must be after the start")
	case !v.End.After(now):
		return v, field("/validity/end", "is past")
	case v.End.Sub(v.Start) > s.Ceiling || v.End.Sub(now) > s.Ceiling+s.Ceiling:
		return v, field("/validity/end", "at most %s after the start", s.Ceiling)
	}
	return authz.Validity{Start: v.Start.UTC(), End: v.End.UTC()}, nil
}

// RestrictionSpec is what a caller may say of a restriction.
type RestrictionSpec struct {
	Tenant   string
	Rules    []authz.RestrictionRule
	Validity authz.Validity
	Reason   string
}

// CreateRestriction makes a restriction. Needs restriction.create.
func (s *Service) CreateRestriction(ctx context.Context, actor Actor, spec RestrictionSpec) (authz.Restriction, authz.Revision, error) {
	if err := actor.May(ctx, "restriction.create", rightsTenant(spec.Tenant)); err != nil {
		return authz.Restriction{}, authz.Revision{}, err
	}
	now := s.Now().UTC()
	r := authz.Restriction{
		ID: "rst-" + strings.ToLower(s.NewID()), Tenant: spec.Tenant, Platform: actor.Tenant == "", Rules: spec.Rules, Reason: spec.Reason,
		Source: "manual:" + actor.Name, CreatedBy: actor.Name, CreatedAt: now,
	}
	var err error
	if r.Validity, err = s.validity(spec.Validity, now); err != nil {
		return authz.Restriction{}, authz.Revision{}, err
	}
	if strings.TrimSpace(spec.Reason) == "" {
		return authz.Restriction{}, authz.Revision{}, field("/reason", "required: it is what the audit shows")
	}
	if len(spec.Rules) == 0 || len(spec.Rules) > 64 {
		return authz.Restriction{}, authz.Revision{}, field("/rules", "want 1 to 64 rules")
	}
	if err := s.CheckRestriction(r); err != nil {
		return authz.Restriction{}, authz.Revision{}, err
	}
	revision, err := s.change(ctx, actor, auditEntry{"restriction.create", r.Tenant, "restriction:" + r.ID, r}, func(tx Tx) error {
		if err := tenantExists(tx, r.Tenant); err != nil {
			return err
		}
		return put(tx, KindRestriction, r.ID, r.Tenant, now, r)
	})
	return r, revision, err
}

// Ended says who has not heard of the end of a grant or restriction.
type Ended struct {
	ID string `json:"id"`
	// Unacknowledged are PEPs that serve the tenant and may still count it: the
	// first of them, More is how many there are beside. Nil where the PEPs
	// could not be read; then nobody is known to have heard of it.
	Unacknowledged []Missing `json:"unacknowledged"`
	More           int       `json:"unacknowledged_more,omitempty"`
}

// EndDynamic revokes a grant or lifts a restriction. Needs dynamic.revoke, and
// for a grant that names a platform rule platform.grant.mint is not asked:
// closing needs less than opening; lifting a restriction opens, so it needs
// restriction.create too, and where the platform made it, on the platform.
//
// It waits, at most so long, until the connected PEPs that serve the tenant
// have acknowledged it, and says which may count it yet and until when.
func (s *Service) EndDynamic(ctx context.Context, actor Actor, id, reason string, wait time.Duration) (Ended, authz.Revision, error) {
	kind, err := dynamicKind(id)
	if err != nil {
		return Ended{}, authz.Revision{}, err
	}
	tenant, err := s.tenantOf(ctx, kind, id)
	if err != nil {
		return Ended{}, authz.Revision{}, err
	}
	if err := actor.May(ctx, "dynamic.revoke", rightsTenant(tenant)); err != nil {
		return Ended{}, authz.Revision{}, hide(actor, tenant, err)
	}
	if kind == KindRestriction {
		if err := s.mayLift(ctx, actor, id); err != nil {
			return Ended{}, authz.Revision{}, err
		}
	}
	now := s.Now().UTC()
	var end time.Time // when it would have ended anyway
	revision, err := s.change(ctx, actor, auditEntry{string(kind) + ".end", tenant, string(kind) + ":" + id, map[string]any{"reason": reason}}, func(tx Tx) error {
		end, err = endIn(tx, kind, id, tenant, actor.Name+": "+reason, now)
		return err
	})
	if revision.IsZero() {
		return Ended{}, revision, err
	}
	ended := Ended{ID: id}
	unheard, unheardErr := s.unheard(ctx, actor, ending{kind, tenant, now, end, revision}, wait)
	if unheardErr == nil {
		ended.Unacknowledged, ended.More = unheard.Unacknowledged, unheard.More
	}
	return ended, revision, errors.Join(err, unheardErr)
}

// endIn ends a grant or restriction that has not ended, and returns when it
// would have.
func endIn(tx Tx, kind Kind, id, tenant, why string, now time.Time) (time.Time, error) {
	if kind == KindGrant {
		g, err := get[authz.Grant](tx, kind, id)
		if err != nil || g.Ended != nil {
			return g.Validity.End, err
		}
		g.Ended, g.EndedReason = &now, "revoked by "+why
		return g.Validity.End, putEnded(tx, &g, now)
	}
	r, err := get[authz.Restriction](tx, kind, id)
	if err != nil || r.Ended != nil {
		return r.Validity.End, err
	}
	r.Ended, r.EndedReason = &now, "lifted by "+why
	return r.Validity.End, put(tx, kind, id, tenant, now, r)
}

func (s *Service) mayLift(ctx context.Context, actor Actor, id string) error {
	var r authz.Restriction
	err := s.Store.View(ctx, func(tx Tx) (err error) {
		r, err = get[authz.Restriction](tx, KindRestriction, id)
		return err
	})
	if err != nil {
		return err
	}
	where := r.Tenant
	if r.Platform {
		where = Platform
	}
	return actor.May(ctx, "restriction.create", rightsTenant(where))
}

func dynamicKind(id string) (Kind, error) {
	switch {
	case strings.HasPrefix(id, "grt-"):
		return KindGrant, nil
	case strings.HasPrefix(id, "rst-"):
		return KindRestriction, nil
	default:
		return "", fmt.Errorf("dynamic policy %q: %w", id, ErrNotFound)
	}
}

// Grants lists a tenant's grants, Restrictions its restrictions.
func (s *Service) Grants(ctx context.Context, actor Actor, tenant, after string, limit int) (Page[authz.Grant], error) {
	if err := actor.May(ctx, "dynamic.read", rightsTenant(tenant)); err != nil {
		return Page[authz.Grant]{}, err
	}
	return list[authz.Grant](ctx, s, KindGrant, tenant, after, limit)
}

// Restrictions lists a tenant's restrictions.
func (s *Service) Restrictions(ctx context.Context, actor Actor, tenant, after string, limit int) (Page[authz.Restriction], error) {
	if err := actor.May(ctx, "dynamic.read", rightsTenant(tenant)); err != nil {
		return Page[authz.Restriction]{}, err
	}
	return list[authz.Restriction](ctx, s, KindRestriction, tenant, after, limit)
}

// Dynamic returns one grant or restriction as its JSON.
func (s *Service) Dynamic(ctx context.Context, actor Actor, id string) (json.RawMessage, error) {
	kind, err := dynamicKind(id)
	if err != nil {
		return nil, err
	}
	var record Record
	err = s.Store.View(ctx, func(tx Tx) error {
		record, err = tx.Record(kind, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := actor.May(ctx, "dynamic.read", rightsTenant(record.Tenant)); err != nil {
		return nil, hide(actor, record.Tenant, err)
	}
	return record.Body, nil
}

// CountUses takes one use of each grant under useKey, all or none, and returns
// those that have none left or have ended. The same useKey counts once.
func (s *Service) CountUses(ctx context.Context, grants []*authz.Grant, useKey string) (spent []string, err error) {
	errSpent := errors.New("spent")
	err = s.Store.Update(ctx, func(tx Tx) error {
		spent = spent[:0]
		for _, g := range grants {
			newest, err := get[authz.Grant](tx, KindGrant, g.ID)
			if err != nil {
				return err
			}
			counted := false
			if newest.Live(s.Now()) {
				if counted, err = tx.UseGrant(g.ID, useKey, newest.Uses); err != nil {
					return err
				}
			}
			if !counted {
				spent = append(spent, g.ID)
			} else if err := usedUp(tx, &newest); err != nil {
				return err
			}
		}
		if len(spent) > 0 {
			return errSpent
		}
		return nil
	})
	if errors.Is(err, errSpent) {
		return spent, nil
	}
	return nil, err
}

// SpentUses returns the grants that have no use left or have ended, and counts
// nothing.
func (s *Service) SpentUses(ctx context.Context, grants []*authz.Grant) (spent []string, err error) {
	err = s.Store.View(ctx, func(tx Tx) error {
		spent = spent[:0]
		for _, g := range grants {
			newest, err := get[authz.Grant](tx, KindGrant, g.ID)
			if err != nil {
				return err
			}
			uses, err := tx.GrantUses(GrantUse{Grant: g.ID}, newest.Uses)
			if err != nil {
				return err
			}
			taken := slices.IndexFunc(uses, func(u GrantUse) bool { return u.Grant != g.ID })
			if taken < 0 {
				taken = len(uses)
			}
			if !newest.Live(s.Now()) || taken >= newest.Uses {
				spent = append(spent, g.ID)
			}
		}
		return nil
	})
	return spent, err
}
