package cedareval

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// leaveToCedarGo lets cedar-go evaluate every condition.
func (p *program) leaveToCedarGo() {
	for _, s := range p.statements {
		s.simple = nil
	}
}

// grammar is what conditions are made of, from the leaves up; # is another
// expression.
type grammar []string

// anything is mostly what is an error, or of two types, which is false.
var anything = grammar{
	`principal.a`, `resource.a`, `resource.b`, `context.a`, `context.tenant`, `resource.missing`, `"x"`, `""`, `"acme"`, `2`, `-3`, `0`, `true`, `false`,
	`resource has a`, `resource has b`, `principal has a`, `context has a`, `context has tenant`, `context has now`,
	`principal in role::"r"`, `principal in [role::"r", user::"li.wei"]`, `principal in user::"li.wei"`, `principal is user`, `resource is user`,
	`resource is ecs::instance in ecs::instance::"web"`, `principal is user in role::"s"`, `action in Action::"read"`, `action == Action::"read"`,
	`["x", "y"].contains(#)`, `[2, "x", true].contains(#)`, `[].contains(#)`, `[[2]].contains(#)`, `resource.b.contains(#)`,
	`# like "x*"`, `# like "*"`, `!(#)`, `(#) && (#)`, `(#) || (#)`, `(#) == (#)`, `(#) != (#)`, `(#) < (#)`, `(#) <= (#)`, `(#) > (#)`, `(#) >= (#)`,
	`if # then # else #`, `(#) + 1 == 3`, `decimal("1.5") == (#)`, `9007199254740993 == (#)`,
}

// typed is what a schema lets pass.
var typed = grammar{
	`principal.a == "x"`, `resource.a < 2`, `resource.a >= 2`, `resource.a > 2`, `resource.a <= 2`, `resource.b`, `resource.c == ip("10.0.0.1")`, `resource has c`, `resource has d`,
	`resource has d && resource.d == decimal("1.5")`, `resource has d && resource has f && resource.d == resource.f`, `resource.e == principal`, `resource has e`, `context.tenant == principal.a`,
	`context.a like "x*"`, `context has a`, `context has now`, `["x", "acme"].contains(principal.a)`, `principal in role::"r"`, `action in Action::"reading"`,
	`!(#)`, `(#) && (#)`, `(#) || (#)`, `(#) == (#)`, `if # then # else #`,
}

const typedSchema = `
entity role; entity user in role = { a: String, roles?: Set<String> };
namespace ecs { entity instance = { a: Long, b: Bool, c: ipaddr, d?: decimal, e: user, f?: decimal }; }
action reading; action read in reading appliesTo { principal: user, resource: ecs::instance, context: { a: String } };`

func (g grammar) expression(rng *rand.Rand, depth int) string {
	n := len(g)
	if depth == 0 {
		n = slices.IndexFunc(g, func(e string) bool { return strings.Contains(e, "#") })
	}
	e := g[rng.IntN(n)]
	for strings.Contains(e, "#") {
		e = strings.Replace(e, "#", "("+g.expression(rng, depth-1)+")", 1)
	}
	return e
}

// What is decided without cedar-go is decided as cedar-go does.
func TestSimpleConditionsHoldWhereCedarGoSaysSo(t *testing.T) {
	for _, tt := range []struct {
		name   string
		common files
		of     grammar
		values []string
	}{
		{"anything", nil, anything, []string{`"x"`, `"xy"`, `""`, `"acme"`, `2`, `-3`, `0`, `true`, `false`, `1.5`, `["x"]`, `[]`, `{"c":2}`, `null`, `0.12345`}},
		{"under a schema", files{"schema.cedarschema": typedSchema}, typed, []string{
			`"x"`, `"xy"`, `"acme"`, `2`, `-3`, `true`, `false`, `"10.0.0.1"`, `"1.5"`, `1.5`, `{"type":"user","id":"li.wei"}`, `null`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := differing{t, rand.New(rand.NewPCG(1, 2)), tt.of, tt.values, map[string]int{}}
			simple, statements := 0, 0
			for range 150 {
				f := maps.Clone(tt.common)
				if f == nil {
					f = files{}
				}
				for p := range 4 {
					f[fmt.Sprintf("platform/p%d.cedar", p)] = d.policy()
				}
				program, judge := f.compile(t), f.compile(t)
				judge.leaveToCedarGo()
				for _, s := range program.statements {
					if statements++; s.simple != nil {
						simple++
					}
				}
				for range 10 {
					d.compare(program, judge, f)
				}
			}
			t.Logf("%d of %d statements are simple; said %v", simple, statements, d.said)
			if simple < statements/5 || d.said["deny"] < 1000 || d.said["unsupported_value"] < 500 {
				t.Error("that is too few to tell")
			}
		})
	}
}

// differing looks for what two programs say differently.
type differing struct {
	t      *testing.T
	rng    *rand.Rand
	of     grammar
	values []string
	said   map[string]int
}

func (d *differing) policy() string {
	text := `// @policy({"reads":["subject.a","subject.roles","resource.a","resource.b","resource.c","resource.d","resource.e","resource.f","resource.missing","context.a"]})` + "\n"
	for s := range 3 {
		text += fmt.Sprintf("@id(\"s%d\") forbid (principal, action, resource)", s)
		for range d.rng.IntN(3) {
			text += fmt.Sprintf(" %s { %s }", []string{"when", "unless"}[d.rng.IntN(2)], d.of.expression(d.rng, 3))
		}
		text += ";\n"
	}
	return text
}

func (d *differing) object(names ...string) string {
	var members []string
	for _, name := range names {
		if d.rng.IntN(5) > 0 {
			members = append(members, fmt.Sprintf("%q:%s", name, d.values[d.rng.IntN(len(d.values))]))
		}
	}
	return strings.Join(members, ",")
}

// compare asks both about one request. A typed request is right at times only,
// so half of its values are.
func (d *differing) compare(program, judge *program, f files) {
	who, what := `"user","id":"li.wei"`, `"ecs.instance","id":"web"`
	if d.rng.IntN(8) == 0 {
		what = who
	}
	properties, of, in := d.object("a"), d.object("a", "b", "c", "d", "e", "f"), d.object("a")
	if d.rng.IntN(2) == 0 {
		properties, of, in = `"a":"x"`, `"a":2,"b":true,"c":"10.0.0.1","d":"1.5","f":"1.50","e":{"type":"user","id":"li.wei"}`, `"a":"xy"`
	}
	if roles := []string{"", `"roles":["r"]`, `"roles":["s","r"]`, `"roles":[3]`}[d.rng.IntN(4)]; roles != "" {
		properties = strings.TrimSuffix(roles+","+properties, ",")
	}
	asked := request(d.t, fmt.Sprintf(`{"subject":{"type":%s,"properties":{%s}},"action":"read","resource":{"type":%s,"properties":{%s}},"context":{%s}}`,
		who, properties, what, of, in))
	got, want := program.say(d.t, asked), judge.say(d.t, asked)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		d.t.Fatalf("%s\ngot  %v\nwant %v\nof %v", asked.Value.AppendJSON(nil), got, want, f)
	}
	for _, line := range want {
		d.said[strings.SplitN(line, " ", 2)[0]]++
	}
}
