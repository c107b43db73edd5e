//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// doors are all calls that take a body, each with one that is good and would
// change something, and a member of it that holds a text.
func doors(s *server) map[string]call {
	end := time.Now().Add(time.Hour).Format(time.RFC3339)
	request := encode(instance(engineer()))
	standard := strings.Replace(request, `,"tenant":"acme"`, "", 1)
	post := func(as, path, body string) call { return call{as: as, method: http.MethodPost, path: path, body: body} }
	return map[string]call{
		"decide":        post("pep", "/api/v1/decide", request),
		"batch":         post("pep", "/api/v1/decide/batch", `{"evaluations":[`+request+`]}`),
		"evaluate":      post("author", "/api/v1/evaluate", request),
		"evaluation":    post("pep", "/access/v1/evaluation", standard),
		"evaluations":   post("pep", "/access/v1/evaluations", `{"evaluations":[`+standard+`]}`),
		"policy":        post("author", "/api/v1/policies", `{"path":"tenants/acme/new.rego","content":"package xiezhi.tenants.acme.new\n"}`),
		"policy.put":    {as: "author", method: http.MethodPut, path: "/api/v1/policies/tenants/acme/new.rego", body: `{"content":"package xiezhi.tenants.acme.new\n"}`, header: map[string]string{"If-None-Match": "*"}},
		"release":       post("admin", "/api/v1/releases", `{"drafts":["tenants/acme/new.rego"],"note":"a test"}`),
		"grant":         post("admin", dynamic, `{"type":"DYNAMIC","kind":"grant","tenant":"acme","satisfies":["platform/network/public_ip_needs_review"],"request":`+request+`,"validity":{"end":"`+end+`"},"reason":"a test"}`),
		"restriction":   post("admin", dynamic, `{"type":"DYNAMIC","kind":"restriction","tenant":"acme","rules":[{"condition":"true","effect":"DENY"}],"validity":{"end":"`+end+`"},"reason":"a test"}`),
		"tenant":        post("admin", "/api/v1/tenants", `{"id":"new","name":"New"}`),
		"tenant.patch":  {as: "admin", method: http.MethodPatch, path: "/api/v1/tenants/globex", body: `{"disabled":true}`},
		"subject":       post("admin", "/api/v1/subjects", `{"tenant":"acme","type":"user","id":"new"}`),
		"subject.patch": {as: "admin", method: http.MethodPatch, path: "/api/v1/subjects/user:li.wei?tenant=acme", body: `{"disabled":true}`},
		"role":          post("admin", "/api/v1/roles", `{"tenant":"acme","name":"new"}`),
		"role.patch":    {as: "admin", method: http.MethodPatch, path: "/api/v1/roles/engineer", body: `{"disabled":true}`},
		"binding":       post("admin", "/api/v1/bindings", `{"tenant":"acme","subject":"user:li.wei","role":"dba"}`),
		"token":         post("admin", "/api/v1/tokens", `{"tenant":"acme","subject":"user:li.wei","rights":["*"],"expires_at":"`+end+`"}`),
		"report":        post("pep", "/api/v1/audit", `{"action":"done","body":{"a":1}}`),
	}
}

// malformed are ways to break a good body. Each keeps to the text that comes
// before its closing brace.
var malformed = []struct {
	name   string
	spoil  func(body string) string
	header map[string]string
	status []int
}{
	{name: "a name given twice", spoil: func(b string) string { return b[:1] + `"x":1,"x":2,` + b[1:] }},
	{name: "a name given twice, spelt otherwise", spoil: func(b string) string { return b[:1] + `"x":1,"\u0078":2,` + b[1:] }},
	{name: "its first name again", spoil: func(b string) string { return b[:1] + b[1:strings.IndexByte(b, ':')] + ":null," + b[1:] }},
	{name: "deep nesting", spoil: func(b string) string {
		return b[:1] + `"x":` + strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000) + "," + b[1:]
	}},
	{name: "nesting that never ends", spoil: func(b string) string { return b[:1] + `"x":` + strings.Repeat(`{"a":`, 100000) }},
	{name: "a huge number", spoil: func(b string) string { return b[:1] + `"x":1e999,` + b[1:] }},
	{name: "a huge integer", spoil: func(b string) string { return b[:1] + `"x":9007199254740993,` + b[1:] }},
	{name: "a long number", spoil: func(b string) string { return b[:1] + `"x":0.` + strings.Repeat("1", 400) + "," + b[1:] }},
	{name: "a very long number", spoil: func(b string) string { return b[:1] + `"x":` + strings.Repeat("9", 200000) + "," + b[1:] }},
	{name: "a huge exponent", spoil: func(b string) string { return b[:1] + `"x":1e99999999999999999999,` + b[1:] }},
	{name: "a number that is none", spoil: func(b string) string { return b[:1] + `"x":NaN,` + b[1:] }},
	{name: "a number with a leading zero", spoil: func(b string) string { return b[:1] + `"x":07,` + b[1:] }},
	{name: "invalid UTF-8", spoil: func(b string) string { return b[:1] + "\"x\":\"\xff\xfe\"," + b[1:] }},
	{name: "invalid UTF-8 in a name", spoil: func(b string) string { return b[:1] + "\"\xc3\x28\":1," + b[1:] }},
	{name: "overlong UTF-8", spoil: func(b string) string { return b[:1] + "\"x\":\"\xc0\xaf\"," + b[1:] }},
	{name: "half a surrogate", spoil: func(b string) string { return b[:1] + `"x":"\ud800",` + b[1:] }},
	{name: "a raw control character", spoil: func(b string) string { return b[:1] + "\"x\":\"a\nb\"," + b[1:] }},
	{name: "an escape that is none", spoil: func(b string) string { return b[:1] + `"x":"\x41",` + b[1:] }},
	{name: "bytes behind it", spoil: func(b string) string { return b + "x" }},
	{name: "another value behind it", spoil: func(b string) string { return b + b }},
	{name: "a zero byte behind it", spoil: func(b string) string { return b + "\x00" }},
	{name: "a byte order mark before it", spoil: func(b string) string { return "\ufeff" + b }},
	{name: "a part of it", spoil: func(b string) string { return b[:len(b)-1] }},
	{name: "a comma too many", spoil: func(b string) string { return b[:len(b)-1] + ",}" }},
	{name: "a comment", spoil: func(b string) string { return "/* */" + b }},
	{name: "single quotes", spoil: func(b string) string { return strings.ReplaceAll(b, `"`, `'`) }},
	{name: "nothing", spoil: func(string) string { return " " }},
	{name: "null", spoil: func(string) string { return "null" }},
	{name: "a list", spoil: func(b string) string { return "[" + b + "]" }},
	{name: "a text", spoil: func(string) string { return `"text"` }},
	{name: "a number", spoil: func(string) string { return "1" }},
	{name: "YAML", spoil: func(string) string { return "a: 1\n" }},
	{name: "over the limit", spoil: func(b string) string { return b + strings.Repeat(" ", 1<<20) }, status: []int{413}},
	{name: "as a form", spoil: same, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, status: []int{415, 400}},
	{name: "as text", spoil: same, header: map[string]string{"Content-Type": "text/plain"}, status: []int{415, 400}},
	{name: "as XML", spoil: same, header: map[string]string{"Content-Type": "application/xml; q=application/json"}, status: []int{415, 400}},
	{name: "in UTF-16", spoil: same, header: map[string]string{"Content-Type": "application/json; charset=utf-16"}, status: []int{415, 400}},
	{name: "compressed", spoil: same, header: map[string]string{"Content-Encoding": "gzip"}, status: []int{415, 400}},
	{name: "compressed twice", spoil: same, header: map[string]string{"Content-Encoding": "gzip, deflate"}, status: []int{415, 400}},
}

func same(body string) string { return body }

// strictly breaks what our own doors read strictly, and AuthZEN's, as its
// standard asks, pass over.
var strictly = []struct {
	name  string
	spoil func(body string) string
}{
	{"an unknown member", func(b string) string { return b[:1] + `"unknown":1,` + b[1:] }},
	{"a member in capitals", func(b string) string { return strings.Replace(b, `"`, `"X`, 1) }},
	{"an empty object", func(string) string { return "{}" }},
	{"a member that is null", func(b string) string { return replaceFirstValue(b, "null") }},
	{"a member of another type", func(b string) string { return replaceFirstValue(b, `{"a":[1]}`) }},
}

// replaceFirstValue replaces the value of the first member.
func replaceFirstValue(body, value string) string {
	name := body[1:strings.IndexByte(body, ':')]
	return `{` + name + `:` + value + `}`
}

func TestMalformedBodiesAreRefusedAndStoreNothing(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	before := s.everything()
	all := doors(s)
	if len(all) != 19 {
		t.Fatalf("%d doors", len(all))
	}
	for door, good := range all {
		t.Run(door, func(t *testing.T) {
			s := s.in(t)
			for _, m := range malformed {
				if m.name == "over the limit" && (door == "evaluate" || strings.HasPrefix(door, "policy")) {
					continue // what carries policies may be longer
				}
				c := good
				c.body = m.spoil(good.body)
				c.header = map[string]string{}
				for _, from := range []map[string]string{good.header, m.header} {
					for name, value := range from {
						c.header[name] = value
					}
				}
				statuses := m.status
				if statuses == nil {
					statuses = []int{http.StatusBadRequest}
				}
				s.notStored(m.name, c, statuses...)
			}
			if strings.HasPrefix(good.path, "/access/") {
				return
			}
			for _, m := range strictly {
				if m.name == "an empty object" && door == "release" {
					continue // all drafts, without a note
				}
				c := good
				c.body = m.spoil(good.body)
				s.notStored(m.name, c, http.StatusBadRequest)
			}
		})
	}
	if after := s.everything(); after != before {
		t.Errorf("something was stored or changed:\n%s\nbefore:\n%s", after, before)
	}

	// Each of them is good: it is the spoiling that is refused. Patches come
	// last, since they turn off what the others need.
	for _, patches := range []bool{false, true} {
		for door, c := range all {
			if (c.method == http.MethodPatch) != patches || door == "release" { // nobody wrote its draft
				continue
			}
			if a := s.do(c); a.status >= 300 && a.code() != "already_exists" && a.code() != "version_mismatch" {
				t.Errorf("%s, unspoilt: %d %s", door, a.status, a.text)
			}
		}
	}
}

// notStored expects a refusal that names a place: of the body, a header, or
// the body as a whole.
func (s *server) notStored(name string, c call, statuses ...int) {
	s.t.Helper()
	a := s.refused(c, statuses...)
	if strings.Contains(a.text, `"decision":true`) || strings.Contains(a.text, `"ALLOW"`) {
		s.t.Errorf("%s: it is allowed: %s", name, a.text)
	}
	if a.status == http.StatusBadRequest && !strings.HasPrefix(c.path, "/access/") && a.at("/errors/0/path") == nil && a.at("/errors/0/parameter") == nil {
		s.t.Errorf("%s: the place is not named: %s", name, a.text)
	}
}

// everything that can be listed, as text.
func (s *server) everything() string {
	s.t.Helper()
	var all strings.Builder
	for _, path := range []string{
		"/api/v1/tenants?limit=1000", "/api/v1/subjects?tenant=acme&limit=1000", "/api/v1/roles?limit=1000", "/api/v1/roles?tenant=acme&limit=1000",
		"/api/v1/bindings?tenant=acme&limit=1000", "/api/v1/tokens?tenant=acme&limit=1000", dynamic + "?tenant=acme&kind=grant", dynamic + "?tenant=acme&kind=restriction",
		"/api/v1/policies?limit=1000&deleted=true", "/api/v1/releases?limit=1000", "/api/v1/audit?kind=decision&limit=1000", "/api/v1/audit?kind=change&limit=1000",
		"/api/v1/audit?kind=reported&limit=1000",
	} {
		all.WriteString(path + " " + s.must(http.StatusOK, call{as: "admin", path: path}).text + "\n")
	}
	return all.String()
}

// What is wrong with the call around the body.
func TestMalformedCallsAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, c := range []call{
		{as: "admin", path: "/api/v1/nowhere"},
		{as: "admin", path: "/api/v1/policies/%zz"},
		{as: "admin", path: "/api/v1/policies/a%00b"},
		{as: "admin", path: "/API/V1/policies"},
		{as: "admin", path: "/api/v1/policies/"},
		{as: "admin", path: "/api/v1/releases/0"},
		{as: "admin", path: "/api/v1/releases/-1"},
		{as: "admin", path: "/api/v1/releases/99999999999999999999"},
		{as: "admin", path: "/api/v1/releases/1.0"},
		{as: "admin", path: "/api/v1/releases/4242"},
		{as: "admin", path: "/api/v1/releases/1/diff/4242"},
		{as: "admin", method: http.MethodPost, path: "/api/v1/releases/4242/restore"},
		{as: "admin", path: "/api/v1/policies?limit=0"},
		{as: "admin", path: "/api/v1/policies?limit=1001"},
		{as: "admin", path: "/api/v1/policies?limit=ten"},
		{as: "admin", path: "/api/v1/policies?limit=1&limit=2"},
		{as: "admin", path: "/api/v1/policies?limt=1"},
		{as: "admin", path: "/api/v1/policies?drafts=1"},
		{as: "admin", path: "/api/v1/policies?layer=mine"},
		{as: "admin", path: "/api/v1/releases?cursor=x"},
		{as: "admin", path: "/api/v1/audit?effect=allow"},
		{as: "admin", path: "/api/v1/audit?kind=secret"},
		{as: "admin", path: "/api/v1/audit?from=yesterday"},
		{as: "admin", path: "/api/v1/audit?tenant=" + strings.Repeat("a", 3000) + "&subject=%ff%fe&action=%00"},
		{as: "admin", path: dynamic},
		{as: "admin", path: dynamic + "?tenant=acme&kind=permit"},
		{as: "admin", path: dynamic + "/grt-nowhere"},
		{as: "admin", path: dynamic + "/nowhere"},
		{as: "pep", path: "/api/v1/decide?wait=forever", body: encode(instance(engineer()))},
		{as: "pep", path: "/api/v1/decide?wait=61s", body: encode(instance(engineer()))},
		{as: "pep", path: "/api/v1/decide?wiat=1s", body: encode(instance(engineer()))},
		{as: "pep", path: "/api/v1/decide", body: encode(with(instance(engineer()), object{"at_least_revision": "r01.g1"}))},
		{as: "pep", path: "/api/v1/decide", body: encode(with(instance(engineer()), object{"at_least_revision": "r99.g99"}))},
		{as: "pep", path: "/api/v1/decide", body: encode(with(instance(engineer()), object{"permit": true}))},
		{as: "pep", path: "/api/v1/decide/batch", body: `{"evaluations":[]}`},
		{as: "pep", path: "/api/v1/decide/batch", body: `{"evaluations":[` + strings.TrimSuffix(strings.Repeat("{},", 1001), ",") + `]}`},
		{as: "author", method: http.MethodPut, path: "/api/v1/policies/tenants/acme/new.rego", body: `{"content":""}`},
		{as: "author", method: http.MethodPut, path: "/api/v1/policies/tenants/acme/new.rego", body: `{"content":""}`, header: map[string]string{"If-Match": "1"}},
		{as: "author", method: http.MethodPut, path: "/api/v1/policies/tenants/acme/new.rego", body: `{"content":""}`, header: map[string]string{"If-Match": `W/"1"`}},
		{as: "author", method: http.MethodPut, path: "/api/v1/policies/tenants/acme/new.rego", body: `{"content":""}`, header: map[string]string{"If-Match": `"7"`}},
		{as: "author", path: "/api/v1/policies", body: `{"path":"tenants/acme/new.rego","content":"` + strings.Repeat("#", 1<<20+1) + `"}`},
		{as: "author", method: http.MethodTrace, path: "/api/v1/policies"},
	} {
		if a := s.do(c); a.status < 400 || a.status > 499 {
			t.Errorf("%s %s %s: %d %s", c.method, shortened(c.path), shortened(c.body), a.status, shortened(a.text))
		}
	}
	// The server reads no more of a head that is too long, and closes: that may
	// cut the call off before its refusal is read.
	if a, err := s.try(call{as: "author", path: "/api/v1/policies", header: map[string]string{"X-Long": strings.Repeat("x", 20<<10)}}); err == nil && a.status/100 != 4 {
		t.Errorf("a long header: %d %s", a.status, shortened(a.text))
	}
	// It goes on answering.
	if d := s.decide("pep", instance(engineer())); d.Effect != "ALLOW" {
		t.Errorf("%+v", d)
	}
}

// Documents that are no policies: they are refused with their place, nothing is
// published, and what was in force answers.
func TestMalformedDocumentsAreRefusedWithTheirPlace(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	release := s.release()
	for name, row := range map[string]struct{ path, text string }{
		"Rego that does not parse":      {"tenants/acme/new.rego", "package xiezhi.tenants.acme.new\n\ndeny contains {\n"},
		"Rego that loops":               {"tenants/acme/new.rego", "package xiezhi.tenants.acme.new\n\na := b\n\nb := a\n"},
		"Rego that calls the network":   {"tenants/acme/new.rego", "package xiezhi.tenants.acme.new\n\na := http.send({\"url\": \"http://127.0.0.1\", \"method\": \"get\"})\n"},
		"Rego of another version":       {"tenants/acme/new.rego", "package xiezhi.tenants.acme.new\n\ndeny[x] { x := 1 }\n"},
		"a rule that nobody declared":   {"tenants/acme/new.rego", "package xiezhi.tenants.acme.new\n\ndeny contains {\"rule\": \"a\"} if true\n"},
		"Cedar that does not parse":     {"tenants/acme/new.cedar", "permit (principal, action\n"},
		"Cedar without an id":           {"tenants/acme/new.cedar", "permit (principal, action, resource);\n"},
		"CEL that does not parse":       {"tenants/acme/new.policy.yaml", "id: new\nname: New\nrules:\n  - {id: a, condition: 'action ==', effect: DENY}\n"},
		"CEL that is no truth":          {"tenants/acme/new.policy.yaml", "id: new\nname: New\nrules:\n  - {id: a, condition: '1', effect: DENY}\n"},
		"an effect that nobody knows":   {"tenants/acme/new.policy.yaml", "id: new\nname: New\nrules:\n  - {id: a, condition: 'true', effect: PERMIT}\n"},
		"a member that nobody knows":    {"tenants/acme/new.policy.yaml", "id: new\nname: New\nrulez: []\n"},
		"YAML that does not parse":      {"tenants/acme/new.policy.yaml", "id: [\n"},
		"YAML of a billion laughs":      {"tenants/acme/new.policy.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nid: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"},
		"a rule document that is JSON5": {"tenants/acme/new.policy.json", "{id:'new'}"},
		"a JSON document of two":        {"tenants/acme/new.policy.json", `{"id":"new","name":"N","rules":[]}{}`},
		"bytes":                         {"tenants/acme/new.rego", "\x00\x01\x02"},
		"deep brackets":                 {"tenants/acme/new.rego", "package xiezhi.tenants.acme.new\n\na := " + strings.Repeat("[", 100000)},
		"deep conditions":               {"tenants/acme/new.policy.yaml", "id: new\nname: New\nrules:\n  - {id: a, condition: '" + strings.Repeat("(", 20000) + "', effect: DENY}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			c := s.draft("author", row.path, row.text)
			if a := s.do(c); a.status == http.StatusBadRequest { // refused before it is a draft
				return
			} else if a.status != http.StatusOK {
				t.Fatalf("the draft: %d %s", a.status, a.text)
			}
			a := s.do(call{as: "author", path: "/api/v1/releases", body: encode(object{"drafts": []string{row.path}, "note": ""})})
			if a.status != http.StatusUnprocessableEntity || a.textAt("/faults/0/file") != row.path || a.textAt("/faults/0/message") == "" {
				t.Errorf("%d %s", a.status, shortened(a.text))
			}
			if s.release() != release {
				t.Error("it was published")
			}
		})
	}
	if d := s.decide("pep", instance(engineer())); d.Effect != "ALLOW" {
		t.Errorf("%+v", d)
	}
}
