package celeval

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Compiler compiles rule documents and restrictions. It is safe for
// concurrent use.
type Compiler struct {
	documents    *cel.Env
	restrictions *cel.Env // a restriction outlives releases, so it sees no tables
	err          error    // of building these
}

var _ pdp.Compiler = (*Compiler)(nil)

// New returns a compiler.
func New() *Compiler {
	c := &Compiler{}
	if c.documents, c.err = newEnvironment(true); c.err == nil {
		c.restrictions, c.err = newEnvironment(false)
	}
	return c
}

// Compile implements [pdp.Compiler]. It takes *.policy.json, *.policy.yaml and
// *.policy.yml files; a policy's id is its folder and the document's id. Its
// error is [pdp.Faults], or the error of ctx.
func (c *Compiler) Compile(ctx context.Context, source *pdp.Source) (pdp.Program, error) {
	if c.err != nil {
		return nil, c.err
	}
	p := &program{tables: source.Tables}
	var faults pdp.Faults
	places := map[string]string{} // policy id → file
	for _, file := range source.Content.Files() {
		if !pdp.IsRuleDocument(file.Path) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("compile %s: %w", file.Path, err)
		}
		policy, rules, wrong := c.compile(file, source)
		if first, taken := places[policy.ID]; taken && policy.ID != "" {
			wrong = append(wrong, pdp.Fault{File: file.Path, Policy: policy.ID, Message: fmt.Sprintf("policy %s is already in %s; give this document another id", policy.ID, first)})
		}
		places[policy.ID] = file.Path
		faults = append(faults, wrong...)
		p.add(policy, rules)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return p, nil
}

// compile turns one file into a policy, or returns what is wrong with it.
func (c *Compiler) compile(file bundles.File, source *pdp.Source) (policy *pdp.Policy, rules []*rule, faults pdp.Faults) {
	r := &reader{file: file.Path}
	policy = &pdp.Policy{}
	defer func() {
		if caught := recover(); caught != nil { // the parsers are other people's code; a release must not stop the server
			r.fault(0, "internal error: %v", caught)
		}
		for i := range r.faults {
			r.faults[i].Policy = policy.ID
		}
		faults = r.faults
	}()
	folder, layer, tenant, err := place(file.Path)
	if err != nil {
		r.fault(0, "%v", err)
		return policy, nil, nil
	}
	d := r.document(file.Data)
	if d.root == nil {
		return policy, nil, nil
	}
	policy = &d.policy
	policy.Layer, policy.Tenant = layer, tenant
	if d.id != "" {
		policy.ID = folder + "/" + d.id
	}
	seen := map[string]bool{}
	var reads []string
	for i := range d.rules {
		t := &d.rules[i]
		if seen[t.ID] {
			r.ruleFault(t, t.node.Line, "id %q is already another rule's", t.ID)
		}
		seen[t.ID] = true
		reads = append(reads, c.finish(r, t, policy, file, source)...)
		policy.Rules = append(policy.Rules, t.Rule)
		rules = append(rules, &t.rule)
	}
	r.settleReads(d, reads, source.Attributes)
	return policy, rules, nil
}

// place says whose a document is by its folder.
func place(file string) (folder string, layer pdp.Layer, tenant string, err error) {
	folder = path.Dir(file)
	if folder == "platform" {
		return folder, pdp.LayerPlatform, "", nil
	}
	if name, ok := strings.CutPrefix(folder, "tenants/"); ok && authz.ValidTenant(name) == nil {
		return folder, pdp.LayerTenant, name, nil
	}
	if folder == "self" || strings.HasPrefix(folder, "self/") {
		return "", 0, "", fmt.Errorf("who may call Xiezhi is written in Cedar; rule documents are not read in self/")
	}
	return "", 0, "", fmt.Errorf("rule documents are read in platform/ and tenants/<tenant>/ only; move the file there")
}

func (r *reader) ruleFault(t *ruleText, line int, format string, args ...any) {
	r.fault(line, format, args...)
	r.faults[len(r.faults)-1].Rule = t.ID
}

// finish compiles the rule's condition, fills in what is left out, and
// returns what the rule reads.
func (c *Compiler) finish(r *reader, t *ruleText, policy *pdp.Policy, file bundles.File, source *pdp.Source) []string {
	t.Admits = t.admits || !t.admitsWritten && t.Kind == pdp.KindReview && policy.Layer == pdp.LayerTenant
	if t.Title == (pdp.Text{}) {
		t.Title = policy.Title
	}
	if t.Message == (pdp.Text{}) {
		t.Message = t.Title
	}
	reads, err := messageReads(t.Message)
	if err != nil {
		r.ruleFault(t, t.node.Line, "message: %v", err)
	}
	template, ok := source.Templates[t.Template]
	if t.Template != "" && !ok {
		r.ruleFault(t, t.node.Line, "approval template %q is not in approvals/", t.Template)
	}
	t.Digest = digest("rule document", policy.ID, t.ID, string(file.Data), t.Template, string(template.Data))
	for i := range t.obligations {
		t.obligations[i].Policy, t.obligations[i].Rule = policy.ID, t.ID
	}
	for i := range t.limits {
		t.limits[i].Policy, t.limits[i].Rule = policy.ID, t.ID
	}
	if t.route != nil {
		t.route.Policy, t.route.Rule = policy.ID, t.ID
	}
	if t.conditionNode == nil || t.condition == "" {
		return reads
	}
	t.conditionLine = lineIn(t.conditionNode, 1)
	condition, flaws := compileCondition(c.documents, t.condition)
	for _, f := range flaws {
		r.ruleFault(t, lineIn(t.conditionNode, f.line), "%s", f.message)
	}
	if condition == nil {
		return reads
	}
	t.rule.condition = condition
	return append(reads, condition.reads...)
}

// lineIn is the line in the file of a line, from 1, of a string's text.
func lineIn(n *yaml.Node, line int) int {
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		return n.Line + line
	case n.Style&yaml.FoldedStyle != 0:
		return n.Line + 1
	default:
		return n.Line
	}
}

// settleReads merges what the rules read with what the document declares.
// Properties count where the release has an attribute of that name.
func (r *reader) settleReads(d *document, found []string, schema *pdp.AttributeSchema) {
	isAttribute := func(name string) bool {
		if schema == nil {
			return false
		}
		_, ok := schema.Get(name)
		return ok
	}
	for _, name := range d.policy.Reads {
		if contextMember, ok := strings.CutPrefix(name, "context."); !isAttribute(name) && (!ok || contextMember == "") {
			r.fault(member(d.root, "reads").Line, "reads %q: want context.<member>, or an attribute that %s declares", name, pdp.AttributesFile)
		}
	}
	reads := slices.Clone(d.policy.Reads)
	for _, name := range found {
		if strings.HasPrefix(name, "context.") || isAttribute(name) {
			reads = append(reads, name)
		}
	}
	slices.Sort(reads)
	d.policy.Reads = slices.Compact(reads)
	for _, name := range d.policy.Unbound {
		if !slices.Contains(d.policy.Reads, "context."+name) {
			r.fault(member(d.root, "unbound").Line, "unbound %q: no rule reads context.%s", name, name)
		}
	}
}

// digest is the SHA-256 over texts, each preceded by its length.
func digest(texts ...string) bundles.Digest {
	var buf []byte
	for _, text := range texts {
		buf = binary.BigEndian.AppendUint64(buf, uint64(len(text)))
		buf = append(buf, text...)
	}
	return sha256.Sum256(buf)
}
