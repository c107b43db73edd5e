package cedareval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// policy is one compiled file.
type policy struct {
	*pdp.Policy
	text       string
	statements []*statement
	mentions   []mention
	unit       *unit
}

// compilation compiles one file.
type compilation struct {
	source *pdp.Source
	schema *Schema
	policy *policy
	ids    map[string]int // rule id → line
	faults pdp.Faults
}

func (c *compilation) fault(line int, rule, format string, args ...any) {
	c.faults = append(c.faults, pdp.Fault{
		File: c.policy.File, Line: line, Policy: c.policy.ID, Rule: rule, Message: fmt.Sprintf(format, args...),
	})
}

// faultAt is fault for an error that may know its line.
func (c *compilation) faultAt(line int, rule string, err error) {
	var placed *placedError
	if errors.As(err, &placed) {
		line = placed.line
	}
	c.fault(line, rule, "%s", err)
}

// compilePolicy reads one *.cedar file. What is wrong with it is in the faults.
// It stops between two statements when ctx ends.
func compilePolicy(ctx context.Context, source *pdp.Source, schema *Schema, file bundles.File) (*policy, pdp.Faults) {
	id := strings.TrimSuffix(file.Path, policyExtension)
	c := &compilation{source: source, schema: schema, ids: map[string]int{}, policy: &policy{
		Policy: &pdp.Policy{ID: id, Language: "cedar", File: file.Path}, text: string(file.Data),
	}}
	p := c.policy
	var err error
	if p.Layer, p.Tenant, err = pdp.PolicyPlace(id); err != nil {
		c.fault(0, "", "%v", err)
		return nil, c.faults
	}
	if !utf8.ValidString(p.text) {
		c.fault(0, "", "not valid UTF-8")
		return nil, c.faults
	}
	shape, err := outlineFile(p.text)
	if err != nil {
		c.faultAt(1, "", err)
		return nil, c.faults
	}
	if err := readMetadata(p.Policy, p.text, shape.comments); err != nil {
		c.faultAt(1, "", err)
	}
	if len(shape.statements) == 0 {
		c.fault(1, "", "no permit or forbid; a policy without rules is removed, not emptied")
	}
	analysis := newAnalysis(schema)
	for i := range shape.statements {
		if ctx.Err() != nil {
			return nil, c.faults
		}
		c.statement(analysis, &shape.statements[i])
	}
	c.unbound()
	p.mentions = analysis.mentions
	c.scope()
	return p, c.faults
}

// statement compiles one statement.
func (c *compilation) statement(a *analysis, shape *outline) {
	p := c.policy
	parsed, err := parseStatement(p.text, shape)
	if err != nil {
		c.faultAt(shape.line, "", err)
		return
	}
	declared, faults := readRule(parsed, shape)
	rule := declared.rule
	rule.File = p.File
	for _, f := range faults {
		c.fault(f.line, rule.ID, "%s", f.message)
	}
	if line, taken := c.ids[rule.ID]; taken {
		c.fault(shape.line, rule.ID, "this id is taken by the statement on line %d", line)
	} else if rule.ID != "" {
		c.ids[rule.ID] = rule.Line
	}
	if _, ok := c.source.Templates[rule.Template]; rule.Template != "" && !ok {
		c.fault(shape.annotations["template"], rule.ID, "there is no approval template %q in approvals/", rule.Template)
	}
	s := newStatement(parsed, p.text, shape)
	s.declaration, s.policy = declared, p
	if s.placeholders, err = readPlaceholders(rule.Message); err != nil {
		c.fault(cmp.Or(shape.annotations["message"], shape.line), rule.ID, "%v", err)
	}
	c.reads(a, s)
	c.validate(parsed, s)
	p.statements = append(p.statements, s)
	p.Rules = append(p.Rules, rule)
}

// reads holds the statement to the reads that the metadata declares: what is
// not declared is not fetched, and not bound by a grant.
func (c *compilation) reads(a *analysis, s *statement) {
	known := len(a.mentions)
	check := func(line int) {
		for _, m := range a.mentions[known:] {
			if need := m.top().reads(); c.mustDeclare(m.top()) && !slices.Contains(c.policy.Reads, need) {
				c.fault(line, s.rule.ID, "%s is used and not declared; add it to reads in the policy metadata", need)
			}
		}
		for _, problem := range a.problems {
			c.fault(line, s.rule.ID, "%s", problem)
		}
		known, a.problems = len(a.mentions), nil
	}
	a.scope(s.scope.principal)
	a.scope(s.scope.resource)
	check(s.rule.Line)
	for _, action := range s.scope.actions {
		if t := action.entity.Type; action.op != opAny && t != actionType && c.schema.actionEntities()[action.entity].UID != action.entity {
			c.fault(s.scopeText[1].line, s.rule.ID, "%s: a request's action is %s::\"<name>\"", action.entity, actionType)
		}
	}
	for _, condition := range s.conditions {
		a.use(condition.body)
		check(condition.line)
	}
	for _, p := range s.placeholders {
		if need := p.reads(); need != "" && c.mustDeclareName(need) && !slices.Contains(c.policy.Reads, need) {
			c.fault(s.rule.Line, s.rule.ID, "placeholder {%s} shows %s, which is not declared; add it to reads in the policy metadata", p.name, need)
		}
	}
}

// actionType is the entity type of every action.
const actionType types.EntityType = "Action"

func (c *compilation) mustDeclare(t top) bool {
	if t.root == contextRoot {
		return t.name != tenantMember && t.name != nowMember
	}
	return c.mustDeclareName(t.reads())
}

// mustDeclareName reports whether a policy that reads the attribute must say
// so: context members, the roles, and other attributes that a source supplies.
func (c *compilation) mustDeclareName(name string) bool {
	if strings.HasPrefix(name, "context.") || name == rolesPlace.top().reads() {
		return true
	}
	if c.source.Attributes == nil {
		return false
	}
	attribute, ok := c.source.Attributes.Get(name)
	return ok && (attribute.Trusted || attribute.Source != "")
}

// validate checks the statement against the schema, clause by clause where the
// scope is sound: cedar-go's validator names no places.
func (c *compilation) validate(parsed *ast.Policy, s *statement) {
	if c.schema == nil {
		return
	}
	part := *parsed
	part.Conditions = nil
	if c.validatePart(&part, s.rule.Line, s.rule.ID) {
		for i, condition := range s.conditions {
			part.Conditions = parsed.Conditions[i : i+1]
			c.validatePart(&part, condition.line, s.rule.ID)
		}
	}
}

func (c *compilation) validatePart(part *ast.Policy, line int, rule string) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			c.fault(line, rule, "the schema validator cannot take this: %v", r)
			ok = false
		}
	}()
	err := c.schema.validator.Policy("", part)
	if err == nil {
		return true
	}
	for _, e := range joined(err) {
		c.fault(line, rule, "against the schema: %v", e)
	}
	return false
}

// unbound checks that a digest leaves out only what is read.
func (c *compilation) unbound() {
	for _, name := range c.policy.Unbound {
		if !slices.Contains(c.policy.Reads, "context."+name) {
			c.fault(1, "", "unbound: context member %q is not among reads", name)
		}
	}
}

// maxScopeActions is how many actions a policy's scope is narrowed to at most.
const maxScopeActions = 256

// scope narrows a policy that names no actions in its metadata to those of its
// statements, so that it is not asked about others.
func (c *compilation) scope() {
	p := c.policy
	if len(p.Scope.Actions) > 0 {
		return
	}
	var names []string
	for _, s := range p.statements {
		for _, action := range s.scope.actions {
			if action.op == opAny {
				return
			}
			for _, uid := range c.schema.actionsIn(action) {
				if uid.Type == actionType && !slices.Contains(names, string(uid.ID)) {
					names = append(names, string(uid.ID))
				}
			}
		}
		if len(names) > maxScopeActions {
			return
		}
	}
	slices.Sort(names)
	p.Scope.Actions = names
}

// actionsIn lists the actions that satisfy an action clause.
func (s *Schema) actionsIn(c clause) []types.EntityUID {
	found := []types.EntityUID{c.entity}
	if c.op != opIn {
		return found
	}
	for uid := range s.actionEntities() {
		if slices.Contains(s.groupsOf(uid), c.entity) {
			found = append(found, uid)
		}
	}
	return found
}

// mentionsTop reports whether the policy mentions an attribute or member.
func (p *policy) mentionsTop(t top) bool {
	return slices.ContainsFunc(p.mentions, func(m mention) bool { return m.top() == t })
}

// hit reports whether the policy would see the gap.
func (p *policy) hit(gap place) bool {
	return slices.ContainsFunc(p.mentions, func(m mention) bool { return m.hit(gap) })
}
