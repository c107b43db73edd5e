package builtin

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// endless are numbers in pre-releases with which OPA's semver.compare may not
// come back.
var endless = regexp.MustCompile(`[0-9]{19}`)

// FuzzBuiltins calls a native function with the elements of an array that is
// spelt in Rego, some of them as constants of the program.
func FuzzBuiltins(f *testing.F) {
	names := slices.Sorted(maps.Keys(natives))
	for i, name := range names {
		var list []string
		for _, s := range append(domain(domains, name), "a", "ab", "1") {
			list = append(list, fmt.Sprintf("%q", s))
		}
		list = append(list, "-1.0", "2", `{"a": [1, {2}]}`, `{"a": {"b": null}}`)
		arguments := len(ast.BuiltinMap[name].Decl.FuncArgs().Args)
		f.Add(uint(i), uint(i), "["+strings.Join(list[:max(arguments, 2)], ", ")+"]")
		f.Add(uint(i), uint(i), "["+strings.Join(list[len(list)-4:], ", ")+"]")
	}
	c := newCourt()
	f.Fuzz(func(t *testing.T, function, constants uint, list string) {
		term, err := ast.ParseTerm(list)
		if err != nil {
			return
		}
		array, ok := term.Value.(*ast.Array)
		name := names[function%uint(len(names))]
		arguments := len(ast.BuiltinMap[name].Decl.FuncArgs().Args)
		if !ok || array.Len() < arguments || name == ast.SemVerCompare.Name && endless.MatchString(list) {
			return
		}
		args, constant := make([]ast.Value, arguments), make([]bool, arguments)
		for i := range args {
			args[i], constant[i] = array.Elem(i).Value, constants>>i&1 == 1
			if !plain(args[i]) {
				return
			}
		}
		c.compare(t, name, args, constant)
	})
}

// plain reports whether a term is a value, with nothing left to evaluate.
func plain(v ast.Value) bool {
	found := true
	ast.WalkTerms(ast.NewTerm(v), func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Null, ast.Boolean, ast.Number, ast.String, *ast.Array, ast.Object, ast.Set:
		default:
			found = false
		}
		return !found
	})
	return found
}
