//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// regoRelease reads of a policy repository what both sides of a comparison
// with OPA can evaluate: its Rego, and the data and declarations around it.
// The policies about callers of Xiezhi itself come along, since its server
// needs them; they take no part in other decisions.
func regoRelease(repository fs.FS) (*bundles.Content, error) {
	return releaseOf(repository, isModule)
}

// releaseOf is regoRelease with those modules alone that are wanted.
func releaseOf(repository fs.FS, wanted func(path string) bool) (*bundles.Content, error) {
	return bundles.ReadFS(repository, func(p string) bool {
		folder, _, _ := strings.Cut(p, "/")
		switch folder {
		case "platform", "tenants":
			return wanted(p)
		case "self", "tables", "approvals", pdp.AttributesFile, pdp.ObligationsFile:
			return true
		default:
			return false
		}
	})
}

func isModule(p string) bool {
	return path.Ext(p) == ".rego" && !strings.HasSuffix(p, "_test.rego")
}

// question is what a peer is asked about a request: the findings of the
// policies that apply to it, all of them and no others, as one object by
// policy id and set. Xiezhi asks its own evaluator the same.
type question struct {
	name string // distinct questions are numbered: q0, q1, …
	text string // a Rego term
}

// questions finds the distinct questions of the inputs, and which input asks
// which.
func questions(policies []*pdp.Policy, inputs []input) (distinct []question, of []int) {
	byText := map[string]int{}
	for i := range inputs {
		text := questionOf(policies, &inputs[i].request)
		n, known := byText[text]
		if !known {
			n = len(distinct)
			byText[text] = n
			distinct = append(distinct, question{fmt.Sprintf("q%d", n), text})
		}
		of = append(of, n)
	}
	return distinct, of
}

func questionOf(policies []*pdp.Policy, req *authz.Request) string {
	var members []string
	for _, p := range policies {
		if applies(p, req) {
			members = append(members, fmt.Sprintf("%q: {%s}", p.ID, strings.Join(sets(p), ", ")))
		}
	}
	return "{" + strings.Join(members, ", ") + "}"
}

// applies reads a policy's scope as docs/policies.md says it.
func applies(p *pdp.Policy, req *authz.Request) bool {
	takes := func(patterns []string, name string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool { return pdp.MatchPattern(pattern, name) })
	}
	return (p.Layer == pdp.LayerPlatform || p.Layer == pdp.LayerTenant && p.Tenant == req.Tenant) &&
		takes(p.Scope.Actions, req.Action.Name) && takes(p.Scope.ResourceTypes, req.Resource.Type)
}

// sets lists the sets that a policy has, each with where its Rego keeps it.
func sets(p *pdp.Policy) []string {
	place := "data.xiezhi"
	for step := range strings.SplitSeq(p.ID, "/") {
		place += fmt.Sprintf("[%q]", step)
	}
	var members []string
	for _, kind := range []pdp.RuleKind{pdp.KindDeny, pdp.KindReview, pdp.KindAllow, pdp.KindObligation, pdp.KindLimit, pdp.KindRoute} {
		if slices.ContainsFunc(p.Rules, func(r *pdp.Rule) bool { return r.Kind == kind }) {
			members = append(members, fmt.Sprintf("%q: %s[%q]", kind, place, kind))
		}
	}
	return members
}

// peerData is the release's tables where Rego finds them.
func peerData(content *bundles.Content) (map[string]any, error) {
	platform, tenants := map[string]any{}, map[string]any{}
	for _, f := range content.Files() {
		name, ok := strings.CutPrefix(f.Path, "tables/")
		if !ok {
			continue
		}
		var file struct {
			Platform any
			Tenants  map[string]any
		}
		if err := yaml.Unmarshal(f.Data, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		name = strings.TrimSuffix(name, path.Ext(name))
		if file.Platform != nil {
			platform[name] = file.Platform
		}
		for tenant, table := range file.Tenants {
			if tenants[tenant] == nil {
				tenants[tenant] = map[string]any{"tables": map[string]any{}}
			}
			tenants[tenant].(map[string]any)["tables"].(map[string]any)[name] = table
		}
	}
	return map[string]any{"xiezhi": map[string]any{
		"platform": map[string]any{"tables": platform},
		"tenants":  tenants,
	}}, nil
}
