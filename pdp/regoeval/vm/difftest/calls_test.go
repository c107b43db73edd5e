package difftest

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// refused are built-ins that policies may not call, or that are slow on
// purpose, or that are written elsewhere.
var refused = []string{
	"json.match_schema", "json.verify_schema", "io.jwt.encode_sign", "io.jwt.encode_sign_raw", "trace", "print", "opa.runtime",
	"crypto.x509.parse_and_verify_certificates", "crypto.x509.parse_and_verify_certificates_with_options",
	"regex.globs_match", "eq", "assign", "walk", "net.cidr_expand",
}

// common are the built-ins that policies mostly call, and so do these.
var common = []string{
	"count", "sum", "max", "min", "sort", "concat", "contains", "startswith", "endswith", "split", "trim", "lower", "upper", "replace", "sprintf",
	"object.get", "object.keys", "object.union", "object.remove", "object.filter", "json.remove", "json.filter", "array.concat", "array.slice", "union", "intersection",
	"to_number", "format_int", "type_name", "is_number", "is_string", "is_object", "is_array", "is_set", "is_null", "is_boolean", "abs", "round", "ceil", "floor",
	"net.cidr_contains", "net.cidr_intersects", "regex.match", "glob.match", "semver.compare", "semver.is_valid", "time.parse_rfc3339_ns", "time.now_ns",
	"numbers.range", "json.marshal", "json.unmarshal", "substring", "indexof", "strings.any_prefix_match", "bits.and", "units.parse", "units.parse_bytes", "plus", "minus", "or", "and",
}

// callable are the built-ins by what they give.
var callable = func() map[kind][]*ast.Builtin {
	of := map[kind][]*ast.Builtin{}
	for _, b := range ast.Builtins {
		if b.Nondeterministic && b.Name != "time.now_ns" || slices.Contains(refused, b.Name) || b.Relation || b.Decl.Result() == nil ||
			strings.HasPrefix(b.Name, "internal.") || strings.HasPrefix(b.Name, "rego.metadata") {
			continue
		}
		k := kindOf(b.Decl.Result())
		of[k] = append(of[k], b)
		if k != anything {
			of[anything] = append(of[anything], b)
		}
		if slices.Contains(common, b.Name) {
			for range 6 {
				of[k] = append(of[k], b)
			}
		}
	}
	return of
}()

func kindOf(t types.Type) kind {
	switch t := t.(type) {
	case types.Number:
		return number
	case types.String:
		return text
	case types.Boolean:
		return truth
	case *types.Array:
		return array
	case *types.Object:
		return object
	case *types.Set:
		return set
	case *types.NamedType:
		return kindOf(t.Type)
	}
	return anything
}

func (w *writer) callOf(k kind, depth int) string {
	some := callable[k]
	if len(some) == 0 {
		return ""
	}
	b := some[w.roll(max(257, len(some)))%len(some)]
	family, _, _ := strings.Cut(b.Name, ".")
	var args []string
	for _, t := range b.Decl.FuncArgs().Args {
		args = append(args, w.typed(t, family, depth-1))
	}
	if b.Infix != "" && len(args) == 2 {
		return "(" + args[0] + " " + b.Infix + " " + args[1] + ")"
	}
	return b.Name + "(" + strings.Join(args, ", ") + ")"
}

// typed is a term for a parameter of a built-in.
func (w *writer) typed(t types.Type, family string, depth int) string {
	if w.once(12) {
		return w.given(anything)
	}
	switch t := t.(type) {
	case *types.NamedType:
		return w.typed(t.Type, family, depth)
	case types.String:
		if !w.once(3) {
			return w.quoted(family)
		}
	case types.Any:
		if len(t) > 0 {
			return w.typed(pick(w.dice, []types.Type(t)...), family, depth)
		}
	case *types.Array:
		if n := t.Len(); n > 0 {
			var elems []string
			for i := range n {
				elems = append(elems, w.typed(t.Select(i), family, depth-1))
			}
			return "[" + strings.Join(elems, ", ") + "]"
		}
		if e := t.Dynamic(); e != nil && !w.once(3) {
			return "[" + w.typed(e, family, depth-1) + ", " + w.typed(e, family, depth-1) + "]"
		}
	case *types.Set:
		if e := t.Of(); e != nil && !w.once(3) {
			return "{" + w.typed(e, family, depth-1) + ", " + w.typed(e, family, depth-1) + "}"
		}
	}
	if kindOf(t) == number {
		return w.small()
	}
	return w.term(kindOf(t), depth)
}

// small is a number of which no built-in makes too much.
func (w *writer) small() string {
	if w.once(3) {
		return w.given(number)
	}
	return pick(w.dice, "0", "1", "2", "-1", "3", "1.0", "10", "1.5", "16")
}
