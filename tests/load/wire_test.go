//go:build unix

package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// caller calls one server with one credential. It is safe for concurrent use;
// each concurrent call has a connection of its own.
type caller struct {
	url, token string
	client     *http.Client
}

// as is somebody who calls the server.
func (s *server) as(token string) caller {
	transport := &http.Transport{MaxIdleConnsPerHost: 1 << 10, DisableCompression: true}
	return caller{s.url, token, &http.Client{Transport: transport, Timeout: time.Minute}}
}

// call is one call. Method defaults to POST where there is a body, else to GET.
type call struct {
	method, path string
	body         any // encoded as JSON; json.RawMessage as it is
	header       map[string]string
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// try calls; the error says that no whole answer came.
func (c caller) try(ctx context.Context, what call) (answer, error) {
	body, method := []byte(nil), http.MethodGet
	if what.body != nil {
		var err error
		if body, err = json.Marshal(what.body); err != nil {
			return answer{}, err
		}
		method = http.MethodPost
	}
	if what.method != "" {
		method = what.method
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+what.path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range what.header {
		request.Header.Set(name, value)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, text}, err
}

// do calls a server that must answer.
func (c caller) do(t *testing.T, what call) answer {
	t.Helper()
	a, err := c.try(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// must calls and wants a status.
func (c caller) must(t *testing.T, status int, what call) answer {
	t.Helper()
	a := c.do(t, what)
	if a.status != status {
		t.Fatalf("%s %s: %d, want %d: %s", what.method, what.path, a.status, status, a.body)
	}
	return a
}

// read decodes an answer.
func read[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

// code is the problem document's.
func (a answer) code() string {
	var problem struct{ Code string }
	_ = json.Unmarshal(a.body, &problem) // "" for what is none
	return problem.Code
}

// revision is the one that the answer to a write names.
func (a answer) revision() string { return a.header.Get("Xiezhi-Revision") }

type object = map[string]any

// enrol adds tenant acme with an enforcement point and returns its token.
func enrol(t *testing.T, admin caller) string {
	t.Helper()
	admin.must(t, http.StatusCreated, call{path: "/api/v1/tenants", body: object{"id": "acme"}})
	admin.must(t, http.StatusCreated, call{path: "/api/v1/subjects", body: object{"tenant": "acme", "type": "service", "id": "gateway"}})
	admin.must(t, http.StatusCreated, call{path: "/api/v1/bindings", body: object{"tenant": "acme", "subject": "service:gateway", "role": "pep"}})
	return newToken(t, admin, "acme", "service:gateway").Token
}

type token struct{ ID, Token string }

func newToken(t *testing.T, admin caller, tenant, subject string) token {
	t.Helper()
	return read[token](t, admin.must(t, http.StatusCreated, call{path: "/api/v1/tokens", body: object{
		"tenant": tenant, "subject": subject, "rights": []string{"*"}, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339),
	}}))
}

// request is what the policies of testdata decide on: payment.make is recorded
// strictly, order.place is buffered.
func request(action string, amount int) object {
	return object{
		"subject":  object{"type": "user", "id": "li.wei"},
		"action":   object{"name": action},
		"resource": object{"type": "account", "id": "a-1", "properties": object{"amount": amount}},
	}
}

// decision is one answer, or of a batch's item the problem in its place.
type decision struct {
	ID          string `json:"decision_id"`
	Effect      string
	Decision    bool
	Revision    string
	Reasons     []reason
	Obligations []struct{ Params struct{ N int } }
	Error       *struct{ Code string }
}

type reason struct{ Policy, Rule, Message, Grant string }

// reply is what any of the four doors answers.
type reply struct {
	decision
	Context     *decision // AuthZEN's
	Evaluations []reply   // a batch's
}

// decisions are those that an answer of any door holds.
func (r reply) decisions() []decision {
	switch {
	case r.Evaluations != nil:
		var all []decision
		for _, item := range r.Evaluations {
			all = append(all, item.decisions()...)
		}
		return all
	case r.Context != nil:
		return []decision{*r.Context}
	default:
		return []decision{r.decision}
	}
}

// doors are the ways to ask, by name.
var doors = []struct {
	name, path string
	batch      bool
}{
	{"decide", "/api/v1/decide", false},
	{"batch", "/api/v1/decide/batch", true},
	{"AuthZEN", "/access/v1/evaluation", false},
	{"AuthZEN batch", "/access/v1/evaluations", true},
}

// ask is the call that asks the requests at a door; only a batch takes several.
func ask(door int, requests ...object) call {
	if doors[door].batch {
		return call{path: doors[door].path, body: object{"evaluations": requests}}
	}
	return call{path: doors[door].path, body: requests[0]}
}

// decide asks one question and wants a decision.
func (c caller) decide(t *testing.T, request object) decision {
	t.Helper()
	return read[decision](t, c.must(t, http.StatusOK, call{path: "/api/v1/decide", body: request}))
}

// record is one of the audit.
type record struct {
	ID, Kind, Effect, Action string
}

// audit reads all pages of a query, the newest record first.
func (c caller) audit(t *testing.T, query url.Values) []record {
	t.Helper()
	query.Set("limit", "1000")
	return list[record](t, c, "/api/v1/audit", query)
}

// list reads all pages of a list.
func list[T any](t *testing.T, c caller, path string, query url.Values) []T {
	t.Helper()
	var all []T
	for {
		page := read[struct {
			Items []T
			Next  string `json:"next_cursor"`
		}](t, c.must(t, http.StatusOK, call{path: path + "?" + query.Encode()}))
		all = append(all, page.Items...)
		if page.Next == "" {
			return all
		}
		query.Set("cursor", page.Next)
	}
}

// metrics reads the numbers without labels, by name.
func (c caller) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	numbers := map[string]float64{}
	for line := range bytes.Lines(c.must(t, http.StatusOK, call{path: "/metrics"}).body) {
		var name string
		var number float64
		if _, err := fmt.Sscan(string(line), &name, &number); err == nil {
			numbers[name] = number
		}
	}
	return numbers
}
