package builtin

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
	"pgregory.net/rapid"
)

// plainTexts serve every function: empty, of several bytes a character, one
// within the other, no UTF-8, long.
var plainTexts = []string{
	"", "a", "b", "ab", "abc", "aab", "aaa", "Ab", "ÄÖ", "é", "éa", "日本語", "日", "𝄞", "İ", "ſK", "\xff", "a\xffb", "\xe6\x97",
	" ", " a\t", "\u2003x ", "a.b.c", "a,b", "x-y", "0", "1", "-1", "1.0", "1e3", "007", "0x10", "+5", "-0", ".5", "NaN", "inf", "9223372036854775808",
	"<b>&\u2028\u2029\"\\\x00\x1f\b\f\n\r\t\x7f", "/", "a/b", "~", "*", "%", strings.Repeat("ab", 40),
}

var regexTexts = []string{"^a+$", "a|b", "(a)(b)?", "a*", "", "(", "[a", "\\d+", "(?i)AB", "\\bfoo\\b", "^[a-z]{2,8}$", "x{1001}", "é", "日.", "$", "^", "(?P<n>a)", "$1", "${n}-$0$$", "\\", ".", "(?:)", "\\pL", "[^a]", "a{2}"}

// domains are texts that mean something to the functions whose names begin so.
var domains = map[string][]string{
	"net.": {
		"10.0.0.0/8", "10.1.2.3", "10.1.2.3/32", "10.0.0.0/08", "10.0.0.0/000024", "10.0.0.0/33", "10.0.0.0/", "/8", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.1/24", "010.0.0.1", "1.2.3", "1.2.3.4.5",
		"0.0.0.0/0", "255.255.255.254/31", "255.255.255.255", "192.168.1.0/24", "192.168.1.128/25", "::/0", "::1", "::1/128", "2001:db8::/32", "2001:db8:0:1::/64", "2001:DB8::ffff",
		"::ffff:10.0.0.0/104", "::ffff:10.1.2.3", "::ffff:0:0/96", "::ffff:0:0/95", "::ffff:10.0.0.0/90", "::/80", "::fffe:0:0/120", "fe80::1%eth0", "fe80::1%eth0/64", "fe80::%a/b", "1.2.3.4/24/8", "١.2.3.4", "10.0.0.0/99999999999999999999",
	},
	"regex.":   regexTexts,
	"re_match": regexTexts,
	"glob":     {"*", "**", "a*", "*.b", "*.b.c", "a.**", "?", "[ab]c", "[!a]*", "{a,b}*", "{a,", "[", "\\*", "a.b.c", ".", "/", "-", "..", "é*", "api.*.com", "api.x.com"},
	"time": {
		"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789+08:00", "2026-02-30T00:00:00Z", "1600-01-01T00:00:00Z", "2300-01-01T00:00:00Z", "2006-01-02", "2026-12-31", "RFC3339", "RFC822", "ANSIC", "UnixDate", "RubyDate", "RFC822Z", "RFC850", "RFC1123", "RFC1123Z", "RFC3339Nano", "Mon Jan  2 15:04:05 2006",
		"1h", "1h30m", "-2.5s", "1d", "2w3h", "1y", "5", "1.5µs", "99999999h", "ms", "UTC", "Local", "Asia/Shanghai", "America/New_York", "Nowhere/City", "../x", "Monday",
	},
	"semver": {
		"1.2.3", "v1.2.3", "vv1.2.3", "1.2.3-rc.1", "1.2.3-rc.2", "1.2.3-rc.10", "1.2.3-rc.1.a", "1.2.3-1", "1.2.3-01", "1.2.3-a", "1.2.3-a.b", "1.2.3--", "1.2.3+b", "1.2.3+01", "1.2.3-a+b-c", "1.2.3+", "1.2.3-", "1.2.3-a..b", "1.2", "1.2.3.4", "01.2.3", "+1.2.3", "1.2.99999999999999999999",
		"1.2.3-99999999999999999999.1", "1.2.3-9223372036854775807.0", "0.0.0", "1.10.0", "1.9.0", "10.0.0", "1.2.3-é", "1.2.3-a_b", "1.2.3-A",
	},
	"units":   {"10", "10K", "10k", "10Ki", "10KI", "1.5Gi", "10m", "10M", "10MB", "10MiB", "10mib", "0", "007", "1e3", "1E", "1Ei", "1E5", "9Ei", "8E", "100E", "10 K", "\"10K\"", "K", "b", "1b", "1B", "1kb", "-1K", "+1K", "1.", "1X", "1Kib", "999999999999999999", "9999999999999999999"},
	"base64":  {"YQ==", "YQ", "YWI=", "YWI", "YWJj", "YW Jj", "YW\nJj", "YQ=\n", "YQ=", "_-_-", "+/+/", "Y", "====", "/w=="},
	"hex":     {"61", "6", "ff", "FF", "zz", "616263"},
	"urlq":    {"a b", "a+b", "a%20b", "%", "%zz", "a=b&c=d", "é", "%ff"},
	"json":    {`{"a": [1, 1.0, null]}`, `[1`, `1`, ` true `, `"x"`, `{"a":1,"a":2}`, `NaN`, `01`, `"\ud800"`},
	"sprintf": {"%s", "%d", "%v", "%s %d", "%%", "%", "%5d", "%-5s|", "%05.2f", "%x", "%q", "%+v", "%[1]d", "%[2]s %[1]s", "%*d", "%!", "%é", "a%sb%vc", "%t", "%e", "%s%s%s", "%T", "%c", "%w", "%U", "%d%%"},
	"string":  {"a", "ab", "b", "abab", "日"},
	"indexof": {"a", "ab", "日", "語", "aa"},
}

// plainNumbers are written in every way and lie at every border.
var plainNumbers = []string{
	"0", "1", "2", "3", "4", "7", "10", "16", "64", "-1", "-2", "-3", "1.0", "2.00", "1.5", "-1.5", "0.5", "-0.5", "-0", "0.0", "-0.0", "1e1", "1E1", "1e-1", "0.1", "0.10", "2.5", "100",
	"2147483647", "2147483648", "-2147483648", "-2147483649", "4294967296", "9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740993", "9223372036854775806", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
	"123456789012345678901234567890", "1e30", "1.7976931348623157e308", "1e400", "1e-400", "0.1234567890123456789", "007",
}

// numberDomains keep what OPA counts up to within reason, or hit what counts.
var numberDomains = map[string][]string{
	"numbers.":   {"0", "1", "2", "3", "5", "10", "-3", "-1", "120", "300", "1.0", "1e1", "2.5", "1.50"},
	"bits.":      {"0", "1", "2", "5", "-1", "-5", "62", "63", "64", "65", "1.0", "1.5", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e3"},
	"time.":      {"0", "1", "-1", "1700000000000000000", "1774749599123456789", "951782400000000000", "1709164800000000000", "-9223372036854775808", "9223372036854775807", "9223372036854775808", "1e18", "1.5", "12", "-13", "31", "400", "100000000", "1.0"},
	"format_int": {"2", "8", "10", "16", "10.0", "3", "-255", "255", "15.9", "18446744073709551617"},
	"product":    {"0", "1", "2", "-3", "1.0", "0.5", "4294967296", "9223372036854775807"},
}

// domain returns what is known for the longest beginning of the name.
func domain(of map[string][]string, name string) []string {
	var best string
	for prefix := range of {
		if strings.HasPrefix(name, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return of[best]
}

// generator draws arguments of one function: mostly of the declared types,
// sometimes of any.
type generator struct {
	t              *rapid.T
	texts, numbers []string
}

func newGenerator(t *rapid.T, name string) generator {
	g := generator{t, domain(domains, name), domain(numberDomains, name)}
	if g.numbers == nil {
		g.numbers = plainNumbers
	}
	return g
}

func (g generator) chance(percent int) bool {
	return rapid.IntRange(0, 99).Draw(g.t, "chance") < percent
}

func (g generator) text() string {
	if g.texts != nil && g.chance(60) {
		s := rapid.SampledFrom(g.texts).Draw(g.t, "text")
		if g.chance(10) {
			s += rapid.SampledFrom(g.texts).Draw(g.t, "more")
		}
		return s
	}
	if g.chance(30) {
		return rapid.StringOfN(rapid.RuneFrom([]rune("ab.-/%é日0 ")), 0, 8, -1).Draw(g.t, "runes")
	}
	return rapid.SampledFrom(plainTexts).Draw(g.t, "text")
}

func (g generator) arguments(name string) []ast.Value {
	declared := ast.BuiltinMap[name].Decl.FuncArgs().Args
	args := make([]ast.Value, len(declared))
	for i, t := range declared {
		if g.chance(90) {
			args[i] = g.of(t, 3)
		} else {
			args[i] = g.of(types.A, 3)
		}
	}
	return args
}

// of draws a value of a type, to some depth.
func (g generator) of(t types.Type, depth int) ast.Value {
	switch t := t.(type) {
	case *types.NamedType:
		return g.of(t.Type, depth)
	case types.Any:
		if len(t) == 0 {
			return g.any(depth)
		}
		return g.of(rapid.SampledFrom(t).Draw(g.t, "alternative"), depth)
	case types.Null:
		return ast.NullValue
	case types.Boolean:
		return ast.Boolean(rapid.Bool().Draw(g.t, "bool"))
	case types.Number:
		return ast.Number(rapid.SampledFrom(g.numbers).Draw(g.t, "number"))
	case types.String:
		return ast.String(g.text())
	case *types.Array:
		if t.Len() > 0 {
			terms := make([]*ast.Term, t.Len())
			for i := range terms {
				terms[i] = ast.NewTerm(g.of(t.Select(i), depth-1))
			}
			return ast.NewArray(terms...)
		}
		return ast.NewArray(g.terms(t.Dynamic(), depth)...)
	case *types.Set:
		return ast.NewSet(g.terms(t.Of(), depth)...)
	case *types.Object:
		o := ast.NewObject()
		keys, vals := g.terms(types.A, depth), g.terms(types.A, depth)
		if g.chance(70) || t.DynamicProperties() != nil && t.DynamicProperties().Key == types.S {
			keys = g.terms(types.S, depth)
		}
		if p := t.DynamicProperties(); p != nil && g.chance(80) {
			vals = g.terms(p.Value, depth)
		}
		for i := range min(len(keys), len(vals)) {
			if o.Get(keys[i]) == nil { // OPA may lose a member when one is replaced
				o.Insert(keys[i], vals[i])
			}
		}
		return o
	}
	return g.any(depth)
}

func (g generator) any(depth int) ast.Value {
	kinds := []types.Type{types.Nl, types.B, types.N, types.N, types.S, types.S}
	if depth > 0 {
		kinds = append(kinds, types.NewArray(nil, types.A), types.NewSet(types.A), types.NewObject(nil, types.NewDynamicProperty(types.A, types.A)))
	}
	return g.of(rapid.SampledFrom(kinds).Draw(g.t, "kind"), depth)
}

func (g generator) terms(of types.Type, depth int) []*ast.Term {
	if of == nil || g.chance(10) {
		of = types.A
	}
	longest := 4
	if g.chance(5) {
		longest = 24 // more than a table looks through
	}
	terms := make([]*ast.Term, rapid.IntRange(0, longest).Draw(g.t, "length"))
	for i := range terms {
		terms[i] = ast.NewTerm(g.of(of, depth-1))
	}
	return terms
}
