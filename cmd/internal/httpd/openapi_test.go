package httpd

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// example returns the first example of a schema as text.
func (r *rig) example(schema string) string {
	r.t.Helper()
	s := r.schema.document["components"].(map[string]any)["schemas"].(map[string]any)[schema].(map[string]any)
	examples, _ := s["examples"].([]any)
	if len(examples) == 0 {
		return `{"content":""}`
	}
	data, err := json.Marshal(examples[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

func TestTheOpenAPIDocumentHasEveryRouteAndNoOther(t *testing.T) {
	r := build(t, nil, Config{})
	documented := map[string]bool{}
	for path, item := range r.schema.document["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			documented[strings.ToUpper(method)+" "+path+" "+operation.(map[string]any)["operationId"].(string)] = true
		}
	}
	for _, route := range Routes() {
		name := route.Method + " " + strings.ReplaceAll(route.Path, "...}", "}") + " " + route.Operation
		if !documented[name] {
			t.Errorf("not documented: %s", name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("documented and not served: %s", name)
	}
}

func TestEverySchemaCompilesAndIsUsed(t *testing.T) {
	r := build(t, nil, Config{})
	text := string(r.openapi)
	all := r.schema.document["components"].(map[string]any)["schemas"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r.schema.schema(t, "/components/schemas/"+name)
		if !strings.Contains(text, `"#/components/schemas/`+name+`"`) {
			t.Errorf("schema %s is used nowhere", name)
		}
	}
}

func TestTheExamplesAreWhatTheSchemasSay(t *testing.T) {
	r := build(t, nil, Config{})
	checked := 0
	for name, schema := range r.schema.document["components"].(map[string]any)["schemas"].(map[string]any) {
		examples, _ := schema.(map[string]any)["examples"].([]any)
		for _, example := range examples {
			checked++
			if err := r.schema.schema(t, "/components/schemas/"+name).Validate(example); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if checked < 15 {
		t.Errorf("only %d examples", checked)
	}
	for _, route := range Routes() {
		if route.Body != "" && route.Body != "PolicyContent" && r.example(route.Body) == `{"content":""}` {
			t.Errorf("%s: the body %s has no example", route.Operation, route.Body)
		}
	}
}

func TestTheDocumentIsServed(t *testing.T) {
	r := newRig(t, nil)
	g := r.do(ask{path: "/openapi.json"})
	if g.status != 200 || g.json["openapi"] != "3.1.0" {
		t.Errorf("%d %.200s", g.status, g.text)
	}
	if _, parts := g.json["x-parts"]; parts {
		t.Error("the parts that schemas are written from are published")
	}
}
