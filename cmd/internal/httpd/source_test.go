package httpd

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

// heldSource is a source in a state.
type heldSource struct {
	status pap.SourceStatus
	loads  int
}

func (s *heldSource) Status() pap.SourceStatus { return s.status }

func (s *heldSource) Load(context.Context) (pap.SourceStatus, error) {
	s.loads++
	return s.status, nil
}

func (s *heldSource) Webhook(signature, _ string, body []byte) error {
	switch {
	case signature == "busy":
		return pap.ErrBusy
	case signature != "of "+string(body):
		return pap.ErrSignature
	}
	return nil
}

func TestTheSourcesStateIsReadByAuthorsAndLoadedByThePlatform(t *testing.T) {
	r := newRig(t, testPolicies())
	for path, method := range map[string]string{"/api/v1/policy/source": "GET", "/api/v1/policy/source/webhook": "POST"} {
		if g := r.do(ask{as: "admin", method: method, path: path}); g.status != http.StatusNotFound {
			t.Errorf("%s without a source: %d %s", path, g.status, g.text)
		}
	}
	if g := r.do(ask{as: "admin", method: "POST", path: "/api/v1/policy/load"}); g.status != http.StatusOK || g.json["source"] != nil {
		t.Errorf("load without a source: %d %s", g.status, g.text)
	}
	now := time.Now().UTC()
	source := &heldSource{status: pap.SourceStatus{
		Source: "git+https://git.example/policies@main", Subject: "service:git", Result: pap.SourceRefused, Reason: "2 faults", CheckedAt: now,
		Faults: []pap.SourceFault{{File: "tenants/acme/a.rego", Line: 3, Message: "acme's"}, {File: "tenants/globex/b.rego", Message: "globex's"}},
		Seen:   &pap.SourceCommit{ID: "c2", Author: "Li Wei", Message: "globex: b", At: now}, Published: &pap.SourceCommit{ID: "c1", Release: 1, At: now},
	}}
	var attributes error
	r.config.Source, r.config.LoadAttributes = source, func() error { return attributes }

	g := r.do(ask{as: "admin", path: "/api/v1/policy/source"})
	if g.status != http.StatusOK || g.at("/result") != "refused" || g.at("/faults/1/file") != "tenants/globex/b.rego" {
		t.Errorf("%d %s", g.status, g.text)
	}
	g = r.do(ask{as: "author", path: "/api/v1/policy/source"})
	if g.status != http.StatusOK || strings.Contains(g.text, "globex") || !strings.Contains(g.text, "acme's") || g.at("/seen/commit") != "c2" {
		t.Errorf("a tenant's author: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "author", method: "POST", path: "/api/v1/policy/load"}); g.status != http.StatusForbidden || source.loads != 0 {
		t.Errorf("a tenant's author loads: %d %s", g.status, g.text)
	}
	g = r.do(ask{as: "admin", method: "POST", path: "/api/v1/policy/load"})
	if g.status != http.StatusOK || g.at("/source/result") != "refused" || g.at("/static_attributes/result") != "loaded" || g.at("/revision") == "" || source.loads != 1 {
		t.Errorf("%d %s", g.status, g.text)
	}
	attributes = errors.New("line 3: no")
	if g = r.do(ask{as: "admin", method: "POST", path: "/api/v1/policy/load"}); g.at("/static_attributes/result") != "refused" || g.at("/static_attributes/reason") != "line 3: no" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestALoadIsOfOneSourceThatIsConfigured(t *testing.T) {
	r := newRig(t, testPolicies())
	git, static, dropped := &heldSource{status: pap.SourceStatus{Source: "git+https://git.example/policies@main", Subject: "service:git", Result: pap.SourceUnchanged, CheckedAt: time.Now().UTC()}}, 0, 0
	r.config.Source = git
	r.config.LoadAttributes = func() error { static++; return nil }
	r.config.AttributeSources = map[string]func(){"cmdb": func() { dropped++ }}
	for _, row := range []struct {
		body                 string
		git, static, dropped int
		status               int
	}{
		{"", 1, 1, 1, 200},
		{"{}", 1, 1, 1, 200},
		{`{"source":"cmdb"}`, 0, 0, 1, 200},
		{`{"source":"static"}`, 0, 1, 0, 200},
		{`{"source":"policies"}`, 1, 0, 0, 200},
		{`{"source":"hr"}`, 0, 0, 0, 400},
		{`{"source":""}`, 0, 0, 0, 400},
		{`{"source":"https://evil.example/policies"}`, 0, 0, 0, 400},
		{`{"url":"https://evil.example/policies"}`, 0, 0, 0, 400},
		{`{"source":`, 0, 0, 0, 400},
	} {
		git.loads, static, dropped = 0, 0, 0
		g := r.do(ask{as: "admin", method: "POST", path: "/api/v1/policy/load", body: row.body})
		if g.status != row.status || git.loads != row.git || static != row.static || dropped != row.dropped {
			t.Errorf("%s: %d %s; %d, %d, %d", row.body, g.status, g.text, git.loads, static, dropped)
		}
		if row.dropped == 1 && g.at("/attribute_sources/0") != "cmdb" || row.static == 0 && row.status == 200 && g.json["static_attributes"] != nil {
			t.Errorf("%s: %s", row.body, g.text)
		}
	}
	if g := r.do(ask{as: "author", method: "POST", path: "/api/v1/policy/load", body: `{"source":"cmdb"}`}); g.status != http.StatusForbidden {
		t.Errorf("a tenant's author: %d %s", g.status, g.text)
	}
	delete(r.config.AttributeSources, "cmdb")
	r.config.Source, r.config.LoadAttributes = nil, nil
	for _, name := range []string{"cmdb", "static", "policies"} {
		if g := r.do(ask{as: "admin", method: "POST", path: "/api/v1/policy/load", body: `{"source":"` + name + `"}`}); g.status != 400 || g.at("/code") == "" {
			t.Errorf("%s, which is not configured: %d %s", name, g.status, g.text)
		}
	}
}

func TestAWebhookNeedsASignatureOfItsBytes(t *testing.T) {
	r := newRig(t, testPolicies())
	r.config.Source = &heldSource{}
	call := func(signature, contentType string) got {
		return r.do(ask{path: "/api/v1/policy/source/webhook", body: `payload=%7B%7D`, header: map[string]string{"X-Hub-Signature-256": signature, "Content-Type": contentType}})
	}
	for _, contentType := range []string{"application/json", "application/x-www-form-urlencoded"} {
		if g := call(`of payload=%7B%7D`, contentType); g.status != http.StatusAccepted {
			t.Errorf("%d %s", g.status, g.text)
		}
	}
	if g := call("of something else", "application/json"); g.status != http.StatusUnauthorized || g.at("/code") != "webhook_signature" {
		t.Errorf("%d %s", g.status, g.text)
	}
	if g := call("busy", "application/json"); g.status != http.StatusTooManyRequests {
		t.Errorf("%d %s", g.status, g.text)
	}
}
