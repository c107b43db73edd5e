package pdp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// combination turns the outcomes of all applicable policies into one decision,
// by the numbered rules of docs/semantics.md. It depends on the set of outcomes, not
// on their order.
type combination struct {
	question    *question // for its digest, when a grant might count
	in          *Input
	outcomes    []Outcome
	dynamic     *Dynamic
	obligations *obligationSchema
	// spent are counted grants that have no use left for this request.
	spent []string
	// noGrants says that no grant counts now, outlived that a stale bound is over.
	noGrants, outlived bool
	latest             time.Time // what time it may be at most; zero: in.Now
	messages           *filling
	closed             *authz.Reason // a DENY of the core's own; nil: none
}

// combined is a decision and the counted grants it rests on.
type combined struct {
	authz.Decision
	counted []*authz.Grant
}

func (c *combination) combine() combined {
	var d combined
	d.Reasons = make([]authz.Reason, 0, c.reasons()) // messages point into it
	var denied, allowed, pending, admitted bool
	for i := range c.outcomes {
		o := &c.outcomes[i]
		// 1. A policy that applies and failed denies.
		if o.Err != nil {
			d.Reasons = append(d.Reasons, errorReason(o))
			denied = true
		}
		for _, f := range o.Findings {
			grant := ""
			switch f.Rule.Kind {
			case KindDeny: // 2. A DENY that no live grant waives.
				if f.Rule.Waivable {
					grant = d.use(c.grant(o.Policy, f.Rule))
				}
				denied = denied || grant == ""
			case KindReview: // 3. and 4. A REVIEW, satisfied or not.
				grant = d.use(c.grant(o.Policy, f.Rule))
				pending = pending || grant == ""
				admitted = admitted || f.Rule.Admits
			case KindAllow:
				if c.unplaced(o.Policy) {
					continue
				}
				allowed = true
			default:
				continue
			}
			d.Reasons = c.appendReason(d.Reasons, o.Policy, f, grant)
		}
	}
	c.messages.done()
	denied = c.gather(&d.Decision) || denied
	if c.outlived { // Nothing waives this.
		d.Reasons = append(d.Reasons, coreReason(authz.RuleStaleBound,
			"The source of the policies has not been heard for longer than they allow.", "策略来源失联已超过策略允许的时限。"))
		denied = true
	}
	if c.closed != nil {
		d.Reasons = append(d.Reasons, *c.closed)
		denied = true
	}
	if !allowed && !admitted { // 3. Nobody is asked for what a yes could not open.
		d.Reasons = append(d.Reasons, coreReason(authz.RuleNoAllow, "No policy allows this request.", "没有策略允许该请求。"))
		denied = true
	}
	switch {
	case denied:
		d.Effect = authz.Deny
	case pending:
		d.Effect = authz.Review
	default:
		d.Effect = authz.Allow
	}
	if d.Effect != authz.Allow {
		d.Approval = nil
	}
	slices.SortFunc(d.Reasons, compareReasons)
	return d
}

// reasons is how many there will be at most, but for what outlived its source
// and conflicts.
func (c *combination) reasons() int {
	n, opens := 0, false
	for i := range c.outcomes {
		o := &c.outcomes[i]
		n += len(o.Findings)
		if o.Err != nil {
			n++
		}
		for _, f := range o.Findings {
			opens = opens || f.Rule.Kind == KindAllow || f.Rule.Kind == KindReview && f.Rule.Admits
		}
	}
	if !opens {
		n++ // no_allow
	}
	return n
}

// use notes a counted grant and returns the grant's id, or "" for none.
func (d *combined) use(g *authz.Grant) string {
	if g == nil {
		return ""
	}
	if g.Uses > 0 && !slices.Contains(d.counted, g) {
		d.counted = append(d.counted, g)
	}
	d.cite(g)
	return g.ID
}

// cite names the case whose grant opens, of several the one that ends first.
func (d *combined) cite(g *authz.Grant) {
	id, ok := g.Case()
	if !ok {
		return
	}
	broken := g.BreakGlass || d.Approval != nil && d.Approval.BreakGlass
	if d.Approval == nil || g.Validity.End.Before(d.Approval.ExpiresAt) {
		d.Approval = &authz.Approval{ID: id, Status: authz.ApprovalApproved, ExpiresAt: g.Validity.End}
	}
	d.Approval.BreakGlass = broken
}

// grant returns a live grant that opens the rule for this request, preferring
// one that is not counted.
func (c *combination) grant(p *Policy, rule *Rule) *authz.Grant {
	if c.noGrants || !c.dynamic.hasGrants(c.in.Request.Tenant) {
		return nil
	}
	name := p.ID + "/" + rule.ID
	if !c.dynamic.names(c.in.Request.Tenant, name) {
		return nil
	}
	digest, err := c.question.requestDigest()
	if err != nil {
		return nil
	}
	var counted *authz.Grant
	for _, g := range c.dynamic.grantsFor(c.in.Request.Tenant, digest) {
		refs := g.Satisfies
		if rule.Kind == KindDeny {
			refs = g.Waives
		}
		if !g.Live(c.in.Now) || !c.latest.IsZero() && !g.Live(c.latest) || !covers(refs, name, rule.Digest) || slices.Contains(c.spent, g.ID) {
			continue
		}
		if g.Uses == 0 {
			return g
		}
		if counted == nil {
			counted = g
		}
	}
	return counted
}

// unplaced reports whether the policy is scoped to a business system that the
// request does not name: it may close then, but not open.
func (c *combination) unplaced(p *Policy) bool {
	return p.Scope.BusinessSystem != "" && businessSystem(c.in.Request) == ""
}

// appendReason leaves the messages to be done.
func (c *combination) appendReason(reasons []authz.Reason, p *Policy, f Finding, grant string) []authz.Reason {
	effect, _ := f.Rule.Kind.Effect() // findings are of the three kinds that have one
	reasons = append(reasons, authz.Reason{
		Policy: p.ID, Rule: f.Rule.ID, Effect: effect, Path: f.Path, Severity: f.Rule.Severity, Grant: grant,
	})
	r := &reasons[len(reasons)-1]
	c.messages.text(&r.Message, f.Rule.Message.EN, f.Args, c.in.Value)
	c.messages.text(&r.MessageZH, f.Rule.Message.ZH, f.Args, c.in.Value)
	return reasons
}

func errorReason(o *Outcome) authz.Reason {
	location := o.Err.File
	if o.Err.Line > 0 {
		location = fmt.Sprintf("%s:%d", o.Err.File, o.Err.Line)
	}
	return authz.Reason{
		Policy:     o.Policy.ID,
		Rule:       authz.RuleEvaluationError,
		Effect:     authz.Deny,
		Message:    o.Err.Message,
		MessageZH:  "策略无法求值：" + o.Err.Message,
		Severity:   "critical",
		Cause:      string(o.Err.Cause),
		Location:   location,
		FailedRule: o.Err.Rule,
	}
}

func coreReason(rule, message, messageZH string) authz.Reason {
	return authz.Reason{Rule: rule, Effect: authz.Deny, Message: message, MessageZH: messageZH, Severity: "high"}
}

// compareReasons puts what closes first.
func compareReasons(a, b authz.Reason) int {
	return cmp.Or(cmp.Compare(a.Effect, b.Effect), strings.Compare(a.Policy, b.Policy), strings.Compare(a.Rule, b.Rule),
		strings.Compare(a.Path, b.Path), strings.Compare(a.Message, b.Message))
}

// gather unites obligations, limits and routes into d and reports whether they
// conflict. Every applicable policy's contribute, with or without a finding.
func (c *combination) gather(d *authz.Decision) (conflict bool) {
	obligations, limits := 0, 0
	for i := range c.outcomes {
		obligations, limits = obligations+len(c.outcomes[i].Obligations), limits+len(c.outcomes[i].Limits)
	}
	d.Obligations, d.Limits = slices.Grow(d.Obligations, obligations), slices.Grow(d.Limits, limits)
	for i := range c.outcomes {
		d.Obligations = append(d.Obligations, c.outcomes[i].Obligations...)
		d.Limits = append(d.Limits, c.outcomes[i].Limits...)
		for _, route := range c.outcomes[i].Routes {
			switch {
			case d.Route == nil:
				d.Route = &authz.Route{Policy: route.Policy, Rule: route.Rule, Pool: route.Pool, Standby: route.Standby}
			case d.Route.Pool != route.Pool || d.Route.Standby != route.Standby:
				d.Reasons = append(d.Reasons, coreReason(authz.RuleRouteConflict, "Two policies name different routes.", "两条策略给出了不同的路由。"))
				conflict = true
			case route.Policy+"/"+route.Rule < d.Route.Policy+"/"+d.Route.Rule:
				d.Route.Policy, d.Route.Rule = route.Policy, route.Rule
			}
		}
	}
	if conflict {
		d.Route = nil
		d.Reasons = slices.CompactFunc(d.Reasons, func(a, b authz.Reason) bool {
			return a.Rule == authz.RuleRouteConflict && b.Rule == authz.RuleRouteConflict
		})
	}
	slices.SortFunc(d.Limits, compareLimits)
	d.Limits = slices.CompactFunc(d.Limits, func(a, b authz.Limit) bool { return compareLimits(a, b) == 0 })
	for _, id := range c.obligations.unite(&d.Obligations) {
		d.Reasons = append(d.Reasons, coreReason(authz.RuleObligationConflict,
			"Two policies ask for obligation "+id+" with different parameters.", "两条策略对义务 "+id+" 的参数要求不一致。"))
		conflict = true
	}
	return conflict
}

func compareLimits(a, b authz.Limit) int {
	qa, qb := authz.Quota{}, authz.Quota{}
	if a.Quota != nil {
		qa = *a.Quota
	}
	if b.Quota != nil {
		qb = *b.Quota
	}
	return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Policy, b.Policy), strings.Compare(a.Rule, b.Rule),
		cmp.Compare(a.Rate, b.Rate), cmp.Compare(a.Burst, b.Burst), strings.Compare(a.Window, b.Window),
		cmp.Compare(qa.Max, qb.Max), strings.Compare(qa.Reset, qb.Reset), cmp.Compare(a.Cost, b.Cost))
}
