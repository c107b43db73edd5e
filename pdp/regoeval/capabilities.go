package regoeval

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The clock comes from the query; the token built-in takes it from there.
var keptNondeterministic = []string{"time.now_ns", "io.jwt.decode_verify"}

// refusals says why a built-in is not to be had. Whatever OPA itself declares
// as nondeterministic is refused too, with or without an entry here.
var refusals = map[string]string{
	"http.send":               "it reaches the network",
	"net.lookup_ip_addr":      "it reaches the network",
	"json.match_schema":       "a schema may refer to documents on the network",
	"json.verify_schema":      "a schema may refer to documents on the network",
	"opa.runtime":             "it reads the server's environment",
	"rand.intn":               "the same request must always get the same answer",
	"uuid.rfc4122":            "the same request must always get the same answer",
	"io.jwt.encode_sign":      "signing uses randomness, and a policy holds no keys",
	"io.jwt.encode_sign_raw":  "signing uses randomness, and a policy holds no keys",
	"trace":                   "it writes where nobody reads; ask for an explanation instead",
	"print":                   "it writes where nobody reads; ask for an explanation instead",
	"graph.reachable_paths":   "nothing bounds the time that it takes",
	"strings.render_template": "nothing bounds the time that it takes",

	"crypto.x509.parse_and_verify_certificates":              "it reads the server's clock and trusted roots",
	"crypto.x509.parse_and_verify_certificates_with_options": "it reads the server's clock and trusted roots",
}

// capabilities is what Rego may use here: OPA's own without the refused
// built-ins, and no host to fetch anything from.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		return refusal(b.Name) != "" || b.Nondeterministic && !slices.Contains(keptNondeterministic, b.Name)
	})
	c.AllowNet = []string{} // nil would mean any host
	return c
}

// refusal says why the built-in is refused, "" for one that is not.
func refusal(name string) string {
	if why, ok := refusals[name]; ok {
		return why
	}
	if b := ast.BuiltinMap[name]; b != nil && b.Nondeterministic && !slices.Contains(keptNondeterministic, name) {
		return "its answer depends on more than the request"
	}
	return ""
}

// findRefused adds a fault for each use of a refused built-in: a call, or a
// replacement through `with`.
func findRefused(parsed *ast.Module, report *faults) {
	check := func(operator *ast.Term) {
		ref, ok := operator.Value.(ast.Ref)
		if !ok {
			return
		}
		if why := refusal(ref.String()); why != "" {
			location := operator.Location
			report.add(location.File, location.Row, "the built-in %s is refused: %s", ref, why)
		}
	}
	for _, rule := range parsed.Rules {
		visit(rule, func(node any) bool {
			switch node := node.(type) {
			case *ast.Expr:
				if node.IsCall() {
					check(node.OperatorTerm())
				}
			case ast.Call:
				check(node[0])
			case *ast.With:
				check(node.Target)
				check(node.Value)
			}
			return false
		})
	}
}
