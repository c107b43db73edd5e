package cedareval

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const propertySchema = `
entity role;
entity user, team in [role] = { level?: Long, roles?: Set<String> };
namespace ecs { entity disk, instance in [disk] = { level?: Long, owner?: String }; }
action all; action some in [all];
action a, b in [some] appliesTo { principal: user, resource: [ecs::disk, ecs::instance], context: { n?: Long } };
action c in [all] appliesTo { principal: user, resource: [ecs::disk, ecs::instance], context: { n?: Long } };
`

// TestTheIndexFindsWhatALinearScanFinds draws policies and requests and holds
// every answer to cedar-go's own evaluation of each statement, one by one.
func TestTheIndexFindsWhatALinearScanFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, from ...string) string { return rapid.SampledFrom(from).Draw(t, name) }
		repository := files{}
		texts := map[string]string{} // rule → statement
		for i := range rapid.IntRange(1, 4).Draw(t, "files") {
			place := pick("place", "platform", "tenants/acme", "tenants/globex") + fmt.Sprintf("/p%d", i)
			text := `// @policy({"reads":["subject.roles","context.n"]})` + "\n"
			for j := range rapid.IntRange(1, 6).Draw(t, "statements") {
				statement := pick("effect", "permit", "forbid") +
					"(" + pick("principal", `principal`, `principal == user::"u1"`, `principal is user`, `principal in role::"r1"`, `principal in role::"r2"`, `principal in user::"u1"`, `principal is user in role::"r1"`) +
					", " + pick("action", `action`, `action == Action::"a"`, `action in Action::"b"`, `action in [Action::"a", Action::"c"]`, `action in Action::"some"`, `action in [Action::"all", Action::"some"]`, `action == Action::"all"`) +
					", " + pick("resource", `resource`, `resource == ecs::disk::"x1"`, `resource is ecs::disk`, `resource is ecs::instance`, `resource in ecs::disk::"x1"`, `resource is ecs::disk in ecs::disk::"x1"`) +
					")" + pick("condition", "", ` when { resource has level && resource.level > 1 }`, ` unless { principal in role::"r1" }`, ` when { context has n && context.n == 1 } unless { resource.level == 2 }`,
					` when { principal.level + 1 > 1 }`, ` when { action in Action::"some" }`, ` when { resource has owner && resource.owner like "o*" }`) + ";"
				rule := fmt.Sprintf("%s/s%d", place, j)
				texts[rule] = statement
				text += fmt.Sprintf("@id(\"s%d\") %s\n", j, statement)
			}
			repository[place+".cedar"] = text
		}
		content := repository.content()
		compiled, err := New().Compile(t.Context(), &pdp.Source{Content: content, Attributes: &pdp.AttributeSchema{}})
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "groups") { // after compiling: its validator would refuse what is to fail
			schema, err := ReadSchema(SchemaFile, []byte(propertySchema))
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range compiled.(*program).units {
				u.schema = schema
			}
			compiled.(*program).schema = schema
		}
		req := authz.Request{
			Tenant:  "acme",
			Subject: authz.Entity{Type: pick("subject", "user", "team"), ID: pick("id", "u1", "u2"), Properties: drawObject(t, "level", 0, 3)},
			Action:  authz.Action{Name: pick("name", "a", "b", "c", "d", "all")},
			Resource: authz.Entity{Type: pick("type", "ecs.disk", "ecs.instance"), ID: pick("rid", "x1", "x2"),
				Properties: drawObject(t, "level", 1, 3)},
			Context: drawObject(t, "n", 0, 2),
		}
		roles := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"r1", "r2", "r3"}), 0, 3, rapid.ID).Draw(t, "roles")
		req.Subject.Properties = req.Subject.Properties.With("roles", authz.Strings(roles...))
		in := &pdp.Input{Request: &req, Value: req.Value(), Now: testNow}

		said := answers(t, compiled, in)
		in.Explain = true
		if explained := answers(t, compiled, in); !slices.Equal(said, explained) {
			t.Fatalf("explaining changes\n%v\nto\n%v", said, explained)
		}
		if want := scan(t, compiled.(*program).schema, texts, &req, roles); !slices.Equal(said, want) {
			t.Fatalf("the index says\n%s\na scan says\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
		}
	})
}

func answers(t *rapid.T, compiled pdp.Program, in *pdp.Input) []string {
	var said []string
	for _, o := range compiled.Evaluate(t.Context(), in, compiled.Policies(), nil) {
		matched := 0
		for _, f := range o.Findings {
			said = append(said, o.Policy.ID+"/"+f.Rule.ID)
		}
		for _, trace := range o.Traces {
			if trace.Matched {
				matched++
			}
		}
		if in.Explain && matched != len(o.Findings) {
			t.Fatalf("%d traces matched of %d findings", matched, len(o.Findings))
		}
		if o.Err != nil {
			said = append(said, o.Policy.ID+" "+string(o.Err.Cause))
		}
	}
	slices.Sort(said)
	return said
}

func drawObject(t *rapid.T, name string, low, high int) authz.Value {
	object := authz.Value{}.With("unread", authz.MustValue(nil))
	if n := rapid.IntRange(low, high).Draw(t, name); n > 0 {
		object = object.With(name, authz.MustValue(n))
	}
	return object
}

// scan asks cedar-go about each statement alone.
func scan(t *rapid.T, schema *Schema, texts map[string]string, req *authz.Request, roles []string) []string {
	record := func(v authz.Value, name string) types.RecordMap {
		m := types.RecordMap{}
		if n, ok := v.Get(name); ok {
			m[types.String(name)] = types.Long(n.Int())
		}
		return m
	}
	principal := types.NewEntityUID(types.EntityType(req.Subject.Type), types.String(req.Subject.ID))
	resource := types.NewEntityUID(types.EntityType(strings.ReplaceAll(req.Resource.Type, ".", "::")), types.String(req.Resource.ID))
	var parents []types.EntityUID
	for _, role := range roles {
		parents = append(parents, types.NewEntityUID("role", types.String(role)))
	}
	entities := types.EntityMap{
		principal: {UID: principal, Parents: types.NewEntityUIDSet(parents...), Attributes: types.NewRecord(record(req.Subject.Properties, "level"))},
		resource:  {UID: resource, Attributes: types.NewRecord(record(req.Resource.Properties, "level"))},
	}
	for uid, action := range schema.actionEntities() {
		entities[uid] = action
	}
	found := map[string]bool{}
	for rule, text := range texts {
		set, err := cedar.NewPolicySetFromBytes("", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		_, diagnostic := cedar.Authorize(set, entities, cedar.Request{Principal: principal, Resource: resource,
			Action: types.NewEntityUID("Action", types.String(req.Action.Name)), Context: types.NewRecord(record(req.Context, "n"))})
		if len(diagnostic.Reasons) > 0 {
			found[rule] = true
		}
		if len(diagnostic.Errors) > 0 {
			found[rule[:strings.LastIndex(rule, "/")]+" policy_error"] = true
		}
	}
	var sorted []string
	for rule := range found {
		sorted = append(sorted, rule)
	}
	slices.Sort(sorted)
	return sorted
}

func TestTheIndexMeetsOnlyWhatCanApply(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, `@id("s%d") permit (principal == user::"u%d", action == Action::"a%d", resource is t%d) when { resource.missing };`+"\n", i, i%10, i%50, i%100)
	}
	program := files{"platform/p.cedar": text.String()}.compile(t)
	p := parties{
		principal: party{uid: types.NewEntityUID("user", "u7")},
		action:    party{uid: types.NewEntityUID("Action", "a7")},
		resource:  party{uid: types.NewEntityUID("t7", "x")},
	}
	index := program.policies[0].unit.index
	if found := index.find(nil, &p); len(found) != 10 {
		t.Errorf("met %d statements, want the 10 whose scope holds", len(found))
	}
}
