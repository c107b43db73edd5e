package changes

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What is replayed: the newest decisions, so many and for so long.
const (
	replayDays   = 7
	replayMost   = 10_000
	replayWithin = 5 * time.Second
	replayPage   = 500
)

// flips decides recorded requests again, by what is in force and by the
// candidate, both as of now. It has no effect.
func (d *Desk) flips(ctx context.Context, active, candidate *pdp.Snapshot, changes []bundles.Change) (cheq.Flips, error) {
	f := cheq.Flips{Days: replayDays}
	changed := changedPolicies(active.Release, candidate.Release, changes)
	filter := pap.AuditFilter{Kind: authz.AuditDecision, Tenant: tenantOf(changes), From: d.config.Now().Add(-replayDays * 24 * time.Hour)}
	if filter.Tenant == pap.Platform {
		filter.Tenant = pap.AnyTenant
	}
	ctx, stop := context.WithTimeout(ctx, replayWithin)
	defer stop()
	for {
		page, err := d.config.Decisions.QueryAudit(ctx, filter, replayPage)
		for i := range page {
			if f.Replayed == replayMost || ctx.Err() != nil {
				break
			}
			d.replay(ctx, active, candidate, changed, &page[i], &f)
		}
		switch {
		case ctx.Err() != nil || f.Replayed == replayMost:
			f.Partial = true
			return f, nil
		case err != nil:
			return f, fmt.Errorf("read recorded decisions: %w", err)
		case len(page) < replayPage:
			return f, nil
		}
		filter.Before = page[len(page)-1].ID
	}
}

// replay counts one record.
func (d *Desk) replay(ctx context.Context, active, candidate *pdp.Snapshot, changed []*pdp.Policy, r *authz.AuditRecord, f *cheq.Flips) {
	asked, ok := r.Body.Get("request")
	if !ok {
		return // a query of data
	}
	f.Replayed++
	req, err := authz.RequestOf(asked)
	if err != nil || slices.ContainsFunc(changed, func(p *pdp.Policy) bool { return readsMasked(p, &req) }) {
		f.Unknown++
		return
	}
	before, _, err := d.config.PDP.Evaluate(ctx, active, req, false)
	if err != nil {
		f.Unknown++
		return
	}
	after, _, err := d.config.PDP.Evaluate(ctx, candidate, req, false)
	switch {
	case err != nil:
		f.Unknown++
	case before.Effect == after.Effect:
	case before.Effect == authz.Allow && after.Effect == authz.Deny:
		f.AllowToDeny++
	case before.Effect == authz.Deny && after.Effect == authz.Allow:
		f.DenyToAllow++
	default:
		f.Other++
	}
}

// changedPolicies lists the policies that are others in the candidate, of both
// sides. A change of what policies share, such as tables, may change any.
func changedPolicies(active, candidate *pdp.Release, changes []bundles.Change) []*pdp.Policy {
	if slices.ContainsFunc(changes, func(c bundles.Change) bool { return shared(c.Path) }) {
		return slices.Concat(active.Policies(), candidate.Policies())
	}
	var changed []*pdp.Policy
	for _, side := range [2][2]*pdp.Release{{active, candidate}, {candidate, active}} {
		for _, p := range side[0].Policies() {
			if !samePolicy(p, side[1]) {
				changed = append(changed, p)
			}
		}
	}
	return changed
}

// shared reports whether policies use the file without their digests covering
// it.
func shared(file string) bool {
	folder, _, _ := strings.Cut(file, "/")
	return !slices.Contains([]string{"platform", "tenants", "self", "approvals", "examples"}, folder) && path.Ext(file) != ".md"
}

func samePolicy(p *pdp.Policy, other *pdp.Release) bool {
	return len(p.Rules) > 0 && !slices.ContainsFunc(p.Rules, func(r *pdp.Rule) bool {
		same, ok := other.Rule(p.ID + "/" + r.ID)
		return !ok || same.Digest != r.Digest
	})
}

// readsMasked reports whether a policy may read what the record hides. Members
// of the context are read by their names alone; of other members that is not
// known.
func readsMasked(p *pdp.Policy, req *authz.Request) bool {
	if !takes(p, req) {
		return false
	}
	for _, of := range []authz.Value{req.Subject.Properties, req.Action.Properties, req.Resource.Properties} {
		if masked(of) {
			return true
		}
	}
	for i := range req.Context.Len() {
		if masked(req.Context.Index(i)) && slices.Contains(p.Reads, "context."+req.Context.Name(i)) {
			return true
		}
	}
	return false
}

func masked(v authz.Value) bool {
	switch v.Kind() {
	case authz.KindString:
		return v.Text() == pdp.Masked
	case authz.KindList, authz.KindObject:
		for i := range v.Len() {
			if masked(v.Index(i)) {
				return true
			}
		}
	}
	return false
}

// takes reports whether a policy may apply to a request.
func takes(p *pdp.Policy, req *authz.Request) bool {
	matches := func(patterns []string, name string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool { return pdp.MatchPattern(pattern, name) })
	}
	return p.Layer != pdp.LayerSelf && (p.Tenant == "" || p.Tenant == req.Tenant) &&
		matches(p.Scope.Actions, req.Action.Name) && matches(p.Scope.ResourceTypes, req.Resource.Type)
}

// weakens reports whether a rule that denied or held back is gone or another,
// or a recorded DENY would be an ALLOW.
func weakens(active, candidate *pdp.Release, f cheq.Flips) bool {
	return f.DenyToAllow > 0 || slices.ContainsFunc(active.Policies(), func(p *pdp.Policy) bool {
		return slices.ContainsFunc(p.Rules, func(r *pdp.Rule) bool {
			now, ok := candidate.Rule(p.ID + "/" + r.ID)
			return (r.Kind == pdp.KindDeny || r.Kind == pdp.KindReview) && (!ok || now.Digest != r.Digest)
		})
	})
}
