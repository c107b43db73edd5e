//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// call is one call of the API. Method defaults to POST where there is a body,
// else to GET; as "" sends no credential.
type call struct {
	as     string
	method string
	path   string // as it stands on the request line: nothing cleans or escapes it
	body   string
	header map[string]string
	outage bool // that the server cannot answer now is no failure of its own
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	json   any // nil where it is not JSON
}

// do calls. Whatever is asked, the server must not fail, and what it refuses it
// must explain: an answer that breaks this fails the test.
func (s *server) do(c call) answer {
	s.t.Helper()
	a, err := s.try(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.checkRefusal(c, a)
	return a
}

// try calls, and judges nothing. It may be called beside the test.
func (s *server) try(c call) (answer, error) {
	if c.method == "" {
		c.method = http.MethodGet
		if c.body != "" {
			c.method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(s.t.Context(), c.method, s.url, strings.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	path, query, _ := strings.Cut(c.path, "?")
	req.URL.Opaque, req.URL.RawQuery = "//"+req.URL.Host+path, query
	if c.as != "" {
		token, known := s.tokens[c.as]
		if !known {
			return answer{}, fmt.Errorf("nobody is called %q", c.as)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if c.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if json.Unmarshal(text, &a.json) != nil {
		a.json = nil
	}
	return a, nil
}

// checkRefusal: a refusal is a problem document, on AuthZEN's doors a sentence,
// and never the server's own fault. What is not there yet says so with 501.
func (s *server) checkRefusal(c call, a answer) {
	s.t.Helper()
	switch {
	case a.status < 400:
	case a.status >= 500 && a.status != http.StatusNotImplemented && !(c.outage && a.status == http.StatusServiceUnavailable):
		s.t.Errorf("%s %s: the server failed: %d %s", c.method, c.path, a.status, a.text)
	case c.method == http.MethodHead:
	case strings.HasPrefix(c.path, "/access/"):
		if a.text == "" || a.json != nil {
			s.t.Errorf("%s %s: %d is not explained in a sentence: %s", c.method, c.path, a.status, a.text)
		}
	case a.header.Get("Content-Type") != "application/problem+json" || a.at("/status") != float64(a.status) || a.code() == "":
		s.t.Errorf("%s %s: %d without a problem document: %s", c.method, c.path, a.status, a.text)
	}
}

// at returns what a JSON pointer names, or nil.
func (a answer) at(pointer string) any {
	v := a.json
	for _, step := range strings.Split(pointer, "/")[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch parent := v.(type) {
		case map[string]any:
			v = parent[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(parent) {
				return nil
			}
			v = parent[i]
		default:
			return nil
		}
	}
	return v
}

func (a answer) textAt(pointer string) string {
	text, _ := a.at(pointer).(string)
	return text
}

func (a answer) code() string { return a.textAt("/code") }

// must calls and fails the test unless the status is the one wanted.
func (s *server) must(status int, c call) answer {
	s.t.Helper()
	a := s.do(c)
	if a.status != status {
		s.t.Fatalf("%s %s as %q: %d, want %d: %s", c.method, c.path, c.as, a.status, status, a.text)
	}
	return a
}

// refused calls and checks that the answer is one of the refusals wanted; the
// test goes on either way.
func (s *server) refused(c call, statuses ...int) answer {
	s.t.Helper()
	a := s.do(c)
	if !slices.Contains(statuses, a.status) {
		s.t.Errorf("%s %s as %q: %d, want one of %v: %s\nthe body was %s", c.method, c.path, c.as, a.status, statuses, a.text, shortened(c.body))
	}
	return a
}

func shortened(text string) string {
	if len(text) > 300 {
		return text[:300] + "…"
	}
	return text
}

// object is JSON to send.
type object = map[string]any

func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // of literals in tests only
	}
	return strings.TrimSpace(b.String())
}

// decision is the answer of POST /api/v1/decide.
type decision struct {
	ID          string       `json:"decision_id"`
	Effect      string       `json:"effect"`
	Decision    bool         `json:"decision"`
	Revision    string       `json:"revision"`
	Reasons     []reason     `json:"reasons"`
	Obligations []obligation `json:"obligations"`
	Approval    struct {
		ID string `json:"id"`
	} `json:"approval"`
}

type reason struct {
	Policy     string `json:"policy"`
	Rule       string `json:"rule"`
	Effect     string `json:"effect"`
	Message    string `json:"message"`
	Path       string `json:"path"`
	Grant      string `json:"grant"`
	Cause      string `json:"cause"`
	Location   string `json:"location"`
	FailedRule string `json:"failed_rule"`
}

type obligation struct {
	ID   string `json:"id"`
	Must bool   `json:"must"`
}

// reason returns the first reason of a rule, by its full name; "no_allow" and
// its like have no policy.
func (d decision) reason(name string) (reason, bool) {
	for _, r := range d.Reasons {
		if strings.TrimPrefix(r.Policy+"/"+r.Rule, "/") == name {
			return r, true
		}
	}
	return reason{}, false
}

func (d decision) has(name string) bool {
	_, ok := d.reason(name)
	return ok
}

func (d decision) obliges(id string) bool {
	return slices.ContainsFunc(d.Obligations, func(o obligation) bool { return o.ID == id })
}

// decisionOf reads an answer, which must not contradict itself.
func (s *server) decisionOf(a answer) decision {
	s.t.Helper()
	var d decision
	if err := json.Unmarshal([]byte(a.text), &d); err != nil || a.status != http.StatusOK {
		s.t.Fatalf("no decision: %d %s", a.status, a.text)
	}
	if d.ID == "" || d.Decision != (d.Effect == "ALLOW") || !slices.Contains([]string{"ALLOW", "DENY", "REVIEW"}, d.Effect) {
		s.t.Fatalf("it contradicts itself: %s", a.text)
	}
	return d
}

// decide asks for a decision.
func (s *server) decide(as string, request object) decision {
	s.t.Helper()
	return s.decisionOf(s.do(call{as: as, path: "/api/v1/decide", body: encode(request)}))
}

// member makes a subject with roles in a tenant ("" is the platform) and a
// token that bears all they give; it is known by the returned name.
func (s *server) member(tenant, subject string, roles ...string) string {
	s.t.Helper()
	s.subject(tenant, subject, "")
	for _, role := range roles {
		s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/bindings", body: encode(object{"tenant": tenant, "subject": subject, "role": role})})
	}
	return s.token(tenant, subject, "*")
}

// subject adds somebody to the directory.
func (s *server) subject(tenant, subject, owner string) {
	s.t.Helper()
	typ, id, _ := strings.Cut(subject, ":")
	s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/subjects", body: encode(object{"tenant": tenant, "type": typ, "id": id, "owner": owner})})
}

// token makes a token for a subject that is there, good for the rights named;
// it is known by the returned name.
func (s *server) token(tenant, subject string, rights ...string) string {
	s.t.Helper()
	a := s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/tokens", body: encode(object{
		"tenant": tenant, "subject": subject, "rights": rights, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339),
	})})
	name := fmt.Sprintf("%s/%s %s", tenant, subject, strings.Join(rights, "+"))
	s.tokens[name] = a.textAt("/token")
	return name
}

// publish writes drafts, on top of what there is, and publishes them.
func (s *server) publish(as string, drafts files) answer {
	s.t.Helper()
	for path, text := range drafts {
		s.must(http.StatusOK, s.draft(as, path, text))
	}
	return s.do(call{as: as, path: "/api/v1/releases", body: encode(object{"drafts": slices.Sorted(maps.Keys(drafts)), "note": "a test"})})
}

// draft is the call that writes a draft of a file, new or not.
func (s *server) draft(as, path, text string) call {
	s.t.Helper()
	c := call{as: as, method: http.MethodPut, path: "/api/v1/policies/" + escapePath(path), body: encode(object{"content": text}), header: map[string]string{"If-None-Match": "*"}}
	if a := s.do(call{as: as, path: c.path}); a.status == http.StatusOK {
		c.header = map[string]string{"If-Match": a.header.Get("ETag")}
	}
	return c
}

// escapePath escapes the steps of a path, and leaves its slashes.
func escapePath(path string) string {
	steps := strings.Split(path, "/")
	for i := range steps {
		steps[i] = url.PathEscape(steps[i])
	}
	return strings.Join(steps, "/")
}

// release returns the newest release's number.
func (s *server) release() float64 {
	s.t.Helper()
	number, ok := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/releases?limit=1"}).at("/items/0/number").(float64)
	if !ok {
		s.t.Fatal("no release")
	}
	return number
}
