package httpd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// authzenClient is a PEP written from AuthZEN Authorization API 1.0 alone: it
// knows the standard's endpoints, members and error bodies, and nothing of
// Xiezhi.
type authzenClient struct {
	t          testing.TB
	evaluation string // endpoints as the metadata gives them
	batch      string
	token      string
}

// discover reads the PDP's metadata as §9 describes.
func discover(t testing.TB, identifier, token string) authzenClient {
	t.Helper()
	var metadata struct {
		PDP         string `json:"policy_decision_point"`
		Evaluation  string `json:"access_evaluation_endpoint"`
		Evaluations string `json:"access_evaluations_endpoint"`
	}
	status, header, body := exchange(t, http.MethodGet, identifier+"/.well-known/authzen-configuration", nil, nil)
	if status != http.StatusOK || header.Get("Content-Type") != "application/json" || json.Unmarshal(body, &metadata) != nil {
		t.Fatalf("metadata: %d %s", status, body)
	}
	if metadata.PDP != identifier {
		t.Fatalf("the PDP calls itself %q, not %q", metadata.PDP, identifier)
	}
	return authzenClient{t, metadata.Evaluation, metadata.Evaluations, token}
}

func exchange(t testing.TB, method, url string, header map[string]string, body []byte) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, data
}

// post sends a body and returns the answer, holding it to §10: 200 carries
// application/json, an error a message, and X-Request-ID comes back.
func (c authzenClient) post(url, body string) (int, map[string]any, string) {
	c.t.Helper()
	id := fmt.Sprintf("bfe9eb29-%x", len(body))
	status, header, data := exchange(c.t, http.MethodPost, url, map[string]string{
		"Content-Type": "application/json", "Authorization": "Bearer " + c.token, "X-Request-ID": id,
	}, []byte(body))
	if header.Get("X-Request-ID") != id {
		c.t.Errorf("X-Request-ID %q came back as %q", id, header.Get("X-Request-ID"))
	}
	if status != http.StatusOK {
		if !strings.HasPrefix(header.Get("Content-Type"), "text/plain") || len(data) == 0 {
			c.t.Errorf("an error of %d as %q: %s", status, header.Get("Content-Type"), data)
		}
		return status, nil, string(data)
	}
	var answer map[string]any
	if err := json.Unmarshal(data, &answer); err != nil || header.Get("Content-Type") != "application/json" {
		c.t.Fatalf("%v: %s", err, data)
	}
	return status, answer, string(data)
}

// decisions reads the answers of a batch.
func decisions(t testing.TB, answer map[string]any) []bool {
	t.Helper()
	var all []bool
	list, _ := answer["evaluations"].([]any)
	for _, item := range list {
		decision, ok := item.(map[string]any)["decision"].(bool)
		if !ok {
			t.Fatalf("an item without decision: %v", item)
		}
		all = append(all, decision)
	}
	return all
}

// The fixture of the certification scenario: alice and bob, record-1 and
// record-2, read, write and delete.
const (
	alice    = `{"type":"user","id":"alice"}`
	bob      = `{"type":"user","id":"bob"}`
	bobAdmin = `{"type":"user","id":"bob","properties":{"role":"admin"}}`
	record1  = `{"type":"record","id":"record-1"}`
	archived = `{"type":"record","id":"record-2","properties":{"status":"archived"}}`
	active   = `{"type":"record","id":"record-1","properties":{"status":"active"}}`
	read     = `{"name":"read"}`
	write_   = `{"name":"write"}`
)

func single(subject, action, resource, more string) string {
	return `{"subject":` + subject + `,"action":` + action + `,"resource":` + resource + more + `}`
}

func TestAuthZENCertificationBasic(t *testing.T) {
	r := newRig(t, testPolicies())
	c := discover(t, r.url, r.tokens["pep"])
	for _, row := range []struct {
		id, body string
		want     bool
	}{
		{"permit", single(alice, read, record1, ""), true},
		{"rule 2", single(alice, write_, record1, ""), true},
		{"rule 3", single(bob, read, record1, ""), true},
		{"deny", single(bob, write_, record1, ""), false},
		{"with context", single(alice, read, record1, `,"context":{"time":"2025-06-27T18:03-07:00","ip":"192.168.1.1"}`), true},
		{"deny by properties", single(alice, write_, archived, ""), false},
		{"permit by the subject's properties", single(bobAdmin, write_, archived, ""), true},
		{"permit by the action's properties", single(alice, `{"name":"delete","properties":{"soft":true}}`, record1, ""), true},
		{"deny by the action's properties", single(alice, `{"name":"delete","properties":{"soft":false}}`, record1, ""), false},
		{"additional properties", single(`{"type":"user","id":"alice","properties":{"department":"Sales","role":"manager"}}`,
			`{"name":"read","properties":{"method":"GET"}}`, `{"type":"record","id":"record-1","properties":{"status":"active","owner":"bob"}}`, ""), true},
		{"unknown fields", single(`{"type":"user","id":"alice","nick":"al"}`, read, record1, `,"foo":"bar","futureField":{"nested":true}`), true},
	} {
		t.Run(row.id, func(t *testing.T) {
			for range 3 { // the same answer each time
				status, answer, text := c.post(c.evaluation, row.body)
				if status != 200 || answer["decision"] != row.want {
					t.Fatalf("%d %s", status, text)
				}
				if _, isObject := answer["context"].(map[string]any); !isObject {
					t.Errorf("the context is no object: %s", text)
				}
			}
		})
	}
}

func TestAuthZENCertificationErrors(t *testing.T) {
	r := newRig(t, testPolicies())
	c := discover(t, r.url, r.tokens["pep"])
	for name, body := range map[string]string{
		"no subject":           `{"action":` + read + `,"resource":` + record1 + `}`,
		"no action":            `{"subject":` + alice + `,"resource":` + record1 + `}`,
		"no resource":          `{"subject":` + alice + `,"action":` + read + `}`,
		"no subject type":      single(`{"id":"alice"}`, read, record1, ""),
		"no subject id":        single(`{"type":"user"}`, read, record1, ""),
		"no action name":       single(alice, `{}`, record1, ""),
		"no resource type":     single(alice, read, `{"id":"record-1"}`, ""),
		"no resource id":       single(alice, read, `{"type":"record"}`, ""),
		"malformed JSON":       `{"subject":`,
		"an empty body":        ``,
		"a list":               `[]`,
		"a subject as text":    single(`"alice"`, read, record1, ""),
		"an action as text":    single(alice, `"read"`, record1, ""),
		"an action's number":   single(alice, `{"name":123}`, record1, ""),
		"a context that lists": single(alice, read, record1, `,"context":[]`),
		"properties as text":   single(`{"type":"user","id":"alice","properties":"x"}`, read, record1, ""),
		"a name given twice":   single(alice, read, record1, `,"subject":`+bob),
		"a trusted attribute":  single(`{"type":"user","id":"alice","properties":{"roles":["admin"]}}`, read, record1, ""),
	} {
		t.Run(name, func(t *testing.T) {
			for _, url := range []string{c.evaluation, c.batch} {
				if status, _, text := c.post(url, body); status != http.StatusBadRequest {
					t.Errorf("%s: %d %s", url, status, text)
				}
			}
		})
	}
	t.Run("another content type", func(t *testing.T) {
		status, _, body := exchange(t, http.MethodPost, c.evaluation, map[string]string{
			"Content-Type": "text/plain", "Authorization": "Bearer " + c.token,
		}, []byte(single(alice, read, record1, "")))
		if status != http.StatusBadRequest {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("no credential", func(t *testing.T) {
		anonymous := c
		anonymous.token = "wrong"
		if status, _, text := anonymous.post(c.evaluation, single(alice, read, record1, "")); status != http.StatusUnauthorized {
			t.Errorf("%d %s", status, text)
		}
	})
	t.Run("no right", func(t *testing.T) {
		service := c
		service.token = r.tokens["shop"]
		for _, url := range []string{c.evaluation, c.batch} {
			if status, _, text := service.post(url, single(alice, read, record1, "")); status != http.StatusForbidden {
				t.Errorf("%d %s", status, text)
			}
		}
	})
}

func TestAuthZENCertificationBatch(t *testing.T) {
	r := newRig(t, testPolicies())
	c := discover(t, r.url, r.tokens["pep"])
	for _, row := range []struct {
		id, body string
		want     []bool
	}{
		{"defaults", `{"subject":` + bob + `,"resource":` + record1 + `,"evaluations":[{"action":` + read + `},{"action":` + write_ + `}]}`, []bool{true, false}},
		{"properties", `{"subject":` + alice + `,"action":` + write_ + `,"evaluations":[{"resource":` + active + `},{"resource":` + archived + `}]}`, []bool{true, false}},
		{"subject properties", `{"action":` + write_ + `,"resource":` + archived + `,"evaluations":[{"subject":` + alice + `},{"subject":` + bobAdmin + `}]}`, []bool{false, true}},
		{"no defaults", `{"evaluations":[` + single(alice, read, record1, "") + `,` + single(bob, write_, record1, "") + `]}`, []bool{true, false}},
		{"context", `{"subject":` + alice + `,"action":` + read + `,"context":{"time":"x"},"evaluations":[{"resource":` + record1 + `},{"resource":` + record1 + `,"context":{"source":"y"}}]}`, []bool{true, true}},
		{"default value merging", `{"subject":` + alice + `,"action":` + write_ + `,"resource":{"type":"record"},"evaluations":[
			{"resource":{"id":"record-1","properties":{"status":"active"}}},{"resource":` + archived + `}]}`, []bool{true, false}},
		{"a faulty item", `{"subject":` + alice + `,"action":` + read + `,"evaluations":[{"resource":` + record1 + `},{}]}`, []bool{true, false}},
		{"only faulty items", `{"subject":` + alice + `,"action":` + read + `,"evaluations":[{},7]}`, []bool{false, false}},
	} {
		t.Run(row.id, func(t *testing.T) {
			status, answer, text := c.post(c.batch, row.body)
			if _, top := answer["decision"]; status != 200 || top || fmt.Sprint(decisions(t, answer)) != fmt.Sprint(row.want) {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	for name, body := range map[string]string{
		"no evaluations":    single(alice, read, record1, ""),
		"empty evaluations": single(alice, read, record1, `,"evaluations":[]`),
	} {
		t.Run(name+" behave as a single evaluation", func(t *testing.T) {
			status, answer, text := c.post(c.batch, body)
			if _, many := answer["evaluations"]; status != 200 || many || answer["decision"] != true {
				t.Errorf("%d %s", status, text)
			}
		})
	}
}

func TestAuthZENItemsCarryTheirErrors(t *testing.T) {
	r := newRig(t, testPolicies())
	c := discover(t, r.url, r.tokens["pep"])
	_, answer, text := c.post(c.batch, `{"subject":`+alice+`,"action":`+read+`,"evaluations":[{"resource":`+record1+`},{"resource":{"type":"record"}}]}`)
	g := got{json: answer}
	if g.at("/evaluations/1/context/error/status") != 400.0 || !strings.Contains(fmt.Sprint(g.at("/evaluations/1/context/error/message")), "/evaluations/1/resource/id") {
		t.Error(text)
	}
}

func TestAuthZENSemantics(t *testing.T) {
	r := newRig(t, testPolicies())
	c := discover(t, r.url, r.tokens["pep"])
	// Three records: the caller may read the first and the last.
	body := func(how string) string {
		return `{"subject":` + alice + `,"action":` + read + `,"options":{"evaluations_semantic":"` + how + `","other":1},"evaluations":[
			{"resource":` + record1 + `},{"resource":` + archived + `},{"resource":` + record1 + `}]}`
	}
	for how, want := range map[string][]bool{
		"execute_all":            {true, false, true},
		"deny_on_first_deny":     {true, false},
		"permit_on_first_permit": {true},
	} {
		if status, answer, text := c.post(c.batch, body(how)); status != 200 || fmt.Sprint(decisions(t, answer)) != fmt.Sprint(want) {
			t.Errorf("%s: %d %s", how, status, text)
		}
	}
	if status, _, text := c.post(c.batch, body("first_come")); status != 400 {
		t.Errorf("an unknown semantic: %d %s", status, text)
	}
}

func TestAuthZENTakesTheTenantFromTheCredential(t *testing.T) {
	r := newRig(t, testPolicies())
	body := single(`{"type":"service","id":"shop"}`, read, record1, "")
	for _, row := range []struct {
		name, as, tenant string
		status           int
	}{
		{"a tenant's", "pep", "", 200},
		{"a tenant's that names itself", "pep", "acme", 200},
		{"a tenant's that names another", "pep", "globex", 403},
		{"the platform's that names none", "admin", "", 400},
		{"the platform's that names nonsense", "admin", "No Tenant", 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			header := map[string]string{}
			if row.tenant != "" {
				header["X-Xiezhi-Tenant"] = row.tenant
			}
			if g := r.do(ask{as: row.as, path: "/access/v1/evaluation", body: body, header: header}); g.status != row.status {
				t.Errorf("%d %s", g.status, g.text)
			}
		})
	}
	if records := r.record.take(); len(records) == 0 || records[0].Request.Tenant != "acme" {
		t.Errorf("%+v", records)
	}
}

func TestAuthZENContextTellsReasonsAndObligations(t *testing.T) {
	r := newRig(t, testPolicies())
	g := r.do(ask{as: "pep", path: "/access/v1/evaluation", body: single(`{"type":"user","id":"x"}`, `{"name":"ecs.create"}`,
		`{"type":"t","id":"i","properties":{"cpu":2,"secret":true,"public_ip":true}}`, "")})
	if g.at("/decision") != false || g.at("/context/effect") != "REVIEW" || g.at("/context/obligations/0/id") != "encrypt_at_rest" ||
		g.at("/context/reasons/0/rule") != "public_ip" || g.at("/context/revision") == nil || g.at("/context/decision_id") == nil {
		t.Errorf("%s", g.text)
	}
}
