package regoeval

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// entryError is an entry of one of the six sets that does not hold what the
// format asks for.
type entryError struct {
	set  pdp.RuleKind
	rule *pdp.Rule // nil where the entry does not say
	err  error
}

func (e *entryError) Error() string { return fmt.Sprintf("%s: %v", setNames[e.set], e.err) }

func (e *entryError) Unwrap() error { return e.err }

var errNotASet = errors.New("not a set")

// outcome reads the policy's sets out of topdown's answer. Its errors are
// [*entryError]s.
func (e *entry) outcome(result topdown.QueryResult) (pdp.Outcome, error) {
	out := pdp.Outcome{Policy: e.module.policy}
	for i, kind := range e.module.sets {
		set, ok := result[e.vars[i]].Value.(ast.Set)
		if !ok {
			return pdp.Outcome{}, &entryError{kind, nil, errNotASet}
		}
		for _, member := range set.Slice() { // in Rego's order
			if err := e.add(&out, kind, entryOf(member.Value)); err != nil {
				return pdp.Outcome{}, err
			}
		}
	}
	return out, nil
}

// addSet reads one of the policy's sets. What out gets is its own memory. Its
// errors are [*entryError]s.
func (e *entry) addSet(out *pdp.Outcome, kind pdp.RuleKind, set value.Value) error {
	if set.Kind() != value.Set {
		return &entryError{kind, nil, errNotASet}
	}
	for i := range set.Len() {
		member, _ := set.At(i)
		if err := e.add(out, kind, member); err != nil {
			return err
		}
	}
	return nil
}

// add reads one entry.
func (e *entry) add(out *pdp.Outcome, kind pdp.RuleKind, v value.Value) error {
	if s, ok := e.spelt.entry(v); ok && kind <= pdp.KindAllow {
		if rule := e.rules[s.rule]; rule != nil && rule.Kind == kind {
			out.Findings = append(out.Findings, pdp.Finding{Rule: rule, Path: s.path, Args: s.args})
			return nil
		}
	}
	if v.Kind() != value.Object {
		return &entryError{kind, nil, fmt.Errorf("want an object, not %s", shown(v))}
	}
	keep := keepers.Get().(*keeper)
	defer keepers.Put(keep)
	keep.terms = e.terms
	r := reader{known: setMembers[kind], keep: keep, spelt: e.spelt}
	for i := range v.Len() {
		r.member(v.At(i))
	}
	rule := e.rules[r.rule]
	switch {
	case rule == nil:
		return &entryError{kind, nil, fmt.Errorf("the rule %q is not declared", r.rule)}
	case kind <= pdp.KindAllow && rule.Kind != kind:
		r.fail("the rule is declared in %s", setNames[rule.Kind])
	}
	id := e.module.policy.ID
	switch kind {
	case pdp.KindObligation:
		r.require("id", r.id)
		out.Obligations = append(out.Obligations, authz.Obligation{Policy: id, Rule: rule.ID, ID: r.id, Must: !r.optional, Params: r.params()})
	case pdp.KindLimit:
		r.require("key", r.limit.Key)
		r.limit.Policy, r.limit.Rule = id, rule.ID
		if r.limit == (authz.Limit{Policy: id, Rule: rule.ID, Key: r.limit.Key}) {
			r.fail("a limit states rate, burst, quota or cost")
		}
		out.Limits = append(out.Limits, r.limit)
	case pdp.KindRoute:
		r.require("pool", r.route.Pool)
		r.route.Policy, r.route.Rule = id, rule.ID
		out.Routes = append(out.Routes, r.route)
	default:
		if r.path != "" && !strings.HasPrefix(r.path, "/") {
			r.fail("path: want a JSON pointer, not %q", r.path)
		}
		out.Findings = append(out.Findings, pdp.Finding{Rule: rule, Path: r.path, Args: r.object})
	}
	if r.err != nil {
		return &entryError{kind, rule, r.err}
	}
	return nil
}

// reader reads the members of one entry and keeps the first thing that is
// wrong with it.
type reader struct {
	known          map[string]member
	keep           *keeper
	spelt          *spelt
	rule, path, id string
	optional       bool        // must is false
	object         authz.Value // args or params
	limit          authz.Limit
	route          authz.Route
	err            error
}

func (r *reader) fail(format string, args ...any) {
	r.err = cmp.Or(r.err, fmt.Errorf(format, args...))
}

func (r *reader) require(name, value string) {
	if value == "" {
		r.fail("%s: required and not empty", name)
	}
}

// params returns the obligation's parameters, an object also when none are
// given.
func (r *reader) params() authz.Value {
	if r.object.Kind() == authz.KindObject {
		return r.object
	}
	empty, _ := authz.ObjectValue() // cannot repeat a name
	return empty
}

func (r *reader) member(key, v value.Value) {
	name := key.Text()
	if _, ok := r.known[name]; !ok {
		r.fail("no member %s is known here", shown(key))
		return
	}
	switch name {
	case "rule":
		r.rule = v.Text() // only to look it up
		if v.Kind() != value.String {
			r.fail("rule: want a string, not %s", shown(v))
		}
	case "path":
		r.text(&r.path, name, v)
	case "id":
		r.text(&r.id, name, v)
	case "key":
		r.text(&r.limit.Key, name, v)
	case "pool":
		r.text(&r.route.Pool, name, v)
	case "standby":
		r.text(&r.route.Standby, name, v)
	case "must":
		if v.Kind() != value.Bool {
			r.fail("must: want true or false, not %s", shown(v))
		}
		r.optional = !v.IsTrue()
	case "args", "params":
		if object, ok := r.spelt.object(v); ok {
			r.object = object
			break
		}
		object, err := r.keep.value(v)
		if err == nil && object.Kind() != authz.KindObject {
			err = fmt.Errorf("want an object, not %s", shown(v))
		}
		if err != nil {
			r.fail("%s: %w", name, err)
		}
		r.object = object
	case "rate":
		if v.Kind() == value.Number {
			r.limit.Rate = v.Float()
		}
		if !(r.limit.Rate > 0) || math.IsInf(r.limit.Rate, 0) {
			r.fail("rate: want a number above 0, not %s", shown(v))
		}
	case "burst":
		r.count(&r.limit.Burst, name, v, 1)
	case "cost":
		r.count(&r.limit.Cost, name, v, 1)
	case "window":
		r.text(&r.limit.Window, name, v)
		if d, err := time.ParseDuration(r.limit.Window); err != nil || d <= 0 {
			r.fail("window: want a duration such as 1m, not %s", shown(v))
		}
	case "quota":
		r.quota(v)
	}
}

func (r *reader) text(to *string, name string, v value.Value) {
	if v.Kind() != value.String {
		r.fail("%s: want a string, not %s", name, shown(v))
	}
	*to = r.keep.text(v.Text())
}

// count reads an integer that is at least least.
func (r *reader) count(to *int64, name string, v value.Value, least int64) {
	n, err := r.keep.value(v)
	if err != nil || n.Kind() != authz.KindInt || n.Int() < least {
		r.fail("%s: want an integer from %d, not %s", name, least, shown(v))
	}
	*to = n.Int()
}

// resets are the periods of a quota.
var resets = map[string]bool{"hour": true, "day": true, "month": true}

func (r *reader) quota(v value.Value) {
	if v.Kind() != value.Object {
		r.fail("quota: want an object, not %s", shown(v))
		return
	}
	q := authz.Quota{Max: -1}
	for i := range v.Len() {
		switch key, member := v.At(i); key.Text() {
		case "max":
			r.count(&q.Max, "quota.max", member, 0)
		case "reset":
			r.text(&q.Reset, "quota.reset", member)
		default:
			r.fail("quota: no member %s is known here", shown(key))
		}
	}
	if q.Max < 0 || !resets[q.Reset] {
		r.fail("quota: want max, and reset as hour, day or month")
	}
	r.limit.Quota = &q
}
