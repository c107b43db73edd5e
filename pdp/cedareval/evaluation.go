package cedareval

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// evaluation is one request on its way through the program.
type evaluation struct {
	ctx      context.Context
	program  *program
	in       *pdp.Input
	outcomes []pdp.Outcome // one per policy that is asked
	hits     []int         // nil: coverage is not asked for
	parties  parties
	noRoles  bool // the roles property is not a list of strings
	work     int  // see maxSetWork
	over     bool // the budget is spent
	scratch
}

func (e *evaluation) run() {
	if e.ctx.Err() != nil {
		e.failAll(pdp.CauseBudgetSpent, "the time for this decision was over before the policy was asked")
		return
	}
	if err := e.identify(); err != nil {
		e.failAll(pdp.CauseUnsupportedValue, err.Error())
		return
	}
	e.enlist()
	for len(e.units) > 0 { // twice where self policies are asked together with others
		schema := e.units[0].schema
		e.here = e.here[:0]
		e.units = slices.DeleteFunc(e.units, func(u *unit) bool {
			if u.schema == schema {
				e.here = append(e.here, u)
			}
			return u.schema == schema
		})
		e.ask(schema)
	}
}

// identify maps the request's names to Cedar's.
func (e *evaluation) identify() error {
	req := e.in.Request
	principal, err := e.entityType(0, "subject", req.Subject.Type)
	if err != nil {
		return err
	}
	if principal == roleType {
		// It would be in the role of its own name: in is reflexive.
		return fmt.Errorf("subject type %q is reserved: roles are what subjects have", roleType)
	}
	resource, err := e.entityType(1, "resource", req.Resource.Type)
	if err != nil {
		return err
	}
	for _, name := range []string{tenantMember, nowMember} {
		if _, supplied := req.Context.Get(name); supplied {
			return fmt.Errorf("context member %q is reserved: the server says what it is", name)
		}
	}
	e.parties = parties{
		principal: party{uid: types.NewEntityUID(principal, types.String(req.Subject.ID))},
		action:    party{uid: types.NewEntityUID(actionType, types.String(req.Action.Name))},
		resource:  party{uid: types.NewEntityUID(resource, types.String(req.Resource.ID))},
	}
	e.readRoles(req.Subject.Properties)
	return nil
}

// entityType is the function of this name for a side of the request. Requests
// that follow each other are of few types.
func (e *evaluation) entityType(side int, of, name string) (types.EntityType, error) {
	if t, known := e.names[side][name]; known {
		return t, nil
	}
	t, err := entityType(of, name)
	if err == nil {
		if len(e.names[side]) >= maxNames || e.names[side] == nil {
			e.names[side] = map[string]types.EntityType{}
		}
		e.names[side][strings.Clone(name)] = t
	}
	return t, err
}

// maxNames is how many types are kept for a side; requests can make up any.
const maxNames = 64

// entityType turns ecs.instance into ecs::instance.
func entityType(of, name string) (types.EntityType, error) {
	t, err := types.NewEntityType(strings.ReplaceAll(name, ".", "::"))
	if err != nil || strings.Contains(name, ":") { // a colon of its own would make two names one
		return "", fmt.Errorf("%s type %q has no Cedar form: want identifiers between dots, none of them a reserved word", of, name)
	}
	if t == actionType || strings.HasSuffix(string(t), "::"+string(actionType)) {
		return "", fmt.Errorf("%s type %q is reserved for actions", of, name)
	}
	return t, nil
}

// readRoles makes the subject's roles its parents.
func (e *evaluation) readRoles(properties authz.Value) {
	roles, ok := properties.Get("roles")
	if !ok {
		return
	}
	e.noRoles = roles.Kind() != authz.KindList
	for i := range roles.Len() {
		name := roles.Index(i)
		if name.Kind() != authz.KindString {
			e.noRoles = true
			continue
		}
		e.scratch.roles = append(e.scratch.roles, types.NewEntityUID(roleType, types.String(name.Text())))
	}
	e.parties.principal.ancestors = e.scratch.roles
	if e.parties.resource.uid == e.parties.principal.uid {
		e.parties.resource.ancestors = e.parties.principal.ancestors
	}
}

// enlist notes which policies are asked and which units they are in.
func (e *evaluation) enlist() {
	for i := range e.outcomes {
		asked := e.outcomes[i].Policy
		slot := asked.Slot()
		if slot >= len(e.program.policies) || e.program.policies[slot].Policy != asked {
			e.fail(&e.outcomes[i], pdp.EvaluationError{Cause: pdp.CausePolicyError, Message: "this policy is not of this Cedar program"})
			continue
		}
		e.at[slot] = int32(i + 1)
		if u := e.program.policies[slot].unit; !slices.Contains(e.units, u) {
			e.units = append(e.units, u)
		}
	}
}

// ask evaluates the policies of the units under one schema.
func (e *evaluation) ask(schema *Schema) {
	e.parties.action.ancestors = schema.groupsOf(e.parties.action.uid)
	for _, gap := range e.gather(schema) {
		e.refuse(gap)
	}
	oneEntity := e.parties.principal.uid == e.parties.resource.uid
	if oneEntity {
		e.refuseBothSides()
	}
	e.batch = e.batch[:0]
	for _, u := range e.here {
		e.candidates = u.index.find(e.candidates[:0], &e.parties)
		for i, number := range e.candidates {
			s := e.program.statements[number]
			if o := e.outcome(s.policy); o != nil && o.Err == nil && (oneEntity || !e.decideSimple(s, i)) {
				e.batch = append(e.batch, s)
			}
		}
	}
	if oneEntity {
		e.decideEach(schema)
	} else if len(e.batch) > 0 {
		e.decide(e.batch, e.environment(schema))
	}
	if e.in.Explain || e.hits != nil {
		e.inspect(schema)
	}
}

// refuse fails the policies that mention the gap.
func (e *evaluation) refuse(gap place) {
	for _, u := range e.here {
		who := u.mentions[gap.top()]
		if who == nil {
			continue
		}
		for _, p := range who.policies {
			if o := e.outcome(p); o != nil && o.Err == nil && p.hit(gap) {
				e.fail(o, pdp.EvaluationError{Cause: pdp.CauseUnsupportedValue, Message: gap.describe()})
			}
		}
	}
}

// refuseBothSides fails, where subject and resource are one entity, the policies
// that mention both sides of something on which they differ.
func (e *evaluation) refuseBothSides() {
	properties := [...]authz.Value{principalRoot: e.in.Request.Subject.Properties, resourceRoot: e.in.Request.Resource.Properties}
	for _, m := range e.kept {
		if m.root == contextRoot {
			continue
		}
		other := top{principalRoot + resourceRoot - m.root, m.name}
		if v, given := properties[other.root].Get(m.name); given && v.Equal(m.value) {
			continue
		}
		for _, u := range e.here {
			if who := u.mentions[m.top]; who != nil && u.mentions[other] != nil {
				e.refuseBoth(who.policies, other)
			}
		}
	}
}

func (e *evaluation) refuseBoth(policies []*policy, other top) {
	for _, p := range policies {
		if o := e.outcome(p); o != nil && p.mentionsTop(other) {
			e.fail(o, pdp.EvaluationError{Cause: pdp.CauseUnsupportedValue, Message: fmt.Sprintf(
				"subject and resource are the same %s and differ in %q, which the policy reads of both", e.parties.principal.uid, other.name)})
		}
	}
}

// decideSimple settles the nth statement whose scope holds, unless that takes
// cedar-go.
func (e *evaluation) decideSimple(s *statement, n int) bool {
	if n%simpleLook == simpleLook-1 {
		e.over = e.over || e.ctx.Err() != nil
	}
	if s.simple == nil || e.over {
		return false
	}
	v := s.simple(e)
	if v.Kind() != authz.KindBool {
		return false
	}
	if v.Bool() {
		e.satisfied(s)
	}
	return true
}

// simpleLook is how many simple statements are settled between looks at the
// budget.
const simpleLook = 64

// decideEach is decide where subject and resource are one entity: each policy
// sees the side that it mentions.
func (e *evaluation) decideEach(schema *Schema) {
	for rest := e.batch; len(rest) > 0; {
		p := rest[0].policy
		n := 1
		for n < len(rest) && rest[n].policy == p {
			n++
		}
		e.decide(rest[:n], e.environmentFor(schema, p))
		rest = rest[n:]
	}
}

// decide evaluates statements whose scope holds.
func (e *evaluation) decide(statements []*statement, env *environment) {
	b := batch{ctx: e.ctx, statements: statements}
	diagnostic, err := b.authorize(env)
	if err != nil && b.next < len(statements) {
		broken := statements[b.next]
		e.decide(statements[:b.next], env)
		e.fail(e.outcome(broken.policy), broken.failure(broken.rule.Line, err))
		e.decide(statements[b.next+1:], env)
		return
	}
	for _, reason := range diagnostic.Reasons {
		e.satisfied(e.program.statements[reason.Position.Offset])
	}
	for _, failed := range diagnostic.Errors {
		s := e.program.statements[failed.Position.Offset]
		e.fail(e.outcome(s.policy), s.locate(env, failed.Message))
	}
	for _, s := range statements[b.next:] {
		e.fail(e.outcome(s.policy), pdp.EvaluationError{
			Cause: pdp.CauseBudgetSpent, Rule: s.rule.ID, Line: s.rule.Line, Message: "the time for this decision was over before the rule was asked",
		})
	}
}

// satisfied notes what the statement says.
func (e *evaluation) satisfied(s *statement) {
	o := e.outcome(s.policy)
	o.Findings = append(o.Findings, s.finding(e.in))
	if s.obligation != nil {
		obligation := *s.obligation
		obligation.Policy, obligation.Rule = s.policy.ID, s.rule.ID
		o.Obligations = append(o.Obligations, obligation)
	}
}

// outcome returns where a policy's answer goes, nil where it is not asked.
func (e *evaluation) outcome(p *policy) *pdp.Outcome {
	if at := e.at[p.Slot()]; at > 0 {
		return &e.outcomes[at-1]
	}
	return nil
}

// fail notes an error; a policy keeps its first.
func (e *evaluation) fail(o *pdp.Outcome, err pdp.EvaluationError) {
	if o.Err != nil {
		return
	}
	err.File = o.Policy.File
	if err.Line == 0 {
		err.Line = 1
	}
	o.Err = &err
}

func (e *evaluation) failAll(cause pdp.Cause, message string) {
	for i := range e.outcomes {
		e.fail(&e.outcomes[i], pdp.EvaluationError{Cause: cause, Message: message})
	}
}
