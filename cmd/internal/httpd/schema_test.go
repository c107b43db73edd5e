package httpd

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas hold every answer of every test to the OpenAPI document.
type schemas struct {
	document map[string]any
	compiler *jsonschema.Compiler
	mu       sync.Mutex
}

const documentURL = "https://xiezhi.test/openapi.json"

func newSchemas(t testing.TB, document []byte) *schemas {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource(documentURL, parsed); err != nil {
		t.Fatal(err)
	}
	return &schemas{document: parsed.(map[string]any), compiler: compiler}
}

// schema compiles the schema at a JSON pointer of the document.
func (s *schemas) schema(t testing.TB, pointer string) *jsonschema.Schema {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	compiled, err := s.compiler.Compile(documentURL + "#" + pointer)
	if err != nil {
		t.Fatalf("%s: %v", pointer, err)
	}
	return compiled
}

func (s *schemas) check(t testing.TB, a ask, g got) {
	t.Helper()
	path, _, _ := strings.Cut(a.path, "?")
	template, operation := s.find(a.method, path)
	if operation == nil {
		return
	}
	status := fmt.Sprint(g.status)
	responses := operation["responses"].(map[string]any)
	if responses[status] == nil {
		if g.status < 400 {
			t.Errorf("%s %s: status %d is not in the OpenAPI document", a.method, a.path, g.status)
			return
		}
		status = "default"
	}
	media, _, _ := strings.Cut(g.header.Get("Content-Type"), ";")
	content := responses[status].(map[string]any)["content"].(map[string]any)
	if content[media] == nil {
		t.Errorf("%s %s: %d as %q is not in the OpenAPI document", a.method, a.path, g.status, media)
		return
	}
	if g.json == nil {
		return
	}
	at := "/paths/" + escape(template) + "/" + strings.ToLower(a.method) + "/responses/" + status + "/content/" + escape(media) + "/schema"
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(g.text))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.schema(t, at).Validate(value); err != nil {
		t.Errorf("%s %s: the answer is not what the OpenAPI document says: %v\n%s", a.method, a.path, err, g.text)
	}
}

// find matches a path to its template; the longest template wins, as in the
// route table's one wildcard.
func (s *schemas) find(method, path string) (string, map[string]any) {
	for _, r := range Routes() {
		if r.Method != method || !matches(strings.Split(r.Path, "/"), strings.Split(path, "/")) {
			continue
		}
		template := strings.ReplaceAll(r.Path, "...}", "}")
		return template, s.document["paths"].(map[string]any)[template].(map[string]any)[strings.ToLower(method)].(map[string]any)
	}
	return "", nil
}

func matches(template, path []string) bool {
	for i, step := range template {
		if strings.HasSuffix(step, "...}") {
			return len(path) > i
		}
		if i >= len(path) || !strings.HasPrefix(step, "{") && step != path[i] {
			return false
		}
	}
	return len(template) == len(path)
}

func escape(step string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1"), "{", "%7B")
}
