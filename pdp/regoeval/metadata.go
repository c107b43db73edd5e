package regoeval

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// readMetadata builds the policy and its rules from the module's metadata and
// checks them against the heads.
func (m *module) readMetadata(templates map[string]bundles.File, schema *pdp.AttributeSchema, report *faults) {
	if len(m.sets) > 0 {
		m.policy = &pdp.Policy{ID: m.id, Layer: m.layer, Tenant: m.tenant, Language: "rego", File: m.file}
	}
	declared := map[string]*pdp.Rule{}
	for _, a := range m.parsed.Annotations {
		b := m.block(a, report)
		rule := ast.NewAnnotationsRef(a).GetRule()
		switch {
		case rule == nil && a.Scope == "package" && m.policy != nil:
			b.policy(m.policy, schema)
		case rule != nil && a.Scope == "rule" && m.ids[positionOf(rule.Location)] != "":
			m.declare(b, rule, templates, declared)
		default: // helpers and libraries may be described, no more
			b.describe()
		}
	}
	m.checkIDs(declared, report)
}

// declare reads one rule's metadata.
func (m *module) declare(b *block, rule *ast.Rule, templates map[string]bundles.File, declared map[string]*pdp.Rule) {
	kind, _ := setOf(rule)
	r := &pdp.Rule{Kind: kind, File: m.file, Line: rule.Location.Row}
	b.id = m.ids[positionOf(rule.Location)]
	b.rule(r)
	switch {
	case r.ID == "":
		b.fault(b.row, b.id, "custom.id is missing: every rule is declared by its id")
		r.ID = b.id // as meant
	case r.ID != b.id:
		b.fault(b.row, r.ID, "declared and not used: the head below says %q", b.id)
	case declared[r.ID] != nil:
		b.fault(b.row, r.ID, "declared twice, first in line %d; several bodies share one declaration, on the first", declared[r.ID].Line)
		return
	case authz.ReservedRule(r.ID):
		b.fault(b.row, r.ID, "the decision core itself speaks with this id; choose another")
	}
	if _, ok := templates[r.Template]; !ok && r.Template != "" {
		b.fault(b.row, r.ID, "there is no approval template %q: add approvals/%[1]s.yaml", r.Template)
	}
	declared[r.ID] = r
	m.policy.Rules = append(m.policy.Rules, r)
}

// checkIDs holds every use of an id to its declaration.
func (m *module) checkIDs(declared map[string]*pdp.Rule, report *faults) {
	for _, rule := range m.parsed.Rules {
		id, ok := m.ids[positionOf(rule.Location)]
		if !ok {
			continue
		}
		kind, _ := setOf(rule)
		switch r := declared[id]; {
		case r == nil:
			report.at(rule.Location, m.id, id, "used and not declared: put `# METADATA` with `custom: {id: %s}` on its first body", id)
		case kind != r.Kind && kind <= pdp.KindAllow:
			report.at(rule.Location, m.id, id, "declared in %s (line %d) and used in %s", r.Kind, r.Line, kind)
		}
	}
}

// block is one `# METADATA` comment, read with the line of every key.
type block struct {
	m      *module
	row    int // line of `# METADATA`
	root   *yaml.Node
	report *faults
	id     string // the rule's id, for faults
}

// block reads the comment again as YAML nodes: OPA's own reading has lost the
// lines, and ignores what it does not know.
func (m *module) block(a *ast.Annotations, report *faults) *block {
	b := &block{m: m, row: a.Location.Row, report: report, root: &yaml.Node{Kind: yaml.MappingNode}}
	lines := strings.Split(string(m.data), "\n")
	var source strings.Builder
	for _, line := range lines[b.row:min(a.EndLoc().Row, len(lines))] {
		line = strings.TrimPrefix(strings.TrimSuffix(line, "\r"), "#")
		source.WriteString(strings.TrimPrefix(line, " ") + "\n")
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(source.String()), &document); err != nil {
		b.fault(b.row, "", "metadata: %v", err)
	} else if len(document.Content) == 1 {
		b.root = document.Content[0]
	}
	return b
}

func (b *block) fault(line int, rule, format string, args ...any) {
	policy := ""
	if b.m.policy != nil {
		policy = b.m.id
	}
	b.report.at(&ast.Location{File: b.m.file, Row: line}, policy, rule, format, args...)
}

// line is where a node stands in the file.
func (b *block) line(n *yaml.Node) int { return b.row + max(n.Line, 1) }

// fields are readers of a mapping's members, by name.
type fields map[string]func(*yaml.Node)

// ignored are OPA's own descriptive annotations.
func ignored(known fields) fields {
	for _, name := range []string{"scope", "description", "authors", "organizations", "related_resources"} {
		known[name] = func(*yaml.Node) {}
	}
	return known
}

// mapping reads an object strictly: an unknown member is a fault. A repeated
// one has not got past OPA.
func (b *block) mapping(n *yaml.Node, what string, known fields) {
	if n.Kind != yaml.MappingNode {
		b.fault(b.line(n), b.id, "%s: want an object", what)
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := known[key.Value]
		if key.Kind != yaml.ScalarNode || !ok {
			names := slices.Sorted(maps.Keys(known))
			b.fault(b.line(key), b.id, "%s has no member %q; it has %s", what, key.Value, strings.Join(names, ", "))
			continue
		}
		read(value)
	}
}

func (b *block) text(to *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
			b.fault(b.line(n), b.id, "want text; what YAML reads as something else goes in quotes")
			return
		}
		*to = n.Value
	}
}

func (b *block) flag(to *bool) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Decode(to) != nil {
			b.fault(b.line(n), b.id, "want true or false")
		}
	}
}

// texts reads a list without repetitions; check says what is wrong with an
// element, "" for nothing.
func (b *block) texts(to *[]string, check func(string) string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.SequenceNode {
			b.fault(b.line(n), b.id, "want a list")
			return
		}
		for _, e := range n.Content {
			var s string
			b.text(&s)(e)
			if s == "" {
				continue
			}
			if slices.Contains(*to, s) {
				b.fault(b.line(e), b.id, "%q is given twice", s)
			} else if why := check(s); why != "" {
				b.fault(b.line(e), b.id, "%q: %s", s, why)
			}
			*to = append(*to, s)
		}
	}
}

// choice reads one of a few words and calls set with its index.
func (b *block) choice(words []string, set func(int)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		i := slices.Index(words, n.Value)
		if n.Kind != yaml.ScalarNode || i < 0 {
			b.fault(b.line(n), b.id, "want one of %s", strings.Join(words, ", "))
			return
		}
		set(i)
	}
}

// describe reads the metadata of what is neither policy nor rule.
func (b *block) describe() {
	var title string
	b.mapping(b.root, "the metadata of a helper", ignored(fields{
		"title": b.text(&title),
		"custom": func(n *yaml.Node) {
			b.mapping(n, "custom of a helper", fields{"title_zh": b.text(&title)})
		},
	}))
}

// policy reads a package's metadata.
func (b *block) policy(p *pdp.Policy, schema *pdp.AttributeSchema) {
	var reads, unbound *yaml.Node
	custom := fields{
		"title_zh": b.text(&p.Title.ZH),
		"scope": func(n *yaml.Node) {
			b.mapping(n, "scope", fields{
				"actions":         b.texts(&p.Scope.Actions, checkPattern),
				"resource_types":  b.texts(&p.Scope.ResourceTypes, checkPattern),
				"business_system": b.text(&p.Scope.BusinessSystem),
			})
		},
		"reads":   func(n *yaml.Node) { reads = n },
		"unbound": func(n *yaml.Node) { unbound = n },
		"masks":   b.texts(&p.Masks, checkPointer),
		"audit": b.choice([]string{"buffered", "strict"}, func(i int) {
			p.Audit = [...]pdp.Durability{pdp.Buffered, pdp.Strict}[i]
		}),
		"stale_bound": func(n *yaml.Node) {
			var s string
			b.text(&s)(n)
			d, err := time.ParseDuration(s)
			if s != "" && (err != nil || d <= 0) {
				b.fault(b.line(n), "", "stale_bound: want a duration such as 30s, 10m or 1h")
			}
			p.StaleBound = d
		},
	}
	b.mapping(b.root, "the metadata of a policy", ignored(fields{
		"title":  b.text(&p.Title.EN),
		"custom": func(n *yaml.Node) { b.mapping(n, "custom", custom) },
	}))
	if reads != nil {
		b.texts(&p.Reads, func(s string) string { return checkRead(s, schema) })(reads)
	}
	if unbound != nil { // after reads, wherever they stand
		b.texts(&p.Unbound, func(s string) string {
			if !slices.Contains(p.Reads, "context."+s) {
				return "unbound lists members of context that `reads` declares as context.<member>"
			}
			return ""
		})(unbound)
	}
}

// rule reads a rule's metadata.
func (b *block) rule(r *pdp.Rule) {
	custom := fields{
		"id":       b.text(&r.ID),
		"title_zh": b.text(&r.Title.ZH),
		"message": func(n *yaml.Node) {
			b.mapping(n, "message", fields{"en": b.text(&r.Message.EN), "zh": b.text(&r.Message.ZH)})
		},
		"severity":    func(n *yaml.Node) { b.choice(severities, func(i int) { r.Severity = severities[i] })(n) },
		"requirement": b.texts(&r.Requirement, func(string) string { return "" }),
		"waivable":    b.only(r, "waivable", b.flag(&r.Waivable), pdp.KindDeny),
		"admits":      b.only(r, "admits", b.flag(&r.Admits), pdp.KindReview),
		"template":    b.only(r, "template", b.text(&r.Template), pdp.KindReview, pdp.KindDeny),
	}
	b.mapping(b.root, "the metadata of a rule", ignored(fields{
		"title":  b.text(&r.Title.EN),
		"custom": func(n *yaml.Node) { b.mapping(n, "custom", custom) },
	}))
	if r.ID != "" && !validID(r.ID) {
		b.fault(b.row, "", "id %q: want at most 128 letters, digits and ._-", r.ID)
	}
	if r.Template != "" && r.Kind == pdp.KindDeny && !r.Waivable {
		b.fault(b.row, r.ID, "a template is for what can be approved: set waivable, or leave the template out")
	}
}

var severities = []string{"low", "medium", "high", "critical"}

// only refuses a member at rules of other kinds.
func (b *block) only(r *pdp.Rule, name string, read func(*yaml.Node), kinds ...pdp.RuleKind) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if !slices.Contains(kinds, r.Kind) {
			b.fault(b.line(n), b.id, "%s has no meaning for %s", name, setNames[r.Kind])
			return
		}
		read(n)
	}
}

func validID(id string) bool {
	return len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// checkPattern accepts an exact name or a prefix and one asterisk.
func checkPattern(pattern string) string {
	if i := strings.IndexByte(pattern, '*'); i >= 0 && i != len(pattern)-1 {
		return "want a name, or a beginning and one * at the end"
	}
	return ""
}

// checkPointer accepts an RFC 6901 pointer to a part of the request.
func checkPointer(pointer string) string {
	if !strings.HasPrefix(pointer, "/") {
		return "want a JSON pointer such as /resource/properties/user_data"
	}
	for rest := pointer; ; {
		i := strings.IndexByte(rest, '~')
		if i < 0 {
			return ""
		}
		if rest = rest[i+1:]; !strings.HasPrefix(rest, "0") && !strings.HasPrefix(rest, "1") {
			return "in a JSON pointer ~ is written ~0"
		}
	}
}

// checkRead accepts context.<member> and the attributes of the schema.
func checkRead(name string, schema *pdp.AttributeSchema) string {
	entity, member, ok := strings.Cut(name, ".")
	switch {
	case !ok || member == "":
	case entity == "context":
		return ""
	case entity == "subject" || entity == "resource":
		if _, ok := schema.Get(name); !ok {
			return pdp.AttributesFile + " lists no such attribute"
		}
		return ""
	}
	return "want context.<member>, subject.<property> or resource.<property>"
}
