package regoeval

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// module is one *.rego file that parses and stands at a place of its own.
type module struct {
	file   string
	id     string // "platform/network", "platform/lib/net": the file without its ending
	layer  pdp.Layer
	tenant string // of pdp.LayerTenant
	lib    bool   // below platform/lib
	test   bool   // *_test.rego
	data   []byte
	parsed *ast.Module // as parsed; compilers get copies

	policy *pdp.Policy         // nil for a library
	sets   []pdp.RuleKind      // which of the six sets it has
	ids    map[position]string // the rule id of each body of these sets
}

// position finds a rule of a file again in any copy of its module.
type position struct{ row, col int }

func positionOf(location *ast.Location) position { return position{location.Row, location.Col} }

// setNames are the sets in which a policy speaks, by [pdp.RuleKind].
var setNames = [...]string{
	pdp.KindDeny: pdp.KindDeny.String(), pdp.KindReview: pdp.KindReview.String(), pdp.KindAllow: pdp.KindAllow.String(),
	pdp.KindObligation: pdp.KindObligation.String(), pdp.KindLimit: pdp.KindLimit.String(), pdp.KindRoute: pdp.KindRoute.String(),
}

// setOf tells which of the six sets a rule's name is.
func setOf(rule *ast.Rule) (pdp.RuleKind, bool) {
	ref := rule.Head.Ref()
	name, ok := ref[0].Value.(ast.Var)
	if !ok {
		return 0, false
	}
	i := slices.Index(setNames[:], string(name))
	return pdp.RuleKind(i), i >= 0
}

const (
	extension     = ".rego"
	testExtension = "_test.rego"
)

// parse reads the policies and libraries among the files, or only the tests.
func parse(content *bundles.Content, caps *ast.Capabilities, tests bool, report *faults) []*module {
	var modules []*module
	for _, f := range content.Files() {
		if strings.HasSuffix(f.Path, extension) && strings.HasSuffix(f.Path, testExtension) == tests {
			modules = append(modules, &module{file: f.Path, data: f.Data, test: tests})
		}
	}
	beside(modules, report, func(m *module, report *faults) { m.parse(caps, report) })
	return slices.DeleteFunc(modules, func(m *module) bool { return m.parsed == nil })
}

// parse reads the module's text. It leaves it unparsed where it does not parse
// or stands in the wrong place.
func (m *module) parse(caps *ast.Capabilities, report *faults) {
	if why := m.place(); why != "" {
		report.add(m.file, 0, "%s", why)
		return
	}
	var parsed *ast.Module
	err := guard(func() (err error) {
		parsed, err = ast.ParseModuleWithOpts(m.file, string(m.data), ast.ParserOptions{
			ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: caps,
		})
		return err
	})
	if err != nil {
		report.addErrors(m.file, err)
		return
	}
	if m.checkPackage(parsed.Package, report) {
		findRefused(parsed, report)
		findNested(parsed, report)
		m.parsed = parsed
	}
}

// place finds out whose module the file is, or says why it is nobody's.
func (m *module) place() string {
	m.id = strings.TrimSuffix(m.file, extension)
	if m.test {
		m.id = strings.TrimSuffix(m.file, testExtension)
	}
	layer, tenant, err := pdp.PolicyPlace(m.id)
	if err != nil {
		return "Rego stands in platform/, platform/lib/ or tenants/<tenant>/"
	}
	if layer == pdp.LayerSelf {
		return "policies in self/ are written in Cedar"
	}
	m.layer, m.tenant = layer, tenant
	name := strings.TrimPrefix(m.id, "platform/")
	if layer == pdp.LayerTenant {
		name = strings.TrimPrefix(m.id, "tenants/"+tenant+"/")
	}
	if rest, ok := strings.CutPrefix(name, "lib/"); ok && layer == pdp.LayerPlatform {
		m.lib, name = true, rest
	}
	switch {
	case strings.Contains(name, "/"):
		return "Rego stands in platform/, platform/lib/ or tenants/<tenant>/ itself, not in folders below"
	case !m.lib && name == "tables", !m.lib && name == "lib" && layer == pdp.LayerPlatform:
		return "the name is reserved: data." + strings.Join(m.path(), ".") + " holds something else"
	case strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}):
		return "the file's name is the package's: want letters, digits, _ and -"
	}
	return ""
}

// path is the package path that the file's place asks for, without `data`.
func (m *module) path() []string {
	return append([]string{"xiezhi"}, strings.Split(m.id, "/")...)
}

// checkPackage holds the package to the file's place. A test may stand in a
// package of its own, <name>_test, or in the one it tests.
func (m *module) checkPackage(stated *ast.Package, report *faults) bool {
	accepted := []ast.Ref{packageRef(m.path())}
	if m.test {
		steps := m.path()
		steps[len(steps)-1] += "_test"
		accepted = append(accepted, packageRef(steps))
	}
	var names []string
	for _, ref := range accepted {
		if stated.Path.Equal(ref) {
			return true
		}
		names = append(names, packageText(ref))
	}
	report.at(stated.Location, "", "", "the file's place asks for the package %s", strings.Join(names, " or "))
	return false
}

func packageRef(steps []string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for _, s := range steps {
		ref = append(ref, ast.StringTerm(s))
	}
	return ref
}

// packageText writes a package as its clause does, without `data`.
func packageText(ref ast.Ref) string { return strings.TrimPrefix(ref.String(), "data.") }

// bodies calls f for every body that decides anything: each rule and each
// else of it, but no default rule.
func bodies(parsed *ast.Module, f func(rule *ast.Rule, isElse bool)) {
	for _, rule := range parsed.Rules {
		if rule.Default {
			continue
		}
		for r := rule; r != nil; r = r.Else {
			f(r, r != rule)
		}
	}
}

// maxNesting is how deep bodies may stand in one another. OPA's compiler takes
// several times as long for every level, and cannot be stopped: two lines of
// text could keep a server busy for good.
const maxNesting = 5

// findNested adds a fault for each place that is nested too deep.
func findNested(parsed *ast.Module, report *faults) {
	here := parsed.Package.Location
	var walk func(outer any, depth int)
	walk = func(outer any, depth int) {
		visit(outer, func(node any) bool {
			switch inner := node.(type) {
			case *ast.Expr:
				here = cmp.Or(inner.Location, here)
				return false
			case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension,
				*ast.Every, *ast.Not, *ast.LogicalAnd, *ast.LogicalOr, *ast.TemplateString:
				if node == outer {
					return false
				}
				if depth == maxNesting {
					report.at(here, "", "", "bodies are nested more than %d deep: give the inner ones names of their own", maxNesting)
				} else {
					walk(node, depth+1)
				}
				return true
			}
			return false
		})
	}
	for _, rule := range parsed.Rules {
		here = rule.Location
		walk(rule, 0)
	}
}

// visit calls f for every node below and including this one, until f returns
// true: for the keys in the reference of a rule's head too, which OPA's
// visitor leaves out.
func visit(node any, f func(node any) bool) {
	visitor := ast.NewGenericVisitor(f)
	visitor.Walk(node)
	if rule, ok := node.(*ast.Rule); ok {
		for _, key := range rule.Head.Ref()[1:] {
			visitor.Walk(key)
		}
	}
}
