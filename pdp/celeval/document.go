package celeval

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Bounds of one document.
const (
	maxDocument = 1 << 20 // bytes
	maxRules    = 1000
	maxName     = 128 // bytes of an id
)

// rule is one rule of a document or of a restriction.
type rule struct {
	*pdp.Rule
	condition     *condition
	conditionLine int
	path          string
	obligations   []authz.Obligation
	limits        []authz.Limit
	route         *authz.Route
}

// where is the place of the rule's condition, as explanations show it.
func (r *rule) where() string {
	if r.conditionLine == 0 {
		return r.File
	}
	return fmt.Sprintf("%s:%d", r.File, r.conditionLine)
}

// document is one rule document as it is written. Its policy's id and its
// rules' digests are not known yet.
type document struct {
	id, name string
	root     *yaml.Node // nil: it could not be read
	policy   pdp.Policy
	rules    []ruleText
}

// ruleText is a rule whose condition is not compiled.
type ruleText struct {
	rule
	node          *yaml.Node
	effect        string
	condition     string
	conditionNode *yaml.Node
	admits        bool
	admitsWritten bool
}

// document reads the members of a document; faults go to r.
func (r *reader) document(data []byte) *document {
	d := &document{root: r.tree(data)}
	if d.root == nil {
		return d
	}
	p := &d.policy
	p.File, p.Language = r.file, "cel"
	ok := r.object(d.root, "document", members{
		"id":      func(n *yaml.Node) { d.id = r.name(n, "id") },
		"name":    func(n *yaml.Node) { d.name = r.text(n, "name") },
		"version": func(n *yaml.Node) { r.text(n, "version") }, // for its readers: releases have numbers of their own
		"title":   func(n *yaml.Node) { p.Title = r.sentence(n, "title") },
		"scope":   func(n *yaml.Node) { p.Scope = r.scope(n) },
		"reads":   func(n *yaml.Node) { p.Reads = r.texts(n, "reads") },
		"unbound": func(n *yaml.Node) { p.Unbound = r.texts(n, "unbound") },
		"masks": func(n *yaml.Node) {
			r.list(n, "masks", func(n *yaml.Node) { p.Masks = append(p.Masks, r.pointer(n, "masks")) })
		},
		"audit":       func(n *yaml.Node) { p.Audit = r.durability(n) },
		"stale_bound": func(n *yaml.Node) { p.StaleBound = r.duration(n, "stale_bound") },
		"rules": func(n *yaml.Node) {
			r.list(n, "rules", func(n *yaml.Node) { d.rules = append(d.rules, r.rule(n, len(d.rules)+1)) })
		},
	})
	if !ok {
		return d
	}
	r.required(d.root, "document", "id", "rules")
	if rules := member(d.root, "rules"); rules != nil && rules.Kind == yaml.SequenceNode && len(rules.Content) == 0 {
		r.fault(rules.Line, "rules: a document without rules decides nothing; write one or remove the file")
	}
	if len(d.rules) > maxRules {
		r.fault(d.root.Line, "%d rules; a document holds at most %d", len(d.rules), maxRules)
		d.rules = d.rules[:maxRules]
	}
	if p.Title.EN == "" {
		p.Title.EN = d.name
	}
	return d
}

func (r *reader) scope(n *yaml.Node) (s pdp.Scope) {
	r.object(n, "scope", members{
		"actions":         func(n *yaml.Node) { s.Actions = r.patterns(n, "scope.actions") },
		"resource_types":  func(n *yaml.Node) { s.ResourceTypes = r.patterns(n, "scope.resource_types") },
		"business_system": func(n *yaml.Node) { s.BusinessSystem = r.text(n, "scope.business_system") },
	})
	return s
}

func (r *reader) patterns(n *yaml.Node, what string) []string {
	var all []string
	r.list(n, what, func(n *yaml.Node) {
		p := r.text(n, what)
		if i := strings.IndexByte(p, '*'); i >= 0 && i != len(p)-1 {
			r.fault(n.Line, "%s %q: a pattern is an exact name, or a prefix and one * at its end", what, p)
		}
		all = append(all, p)
	})
	return all
}

func (r *reader) durability(n *yaml.Node) pdp.Durability {
	if r.oneOf(n, "audit", "strict", "buffered") == "strict" {
		return pdp.Strict
	}
	return pdp.Buffered
}

func (r *reader) duration(n *yaml.Node, what string) time.Duration {
	text := r.text(n, what)
	d, err := time.ParseDuration(text)
	if text != "" && (err != nil || d <= 0) {
		r.fault(n.Line, "%s %q: want a duration above 0, such as 30s or 1h", what, text)
	}
	return d
}

// name reads an id that can stand in a path.
func (r *reader) name(n *yaml.Node, what string) string {
	text := r.text(n, what)
	if text == "" {
		return ""
	}
	if err := cleanName(text); err != nil {
		r.fault(n.Line, "%s %q: %v", what, text, err)
		return ""
	}
	return text
}

func cleanName(text string) error {
	if len(text) > maxName {
		return fmt.Errorf("longer than %d bytes", maxName)
	}
	for i := range len(text) {
		c := text[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || strings.IndexByte("._-", c) < 0) {
			return fmt.Errorf("want letters, digits, and ._- after the first")
		}
	}
	return nil
}

// pointer reads a JSON pointer into a request.
func (r *reader) pointer(n *yaml.Node, what string) string {
	text := r.text(n, what)
	steps := strings.Split(text, "/")
	known := len(steps) > 1 && steps[0] == "" && slices.Contains([]string{"tenant", "subject", "action", "resource", "context"}, steps[1])
	tildes := strings.ReplaceAll(strings.ReplaceAll(text, "~0", ""), "~1", "")
	if text != "" && (!known || strings.Contains(tildes, "~")) {
		r.fault(n.Line, "%s %q: want a JSON pointer into the request, such as /resource/properties/cpu", what, text)
	}
	return text
}

// sentence reads {en, zh}.
func (r *reader) sentence(n *yaml.Node, what string) (t pdp.Text) {
	r.object(n, what, members{
		"en": func(n *yaml.Node) { t.EN = r.text(n, what+".en") },
		"zh": func(n *yaml.Node) { t.ZH = r.text(n, what+".zh") },
	})
	return t
}

func (r *reader) rule(n *yaml.Node, number int) ruleText {
	before := len(r.faults)
	t := ruleText{node: n, rule: rule{Rule: &pdp.Rule{ID: fmt.Sprintf("rule_%d", number), File: r.file, Line: n.Line}}}
	ok := r.object(n, "rule", members{
		"id": func(n *yaml.Node) {
			t.ID = r.name(n, "id")
			if authz.ReservedRule(t.ID) {
				r.fault(n.Line, "id %q: the decision core speaks under this name", t.ID)
			}
		},
		"condition": func(n *yaml.Node) { t.condition, t.conditionNode = r.text(n, "condition"), n },
		"effect":    func(n *yaml.Node) { t.effect = r.oneOf(n, "effect", "ALLOW", "REVIEW", "DENY") },
		"title":     func(n *yaml.Node) { t.Title = r.sentence(n, "title") },
		"message":   func(n *yaml.Node) { t.Message = r.sentence(n, "message") },
		"severity":  func(n *yaml.Node) { t.Severity = r.oneOf(n, "severity", "low", "medium", "high", "critical") },
		"requirement": func(n *yaml.Node) {
			t.Requirement = r.texts(n, "requirement")
		},
		"waivable": func(n *yaml.Node) { t.Waivable = r.boolean(n, "waivable") },
		"admits":   func(n *yaml.Node) { t.admits, t.admitsWritten = r.boolean(n, "admits"), true },
		"template": func(n *yaml.Node) { t.Template = r.name(n, "template") },
		"path":     func(n *yaml.Node) { t.path = r.pointer(n, "path") },
		"obligations": func(n *yaml.Node) {
			r.list(n, "obligations", func(n *yaml.Node) { t.obligations = append(t.obligations, r.obligation(n)) })
		},
		"limits": func(n *yaml.Node) {
			r.list(n, "limits", func(n *yaml.Node) { t.limits = append(t.limits, r.limit(n)) })
		},
		"route": func(n *yaml.Node) { t.route = r.routeOf(n) },
	})
	if ok {
		r.required(n, "rule", "condition")
		r.kind(&t)
	}
	for i := before; i < len(r.faults); i++ {
		r.faults[i].Rule = t.ID
	}
	return t
}

// kind settles what the rule contributes, and faults members that mean
// nothing for a rule of that kind.
func (r *reader) kind(t *ruleText) {
	switch t.effect {
	case "DENY":
		t.Kind = pdp.KindDeny
	case "REVIEW":
		t.Kind = pdp.KindReview
	case "ALLOW":
		t.Kind = pdp.KindAllow
	default: // it has no effect of its own; it may contribute
		switch {
		case len(t.obligations) > 0:
			t.Kind = pdp.KindObligation
		case len(t.limits) > 0:
			t.Kind = pdp.KindLimit
		case t.route != nil:
			t.Kind = pdp.KindRoute
		case member(t.node, "effect") == nil:
			r.fault(t.node.Line, "rule: \"effect\" is required where there are no obligations, limits or route")
		}
	}
	if t.Waivable && t.Kind != pdp.KindDeny {
		r.fault(t.node.Line, "waivable: only a DENY can be waived")
	}
	if t.admitsWritten && t.Kind != pdp.KindReview {
		r.fault(t.node.Line, "admits: only a REVIEW admits")
	}
	if t.Template != "" && t.Kind != pdp.KindReview && !t.Waivable {
		r.fault(t.node.Line, "template: only a REVIEW or a waivable DENY is asked for")
	}
	if t.path != "" && t.Kind > pdp.KindAllow {
		r.fault(t.node.Line, "path: only a rule with an effect names a path")
	}
}

func (r *reader) obligation(n *yaml.Node) authz.Obligation {
	params, _ := authz.ObjectValue()
	o := authz.Obligation{Must: true, Params: params}
	ok := r.object(n, "obligation", members{
		"id":   func(n *yaml.Node) { o.ID = r.name(n, "id") },
		"must": func(n *yaml.Node) { o.Must = r.boolean(n, "must") },
		"params": func(n *yaml.Node) {
			if o.Params = r.value(n, "params"); n.Kind != yaml.MappingNode {
				r.fault(n.Line, "params: want an object, not %s", describe(n))
			}
		},
	})
	if ok {
		r.required(n, "obligation", "id")
	}
	return o
}

func (r *reader) limit(n *yaml.Node) (l authz.Limit) {
	ok := r.object(n, "limit", members{
		"key":    func(n *yaml.Node) { l.Key = r.text(n, "key") },
		"rate":   func(n *yaml.Node) { l.Rate = r.positive(n, "rate") },
		"burst":  func(n *yaml.Node) { l.Burst = r.count(n, "burst") },
		"window": func(n *yaml.Node) { l.Window = r.text(n, "window"); r.duration(n, "window") },
		"cost":   func(n *yaml.Node) { l.Cost = r.count(n, "cost") },
		"quota": func(n *yaml.Node) {
			l.Quota = &authz.Quota{}
			if r.object(n, "quota", members{
				"max":   func(n *yaml.Node) { l.Quota.Max = r.count(n, "max") },
				"reset": func(n *yaml.Node) { l.Quota.Reset = r.oneOf(n, "reset", "hour", "day", "month") },
			}) {
				r.required(n, "quota", "max", "reset")
			}
		},
	})
	if !ok {
		return l
	}
	r.required(n, "limit", "key")
	if l.Rate == 0 && l.Burst == 0 && l.Quota == nil && l.Cost == 0 {
		r.fault(n.Line, "limit: it bounds nothing; it needs rate, burst, quota or cost")
	}
	return l
}

func (r *reader) routeOf(n *yaml.Node) *authz.Route {
	route := &authz.Route{}
	if r.object(n, "route", members{
		"pool":    func(n *yaml.Node) { route.Pool = r.text(n, "pool") },
		"standby": func(n *yaml.Node) { route.Standby = r.text(n, "standby") },
	}) {
		r.required(n, "route", "pool")
	}
	return route
}
