package cedareval

import (
	"context"
	"errors"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// FuzzCompile: whatever a file holds, compiling it is either faults or a
// program that answers, and formatting it does not change what it means.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		networkPolicy,
		`@id("a") permit (principal, action, resource);`,
		`@id("a") forbid (principal is user in role::"x", action in [Action::"a"], resource == ecs::instance::"b") when { resource has a.b && {x: principal}.x in [resource] } unless { -1 + 2 * context.n > if true then 3 else 4 };`,
		`@id("a") @obligation("{\"id\":\"x\"}") @message("{resource.properties.a} {") forbid (principal, action, resource,) when { resource["a\"b"] like "*\*" };`,
		"// @policy({\"reads\":[\"context.a\"]})\n@id(\"a\") permit (principal, action, resource) when { context.a.isInRange(ip(\"::1\")) }; // end",
		`/* a */ @id("a") /* b */ permit /* c */ (principal /* , */, action, resource) /* when {} */ when /**/ { /* ; */ true };`,
		`@id("a") permit (principal, action, resource) when { "unterminated };`,
		`)))`, "\x00", "\xff", `@`, `"`, `/*`, `;`,
	} {
		f.Add(seed, "", `{"a":1}`)
		f.Add(seed, ecsSchema, `{"a":null}`)
	}
	f.Add("", "type a = {b: a}; entity c = {d: a};", "")
	f.Fuzz(func(t *testing.T, text, schema, properties string) {
		list := []bundles.File{{Path: "platform/p.cedar", Data: []byte(text)}}
		if schema != "" {
			list = append(list, bundles.File{Path: SchemaFile, Data: []byte(schema)})
		}
		content, err := bundles.NewContent(list)
		if err != nil {
			t.Skip()
		}
		program, err := New().Compile(context.Background(), &pdp.Source{Content: content, Attributes: &pdp.AttributeSchema{}})
		formatted, formatErr := Format("platform/p.cedar", []byte(text))
		if err != nil {
			var faults pdp.Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("not faults: %v", err)
			}
			for _, fault := range faults {
				if fault.File == "" || fault.Message == "" || fault.Line < 0 {
					t.Fatalf("a fault without place or words: %+v", fault)
				}
			}
			return
		}
		if formatErr != nil {
			t.Fatalf("it compiles and cannot be formatted: %v", formatErr)
		}
		in := fuzzRequest(properties)
		out := program.Evaluate(context.Background(), in, program.Policies(), nil)
		if len(out) != 1 {
			t.Fatalf("%d outcomes", len(out))
		}
		again, err := New().Compile(context.Background(), &pdp.Source{Attributes: &pdp.AttributeSchema{}, Content: reformatted(t, formatted, list)})
		if err != nil {
			t.Fatalf("formatted, it does not compile: %v\n%s", err, formatted)
		}
		if other := again.Evaluate(context.Background(), in, again.Policies(), nil); len(other[0].Findings) != len(out[0].Findings) || (other[0].Err == nil) != (out[0].Err == nil) {
			t.Fatalf("formatted, it says something else:\n%s", formatted)
		}
	})
}

func reformatted(t *testing.T, text []byte, list []bundles.File) *bundles.Content {
	t.Helper()
	content, err := bundles.NewContent(append([]bundles.File{{Path: "platform/p.cedar", Data: text}}, list[1:]...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// fuzzRequest is a request with the given properties, or none where they are
// no object.
func fuzzRequest(properties string) *pdp.Input {
	object, err := authz.Parse([]byte(properties))
	if err != nil || object.Kind() != authz.KindObject {
		object = authz.Value{}
	}
	req := authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "a", Properties: object}, Action: authz.Action{Name: "ecs.instance.create"},
		Resource: authz.Entity{Type: "ecs.instance", ID: "b", Properties: object}, Context: object}
	return &pdp.Input{Request: &req, Value: req.Value(), Now: testNow}
}
