package regoeval_test

import (
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func TestRefusedBuiltinsAreFaultsThatSayWhy(t *testing.T) {
	for call, why := range map[string]string{
		`http.send({"method": "get", "url": "http://x"})`: "reaches the network",
		`net.lookup_ip_addr("x")`:                         "reaches the network",
		`json.match_schema({}, {"$ref": "http://x"})`:     "on the network",
		`json.verify_schema({"$ref": "http://x"})`:        "on the network",
		`opa.runtime()`:                                  "environment",
		`rand.intn("x", 2)`:                              "same answer",
		`uuid.rfc4122("x")`:                              "same answer",
		`io.jwt.encode_sign({}, {}, {})`:                 "holds no keys",
		`io.jwt.encode_sign_raw("", "", "")`:             "holds no keys",
		`trace("x")`:                                     "nobody reads",
		`graph.reachable_paths({}, {"a"})`:               "nothing bounds the time",
		`strings.render_template("x", {})`:               "nothing bounds the time",
		`print("x")`:                                     "nobody reads",
		`crypto.x509.parse_and_verify_certificates("x")`: "clock",
		`crypto.x509.parse_and_verify_certificates_with_options("x", {"DNSName": "y"})`: "clock",
	} {
		t.Run(call, func(t *testing.T) {
			wantFault(t, deny("a", "a if {\n\tx := [1 | "+call+"]\n\tx[0] == 1\n}"), "platform/p.rego:6", why)
		})
	}
	wantFault(t, deny("h", "h.a[opa.runtime().x].b := 1"), "platform/p.rego:5", "environment")
	wantFault(t, deny("f(1) == 1 with f as http.send", "f(x) := x"), "platform/p.rego:4", "reaches the network")
	wantFault(t, deny(`time.now_ns() == 1 with http.send as 1`, ""), "platform/p.rego:4", "reaches the network")
}

func TestNoBuiltinIsNondeterministicButTheClock(t *testing.T) {
	kept := map[string]string{"time.now_ns": "time.now_ns() == 1", "io.jwt.decode_verify": `io.jwt.decode_verify("x", {})[0]`}
	for _, b := range ast.Builtins {
		if condition, ok := kept[b.Name]; b.Nondeterministic && ok {
			if _, err := load(t, deny(condition, "")); err != nil {
				t.Errorf("%s: %v", b.Name, err)
			}
			continue
		}
		if b.Nondeterministic && len(faultsOf(t, deny(b.Name+"(1)", ""))) == 0 {
			t.Errorf("%s is not refused", b.Name)
		}
	}
}
