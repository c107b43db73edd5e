package httpd

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/valyala/fasthttp"
)

// openPolicies allow everything, so that only the door stands between a
// malformed request and an ALLOW.
func openPolicies() map[string]string {
	return map[string]string{
		"attributes.yaml":            `attributes: {subject.roles: {trusted: true, source: directory}}`,
		"platform/open.policy.json":  `{"id":"open","name":"Open","rules":[{"condition":"true","effect":"ALLOW"}]}`,
		"tenants/acme/x.policy.json": `{"id":"x","name":"X","scope":{"actions":["review"]},"rules":[{"condition":"true","effect":"REVIEW","message":{"en":"x","zh":"x"}}]}`,
	}
}

// FuzzDecisionDoors holds every decision door to two promises: no body is
// answered with 5xx (but 501 for what is not there yet), and none that is
// malformed with an ALLOW.
func FuzzDecisionDoors(f *testing.F) {
	r := build(f, openPolicies(), Config{})
	handler := r.app.Handler()
	doors := []struct {
		path, schema string
		batch        bool // items fail one by one
	}{
		{"/api/v1/decide", "DecideRequest", false},
		{"/api/v1/decide/batch", "BatchRequest", true},
		{"/api/v1/evaluate", "EvaluateRequest", false},
		{"/access/v1/evaluation", "AuthZENRequest", false},
		{"/access/v1/evaluations", "AuthZENBatchRequest", true},
		{arapPath, "AccessRequest", false},
	}
	compiled := map[string]*jsonschema.Schema{}
	for _, door := range doors {
		compiled[door.schema] = r.schema.schema(f, "/components/schemas/"+door.schema)
		f.Add([]byte(r.example(door.schema)), "application/json")
	}
	for _, seed := range []string{
		``, `null`, `{}`, `[]`, `{"evaluations":[{},1,null]}`, `{` + machine + `}}`, `{` + machine + `},"tenant":"acme"}`,
		`{` + machine + `},"tenant":"globex"}`, `{` + machine + `},"subject":1}`, `{` + machine + `},"permit":{"audience":"x"}}`,
		`{` + machine + `},"at_least_revision":"r1.g1"}`, `{` + machine + `},"at_least_revision":"r9.g9"}`, `{` + machine + `}} x`,
		`{` + machine + `,"properties":{"a":1e400}}}`, `{` + machine + `,"properties":{"a":"\ud800"}}}`, "{\"a\xff\":1}",
		`{` + machine + `},"explain":true,"revision":"r1.g2"}`, `{` + machine + `},"candidate":{"path":"tenants/acme/y.policy.json","content":"{}"}}`,
		`{"subject":{"type":"user","id":"alice"},"action":{"name":"review"},"resource":{"type":"t","id":"i"}}`,
	} {
		f.Add([]byte(seed), "application/json")
	}
	f.Add([]byte(`{`+machine+`}}`), "text/plain")

	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		if strings.ContainsAny(contentType, "\r\n\x00") {
			t.Skip("not a header")
		}
		for _, door := range doors {
			status, answer := post(handler, door.path, r.tokens["pep"], contentType, body)
			if status >= 500 && status != http.StatusNotImplemented {
				t.Fatalf("%s: %d %s\n%q", door.path, status, answer, body)
			}
			allowed := bytes.Contains(answer, []byte(`"decision":true`))
			if allowed && (status != http.StatusOK || !isJSON(contentType)) {
				t.Fatalf("%s: an ALLOW with %d for %q\n%s", door.path, status, contentType, answer)
			}
			if !allowed {
				continue
			}
			// Another reader than the door's own says what is malformed.
			if !jsontext.Value(body).IsValid() {
				t.Fatalf("%s: an ALLOW for what is not strict JSON: %q", door.path, body)
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if err := compiled[door.schema].Validate(value); err != nil && !door.batch {
				t.Fatalf("%s: an ALLOW for %q: %v", door.path, body, err)
			}
			if !json.Valid(answer) {
				t.Fatalf("%s: the answer is not JSON: %q", door.path, answer)
			}
		}
	})
}

func post(handler fasthttp.RequestHandler, path, token, contentType string, body []byte) (int, []byte) {
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod(http.MethodPost)
	ctx.Request.SetRequestURI(path)
	ctx.Request.Header.SetContentType(contentType)
	ctx.Request.Header.Set("Authorization", "Bearer "+token)
	ctx.Request.SetBody(body)
	handler(&ctx)
	return ctx.Response.StatusCode(), ctx.Response.Body()
}
