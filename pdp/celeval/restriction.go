package celeval

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// maxRestrictionRules bounds one restriction.
const maxRestrictionRules = 100

// CompileRestriction compiles the rules of a restriction (X10) into a program
// with one policy, dynamic/<id>, in one tenant. Rules deny or ask for review,
// nothing else. They see no tables, and their reads name every property, since
// a restriction outlives the release whose attributes it was written under.
// Errors are [*authz.FieldError]s whose paths begin at the restriction.
func (c *Compiler) CompileRestriction(id, tenant string, rules []authz.RestrictionRule) (pdp.Program, error) {
	if c.err != nil {
		return nil, c.err
	}
	if err := cleanName(id); id == "" || err != nil {
		return nil, &authz.FieldError{Path: "/id", Detail: fmt.Sprintf("%q: want letters, digits, and ._- after the first", id)}
	}
	if err := authz.ValidTenant(tenant); err != nil {
		return nil, &authz.FieldError{Path: "/tenant", Detail: err.Error()}
	}
	if len(rules) == 0 || len(rules) > maxRestrictionRules {
		return nil, &authz.FieldError{Path: "/rules", Detail: fmt.Sprintf("%d rules; a restriction has 1 to %d", len(rules), maxRestrictionRules)}
	}
	policy := &pdp.Policy{
		ID: "dynamic/" + id, Layer: pdp.LayerDynamic, Tenant: tenant, Language: "cel", File: "dynamic/" + id,
		Title: pdp.Text{EN: "Restriction " + id, ZH: "限制 " + id},
	}
	written := []string{policy.ID, tenant}
	for _, r := range rules {
		written = append(written, r.ID, r.Condition, r.Effect.String(), r.Message, r.MessageZH)
	}
	var compiled []*rule
	for i, text := range rules {
		r, reads, err := c.restrictionRule(text, i)
		if err == nil && slices.ContainsFunc(policy.Rules, func(other *pdp.Rule) bool { return other.ID == r.ID }) {
			err = &authz.FieldError{Path: "/id", Detail: fmt.Sprintf("%q is already another rule's", r.ID)}
		}
		if err != nil {
			return nil, &authz.FieldError{Path: "/rules/" + strconv.Itoa(i) + err.Path, Detail: err.Detail}
		}
		r.File = policy.File
		r.Digest = digest(append([]string{"restriction", r.ID}, written...)...)
		policy.Rules = append(policy.Rules, r.Rule)
		policy.Reads = append(policy.Reads, reads...)
		compiled = append(compiled, r)
	}
	slices.Sort(policy.Reads)
	policy.Reads = slices.Compact(policy.Reads)
	p := &program{}
	p.add(policy, compiled)
	return p, nil
}

// restrictionRule returns an error whose path begins at the rule.
func (c *Compiler) restrictionRule(text authz.RestrictionRule, i int) (*rule, []string, *authz.FieldError) {
	r := &rule{Rule: &pdp.Rule{
		ID:      text.ID,
		Title:   pdp.Text{EN: "Restriction", ZH: "限制"},
		Message: pdp.Text{EN: text.Message, ZH: text.MessageZH},
	}}
	if r.ID == "" {
		r.ID = fmt.Sprintf("rule_%d", i+1)
	}
	if r.Message == (pdp.Text{}) {
		r.Message = pdp.Text{EN: "A restriction is in force.", ZH: "一项限制正在生效。"}
	}
	switch text.Effect {
	case authz.Deny:
		r.Kind = pdp.KindDeny
	case authz.Review:
		r.Kind = pdp.KindReview
	default:
		return nil, nil, &authz.FieldError{Path: "/effect", Detail: "a restriction denies or asks for review; it never allows"}
	}
	if err := cleanName(r.ID); err != nil {
		return nil, nil, &authz.FieldError{Path: "/id", Detail: fmt.Sprintf("%q: %v", r.ID, err)}
	}
	if authz.ReservedRule(r.ID) {
		return nil, nil, &authz.FieldError{Path: "/id", Detail: fmt.Sprintf("%q: the decision core speaks under this name", r.ID)}
	}
	reads, err := messageReads(r.Message)
	if err != nil {
		return nil, nil, &authz.FieldError{Path: "/message", Detail: err.Error()}
	}
	if strings.TrimSpace(text.Condition) == "" {
		return nil, nil, &authz.FieldError{Path: "/condition", Detail: "required and not empty"}
	}
	condition, flaws := compileCondition(c.restrictions, text.Condition)
	if len(flaws) > 0 {
		return nil, nil, &authz.FieldError{Path: "/condition", Detail: fmt.Sprintf("line %d: %s", flaws[0].line, flaws[0].message)}
	}
	r.condition = condition
	return r, append(reads, condition.reads...), nil
}
