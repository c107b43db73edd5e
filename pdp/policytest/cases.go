package policytest

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// DefaultNow is the clock of a case where neither it nor its file says another.
var DefaultNow = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// testCase is one request and what must come of it.
type testCase struct {
	file    string
	line    int
	name    string
	policy  string // whose reasons, obligations, limits and routes are meant; empty: all
	layer   pdp.Layer
	now     time.Time
	answers Answers
	request authz.Request
	expect  expectation
}

// expectation holds what a case says; nil is what it does not say.
type expectation struct {
	effect      *authz.Effect
	reasons     []string
	paths       map[string][]string
	obligations []string
	limits      []string
	route       *string // "" is no route
}

// caseFile reads one file of cases against a release.
type caseFile struct {
	*document
	release *pdp.Release
	layer   pdp.Layer
	tenant  string
	base    authz.Value // the request that the cases share
	shared  testCase    // what the file says for each case
}

// readCases reads one file. A fault in a case leaves that case out; one in what
// the cases share, all of them.
func readCases(release *pdp.Release, file bundles.File) ([]testCase, pdp.Faults) {
	f := caseFile{document: readDocument(file.Path, file.Data), release: release}
	if len(f.faults) > 0 {
		return nil, f.faults
	}
	if !f.object(f.value, "", "policy", "now", "attributes", "request", "cases") {
		return nil, f.faults
	}
	var err error
	if f.layer, f.tenant, err = pdp.PolicyPlace(file.Path); err != nil {
		f.fault("", "%v", err)
		return nil, f.faults
	}
	f.shared = testCase{file: file.Path, layer: f.layer, now: DefaultNow, answers: Answers{}}
	f.base, _ = f.value.Get("request")
	f.base = longAction(f.base)
	if v, ok := f.value.Get("policy"); ok {
		f.shared.policy = f.text(v, "/policy")
		f.checkPolicy()
	}
	f.circumstances(f.value, "", &f.shared)
	list, ok := f.value.Get("cases")
	if !ok || list.Kind() != authz.KindList || list.Len() == 0 {
		f.fault("/cases", "want a list of cases")
	}
	if f.wrong > 0 { // what is wrong here is wrong for every case
		return nil, f.faults
	}
	var cases []testCase
	named := map[string]int{}
	for i := range list.Len() {
		before := f.wrong
		c := f.testCase(list.Index(i), "/cases/"+strconv.Itoa(i))
		if line, taken := named[c.name]; taken {
			f.faultAt(c.line, "case %q is named like the one in line %d", c.name, line)
		}
		named[c.name] = c.line
		if f.wrong == before {
			cases = append(cases, c)
		}
	}
	return cases, f.faults
}

// checkPolicy refuses a policy that the file's cases could not be about.
func (f *caseFile) checkPolicy() {
	layer, tenant, err := pdp.PolicyPlace(f.shared.policy)
	_, known := slices.BinarySearchFunc(f.release.Policies(), f.shared.policy, func(p *pdp.Policy, id string) int {
		return strings.Compare(p.ID, id)
	})
	switch {
	case err != nil:
		f.fault("/policy", "%v", err)
	case layer == pdp.LayerTenant && f.layer == pdp.LayerTenant && tenant != f.tenant:
		f.fault("/policy", "cases of tenant %s cannot be about a policy of another tenant", f.tenant)
	case layer == pdp.LayerTenant && f.layer == pdp.LayerPlatform:
		f.fault("/policy", "cases of the platform are answered without any tenant's policies; cases of %s belong into its folder", f.shared.policy)
	case (layer == pdp.LayerSelf) != f.self():
		f.fault("/policy", "self policies are asked by cases under self/, and by no others")
	case !known:
		f.fault("/policy", "there is no policy %s in this release", f.shared.policy)
	}
}

// self reports whether the cases are asked of the self policies.
func (f *caseFile) self() bool { return f.layer == pdp.LayerSelf }

func (f *caseFile) testCase(v authz.Value, at string) testCase {
	c := f.shared
	c.line = f.line(at)
	if !f.object(v, at, "name", "now", "attributes", "merge", "set", "expect") {
		return c
	}
	name, _ := v.Get("name")
	c.name = f.text(name, join(at, "name"))
	f.circumstances(v, at, &c)
	c.request = f.request(v, at)
	if f.self() {
		c.request = c.answers.supply(c.request)
	}
	expect, ok := v.Get("expect")
	if !ok || expect.Len() == 0 {
		f.fault(join(at, "expect"), "a case must expect something")
		return c
	}
	c.expect = f.expectation(expect, join(at, "expect"))
	return c
}

// circumstances reads what a file and a case may both say: the clock and the
// answers of sources.
func (f *caseFile) circumstances(v authz.Value, at string, c *testCase) {
	if now, ok := v.Get("now"); ok {
		parsed, err := time.Parse(time.RFC3339, f.text(now, join(at, "now")))
		if err != nil {
			f.fault(join(at, "now"), "want a time such as 2026-06-01T08:00:00Z")
		}
		c.now = parsed
	}
	if attributes, ok := v.Get("attributes"); ok {
		check := sourced(f.release.Attributes())
		if f.self() {
			check = supplied
		}
		c.answers = maps.Clone(c.answers)
		maps.Copy(c.answers, f.answers(attributes, join(at, "attributes"), check))
	}
}

// request builds the case's request out of the file's.
func (f *caseFile) request(v authz.Value, at string) authz.Request {
	built := f.base
	if patch, ok := v.Get("merge"); ok && f.object(patch, join(at, "merge")) {
		built = merge(built, patch)
	}
	if changes, ok := v.Get("set"); ok && f.object(changes, join(at, "set")) {
		for i := range changes.Len() {
			pointer := changes.Name(i)
			changed, err := setAt(built, steps(pointer), changes.Index(i))
			if !strings.HasPrefix(pointer, "/") {
				err = errors.New("want a JSON pointer such as /resource/properties/cpu")
			}
			if err != nil {
				f.fault(join(join(at, "set"), pointer), "%v", err)
				continue
			}
			built = changed
		}
	}
	req, err := authz.RequestOf(built)
	if err != nil {
		f.fault(at, "its request is refused: %v", err)
		return req
	}
	if f.layer == pdp.LayerTenant && req.Tenant != f.tenant {
		f.fault(at, "cases of tenant %s cannot ask for tenant %s", f.tenant, req.Tenant)
	}
	return req
}

// longAction writes a request's action out, so that cases can change a part of
// it.
func longAction(request authz.Value) authz.Value {
	action, ok := request.Get("action")
	if !ok || action.Kind() != authz.KindString {
		return request
	}
	long, _ := authz.ObjectValue(authz.Member{Name: "name", Value: action}) // one member
	return request.With("action", long)
}

func (f *caseFile) expectation(v authz.Value, at string) expectation {
	var e expectation
	if !f.object(v, at, "effect", "reasons", "paths", "obligations", "limits", "route") {
		return e
	}
	if effect, ok := v.Get("effect"); ok {
		e.effect = new(authz.Effect)
		if err := e.effect.UnmarshalText([]byte(effect.Text())); err != nil {
			f.fault(join(at, "effect"), "%v", err)
		}
	}
	e.reasons = f.expectedSet(v, at, "reasons")
	e.obligations = f.expectedSet(v, at, "obligations")
	e.limits = f.expectedSet(v, at, "limits")
	if paths, ok := v.Get("paths"); ok && f.object(paths, join(at, "paths")) {
		e.paths = map[string][]string{}
		for i := range paths.Len() {
			rule, member := paths.Name(i), paths.Index(i)
			if member.Kind() == authz.KindString {
				member = authz.ListValue(member)
			}
			e.paths[rule] = set(f.texts(member, join(join(at, "paths"), rule)))
		}
	}
	if route, ok := v.Get("route"); ok {
		e.route = new(string)
		if route.Kind() != authz.KindNull {
			*e.route = f.text(route, join(at, "route"))
		}
	}
	return e
}

// expectedSet reads a list of names, nil where the case does not say it.
func (f *caseFile) expectedSet(v authz.Value, at, name string) []string {
	member, ok := v.Get(name)
	if !ok {
		return nil
	}
	return set(f.texts(member, join(at, name)))
}
