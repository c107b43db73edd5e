package approvals

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// newly computes what a yes newly allows: the request, or where members are to
// be left open, every combination of the values that all templates offer, each
// decided without the grant and with it. The digests are what the grant is
// bound to, so that it opens nothing that was not decided here.
func (d *Desk) newly(ctx context.Context, o *pdp.Obstacles, open []string) (digests []string, newly []cheq.Combination, err error) {
	choices, err := d.choices(o, open)
	if err != nil {
		return nil, nil, err
	}
	var requests []authz.Request
	for _, chosen := range choices {
		req, err := choose(o.Asked, chosen)
		if err != nil {
			return nil, nil, &cheq.NotAskableError{Rule: o.Rules[0].Name, Detail: err.Error()}
		}
		digest := o.Digest
		if len(chosen) > 0 {
			found, err := o.Snapshot.RequestDigest(req, d.Now())
			if err != nil {
				return nil, nil, fmt.Errorf("a combination of open members: %w", err)
			}
			digest = found.String()
		}
		if slices.Contains(digests, digest) {
			continue // the request itself, or a member that no digest covers
		}
		requests, digests, newly = append(requests, req), append(digests, digest), append(newly, cheq.Combination{Values: chosen})
	}
	with := opened(o, digests, d.Now())
	for i, req := range requests {
		before, _, err := d.PDP.Evaluate(ctx, o.Snapshot, req, false)
		if err != nil {
			return nil, nil, fmt.Errorf("decide what a yes would change: %w", err)
		}
		after, _, err := d.PDP.Evaluate(ctx, with, req, false)
		if err != nil {
			return nil, nil, fmt.Errorf("decide what a yes would change: %w", err)
		}
		newly[i].Before, newly[i].After = before.Effect, after.Effect
	}
	return digests, newly, nil
}

// choices are the combinations that every template in the way offers, after
// the request itself.
func (d *Desk) choices(o *pdp.Obstacles, open []string) (all [][]cheq.Choice, err error) {
	all = [][]cheq.Choice{nil}
	if len(open) == 0 {
		return all, nil
	}
	var offered [][]cheq.Choice
	for i, rule := range o.Rules {
		t, _ := d.templates.of(o.Snapshot.Release, rule.Rule.Template)
		if t == nil {
			return nil, &cheq.NotAskableError{Rule: rule.Name, Detail: "it names no approval template: nobody can be asked"}
		}
		combinations, err := t.Combinations(open)
		if err != nil {
			return nil, &cheq.NotAskableError{Rule: rule.Name, Detail: err.Error()}
		}
		if i > 0 && !slices.EqualFunc(offered, combinations, func(a, b []cheq.Choice) bool { return slices.Equal(a, b) }) {
			return nil, &cheq.NotAskableError{Rule: rule.Name, Detail: "its template offers other values than that of " + o.Rules[0].Name}
		}
		offered = combinations
	}
	return append(all, offered...), nil
}

// opened is the snapshot as it would be with the grant.
func opened(o *pdp.Obstacles, digests []string, now time.Time) *pdp.Snapshot {
	g := &authz.Grant{ID: "grt-", Tenant: o.Asked.Tenant, Requests: digests, CreatedAt: now, Validity: authz.Validity{Start: now, End: now.Add(time.Hour)}}
	for _, rule := range o.Rules {
		ref := authz.RuleRef{Rule: rule.Name, Digest: rule.Rule.Digest.String()}
		if rule.Effect == authz.Review {
			g.Satisfies = append(g.Satisfies, ref)
		} else {
			g.Waives = append(g.Waives, ref)
		}
	}
	with := *o.Snapshot
	with.Dynamic = o.Snapshot.Dynamic.With(pdp.DynamicChange{Grants: []*authz.Grant{g}}, now)
	return &with
}

// choose returns the request with members replaced, which must be there.
func choose(req authz.Request, chosen []cheq.Choice) (authz.Request, error) {
	for _, c := range chosen {
		place, steps := &req.Context, strings.Split(strings.TrimPrefix(c.Path, "/"), "/")
		switch {
		case len(steps) > 2 && steps[0] == "resource" && steps[1] == "properties":
			place, steps = &req.Resource.Properties, steps[2:]
		case len(steps) > 1 && steps[0] == "context":
			steps = steps[1:]
		default:
			return req, fmt.Errorf("%s: only members of the resource's properties and of the context can be left open", c.Path)
		}
		replaced, err := replace(*place, steps, c.Value)
		if err != nil {
			return req, fmt.Errorf("%s: %w", c.Path, err)
		}
		*place = replaced
	}
	return req, nil
}

// replace gives a member another text, or another number where it is one.
func replace(v authz.Value, steps []string, text string) (authz.Value, error) {
	if len(steps) == 0 {
		switch v.Kind() {
		case authz.KindString:
			return authz.StringValue(text), nil
		case authz.KindInt, authz.KindFloat:
			number, err := authz.Parse([]byte(text))
			if err == nil && (number.Kind() == authz.KindInt || number.Kind() == authz.KindFloat) {
				return number, nil
			}
		}
		return v, fmt.Errorf("a %s of the request cannot be replaced by %q", v.Kind(), text)
	}
	member, ok := v.Get(steps[0])
	if v.Kind() != authz.KindObject || !ok {
		return v, fmt.Errorf("the request has no such member")
	}
	replaced, err := replace(member, steps[1:], text)
	return v.With(steps[0], replaced), err
}
