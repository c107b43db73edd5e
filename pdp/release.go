package pdp

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Release is one compiled release: immutable, safe for concurrent use.
type Release struct {
	Number  uint64
	Content *bundles.Content

	policies    []*Policy
	programs    []Program
	match       *matcher
	attributes  *AttributeSchema
	obligations *obligationSchema
	rules       map[string]*Rule // "platform/network/public_ip" → rule
	basis       *Basis
}

// Compile reads and compiles a whole candidate. A wrong candidate is [Faults],
// all that could be found; nothing is activated here.
func Compile(ctx context.Context, number uint64, content *bundles.Content, compilers ...Compiler) (*Release, error) {
	return CompileFrom(ctx, nil, number, content, compilers...)
}

// CompileFrom compiles as [Compile] does, and takes over from another release's
// basis what is the same in both: tables of files that did not change, and,
// where nothing but tables changed, the policies. A nil basis has nothing.
func CompileFrom(ctx context.Context, basis *Basis, number uint64, content *bundles.Content, compilers ...Compiler) (*Release, error) {
	r := &Release{Number: number, Content: content, rules: map[string]*Rule{}}
	rest := content.Without(tablesFolder)
	tables, err := basis.readTables(content)
	var faults Faults
	if err != nil {
		faults = appendFaults(faults, err)
		tables = &Tables{}
	}
	same := basis != nil && basis.rest.Digest() == rest.Digest()
	if same && err == nil {
		if next := basis.withTables(tables, compilers); next != nil {
			next.Number, next.Content = number, content
			return next.asBasis(rest, tables, compilers), nil
		}
	}
	source := &Source{Content: rest, Tables: tables, Templates: map[string]bundles.File{}}
	if source.Attributes, err = readAttributes(rest); err != nil {
		faults = appendFaults(faults, err)
		source.Attributes = &AttributeSchema{}
	}
	if r.obligations, err = readObligations(rest); err != nil {
		faults = appendFaults(faults, err)
	}
	for _, f := range rest.Under("approvals/") {
		source.Templates[strings.TrimSuffix(strings.TrimPrefix(f.Path, "approvals/"), path.Ext(f.Path))] = f
	}
	faults = append(faults, unknownFiles(rest)...)
	r.attributes = source.Attributes

	var candidates []candidate
	byID := map[string]string{}
	for i, compiler := range compilers {
		program := basis.program(same, i, compiler, tables)
		if program == nil {
			if program, err = compiler.Compile(ctx, source); err != nil {
				if !errors.As(err, new(Faults)) {
					return nil, err
				}
				faults = appendFaults(faults, err)
				continue
			}
		}
		for _, p := range program.Policies() {
			if other, taken := byID[p.ID]; taken {
				faults = append(faults, Fault{File: p.File, Policy: p.ID, Message: fmt.Sprintf("policy id %s is taken by %s", p.ID, other)})
			}
			byID[p.ID] = p.File
			candidates = append(candidates, candidate{p, len(r.programs)})
			r.policies = append(r.policies, p)
			for _, pointer := range p.Masks {
				if err := checkMask(pointer); err != nil {
					faults = append(faults, Fault{File: p.File, Policy: p.ID, Message: err.Error()})
				}
			}
			for _, rule := range p.Rules {
				r.rules[p.ID+"/"+rule.ID] = rule
			}
		}
		r.programs = append(r.programs, program)
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b Fault) int {
			if a.File != b.File {
				return strings.Compare(a.File, b.File)
			}
			return a.Line - b.Line
		})
		return nil, faults
	}
	slices.SortFunc(r.policies, func(a, b *Policy) int { return strings.Compare(a.ID, b.ID) })
	r.match = newMatcher(candidates)
	return r.asBasis(rest, tables, compilers), nil
}

func appendFaults(faults Faults, err error) Faults {
	var more Faults
	if errors.As(err, &more) {
		return append(faults, more...)
	}
	return append(faults, Fault{Message: err.Error()})
}

// unknownFiles refuses what no reader takes: a misspelt name would otherwise
// be a guardrail that silently is not there.
func unknownFiles(content *bundles.Content) Faults {
	var faults Faults
	for _, f := range content.Files() {
		if !knownFile(f.Path) {
			faults = append(faults, Fault{File: f.Path, Message: "no reader takes this file; see docs/policies.md for the names a policy repository may hold"})
		}
	}
	return faults
}

func knownFile(p string) bool {
	folder, _, nested := strings.Cut(p, "/")
	ext := path.Ext(p)
	switch {
	case !nested:
		return p == AttributesFile || p == ObligationsFile || p == "schema.cedarschema" || ext == ".md" || p == "LICENSE"
	case folder == "platform" || folder == "tenants" || folder == "self":
		return slices.Contains([]string{".rego", ".cedar", ".cedarschema", ".md"}, ext) || IsRuleDocument(p) || IsCases(p)
	case folder == "approvals":
		return ext == ".yaml" || ext == ".yml" || ext == ".md"
	case folder == "examples":
		return ext == ".json" || ext == ".md"
	default:
		return false
	}
}

// IsRuleDocument reports whether the file is a rule document by its name.
func IsRuleDocument(p string) bool {
	return strings.HasSuffix(p, ".policy.json") || strings.HasSuffix(p, ".policy.yaml") || strings.HasSuffix(p, ".policy.yml")
}

// IsCases reports whether the file holds test cases by its name.
func IsCases(p string) bool { return strings.HasSuffix(p, "_cases.yaml") }

// Policies lists the release's policies by id.
func (r *Release) Policies() []*Policy { return r.policies }

// Programs lists the compiled programs, one per compiler.
func (r *Release) Programs() []Program { return r.programs }

// Attributes returns the attribute schema.
func (r *Release) Attributes() *AttributeSchema { return r.attributes }

// WithoutTenants returns the release as a tenant meets it that has written no
// policies of its own.
func (r *Release) WithoutTenants() *Release {
	shared := *r
	shared.policies = slices.DeleteFunc(slices.Clone(r.policies), func(p *Policy) bool { return p.Layer == LayerTenant })
	shared.match = &matcher{platform: r.match.platform, self: r.match.self}
	return &shared
}

// Rule finds a rule by its full name, such as "platform/network/public_ip".
func (r *Release) Rule(name string) (*Rule, bool) {
	rule, ok := r.rules[name]
	return rule, ok
}

// Numbered returns the release under its number, which a candidate gets only
// when it is published.
func (r *Release) Numbered(number uint64) *Release {
	numbered := *r
	numbered.Number = number
	return &numbered
}

// refuseTrusted refuses a request that supplies what only a source may say.
func (r *Release) refuseTrusted(req *authz.Request) error {
	for _, a := range r.attributes.sorted {
		if !a.Trusted {
			continue
		}
		entity, property := a.property()
		properties := req.Subject.Properties
		if entity == "resource" {
			properties = req.Resource.Properties
		}
		if _, supplied := properties.Get(property); supplied {
			return &authz.FieldError{
				Path:   "/" + entity + "/properties/" + property,
				Detail: "this attribute is trusted: it comes from " + a.Source + " and a request may not supply it",
			}
		}
	}
	return nil
}
