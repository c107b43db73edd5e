package regoeval

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// valueKind is what a member of an entry may hold.
type valueKind uint8

const (
	text valueKind = iota
	boolean
	number
	object
)

func (k valueKind) String() string {
	return [...]string{"a string", "true or false", "a number", "an object"}[k]
}

// member is one member of an entry.
type member struct {
	kind     valueKind
	required bool
}

// findingMembers are the members of deny, review and allow.
var findingMembers = map[string]member{"rule": {text, true}, "path": {text, false}, "args": {object, false}}

// setMembers are the members of an entry of each set, by [pdp.RuleKind].
var setMembers = [...]map[string]member{
	pdp.KindDeny: findingMembers, pdp.KindReview: findingMembers, pdp.KindAllow: findingMembers,
	pdp.KindObligation: {"rule": {text, true}, "id": {text, true}, "must": {boolean, false}, "params": {object, false}},
	pdp.KindLimit: {
		"rule": {text, true}, "key": {text, true}, "rate": {number, false}, "burst": {number, false},
		"window": {text, false}, "quota": {object, false}, "cost": {number, false},
	},
	pdp.KindRoute: {"rule": {text, true}, "pool": {text, true}, "standby": {text, false}},
}

// readHeads checks the shape of every rule of the six sets and notes the id of
// each body.
func (m *module) readHeads(report *faults) {
	m.ids = map[position]string{}
	for _, rule := range m.parsed.Rules {
		kind, ok := setOf(rule)
		switch {
		case !ok:
			continue
		case m.lib:
			report.at(rule.Location, "", "", "a library has no %s: it only helps policies", setNames[kind])
			continue
		case rule.Default || len(rule.Head.Args) > 0 || len(rule.Head.Ref()) != 1 || rule.Head.RuleKind() != ast.MultiValue:
			report.at(rule.Location, m.id, "", "%s is a set: write `%[1]s contains {\"rule\": …} if { … }`", setNames[kind])
			continue
		}
		if !slices.Contains(m.sets, kind) {
			m.sets = append(m.sets, kind)
		}
		if id, ok := m.readEntry(rule, kind, report); ok {
			m.ids[positionOf(rule.Location)] = id
		}
	}
	slices.Sort(m.sets)
}

// readEntry checks what can be known of an entry before it is computed and
// returns its rule id.
func (m *module) readEntry(rule *ast.Rule, kind pdp.RuleKind, report *faults) (id string, ok bool) {
	entry, ok := rule.Head.Key.Value.(ast.Object)
	if !ok {
		report.at(rule.Location, m.id, "", "write the entry of %s in the head, as an object: `contains {\"rule\": \"…\", …}`", setNames[kind])
		return "", false
	}
	members := setMembers[kind]
	var missing []string
	for name, want := range members {
		if want.required && entry.Get(ast.StringTerm(name)) == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		report.at(rule.Location, m.id, "", "an entry of %s needs %s", setNames[kind], strings.Join(missing, ", "))
	}
	entry.Foreach(func(key, value *ast.Term) {
		name, ok := key.Value.(ast.String)
		if !ok {
			report.at(rule.Location, m.id, "", "name the members of an entry with string literals, not %s", key)
			return
		}
		want, known := members[string(name)]
		if !known {
			report.at(rule.Location, m.id, "", "an entry of %s has no member %s", setNames[kind], name)
		} else if !mayBe(value.Value, want.kind) {
			report.at(rule.Location, m.id, "", "%s: want %v, not %s", name, want.kind, value)
		}
	})
	if t := entry.Get(ast.StringTerm("rule")); t != nil {
		if literal, ok := t.Value.(ast.String); ok {
			return string(literal), true
		}
		report.at(rule.Location, m.id, "", "rule: want a string literal, not %s", t)
	}
	return "", false
}

// mayBe reports whether a term can turn out to be of the kind: what is not
// written out is known only when it is computed.
func mayBe(v ast.Value, want valueKind) bool {
	switch v.(type) {
	case ast.String:
		return want == text
	case ast.Boolean:
		return want == boolean
	case ast.Number:
		return want == number
	case ast.Object, *ast.ObjectComprehension:
		return want == object
	case ast.Null, *ast.Array, ast.Set, *ast.ArrayComprehension, *ast.SetComprehension:
		return false
	default:
		return true
	}
}
