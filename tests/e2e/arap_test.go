//go:build unix

package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// requester is a PEP that follows AuthZEN's Access Request and Approval
// Profile, Draft 1, written from its text: it knows the discovery document, the
// members that the profile names and a bearer token, and nothing of this server.
type requester struct {
	t        *testing.T
	token    string
	metadata struct {
		Evaluation   string   `json:"access_evaluation_endpoint"`
		Requests     string   `json:"access_request_endpoint"`
		Keys         string   `json:"jwks_uri"`
		Capabilities []string `json:"capabilities"`
	}
}

// profileEvaluation is an AuthZEN request; it is sent as it stands.
type profileEvaluation struct {
	Subject  json.RawMessage            `json:"subject"`
	Resource json.RawMessage            `json:"resource"`
	Action   json.RawMessage            `json:"action"`
	Context  map[string]json.RawMessage `json:"context,omitempty"`
}

type profileDecision struct {
	Decision bool `json:"decision"`
	Context  struct {
		EvaluationID  string `json:"evaluation_id"`
		EvaluatedAt   string `json:"evaluated_at"`
		Reason        string `json:"reason"`
		NextAction    string `json:"next_action"`
		RetryAfter    *int   `json:"retry_after"`
		AccessRequest *struct {
			Endpoint  string `json:"endpoint"`
			Template  string `json:"template"`
			ExpiresAt string `json:"expires_at"`
			Token     string `json:"binding_token"`
		} `json:"access_request"`
	} `json:"context"`
}

type profileSubmission struct {
	profileEvaluation
	Denial struct {
		EvaluationID string `json:"evaluation_id,omitempty"`
		ExpiresAt    string `json:"expires_at"`
		Token        string `json:"binding_token,omitempty"`
		Reason       string `json:"reason,omitempty"`
		Template     string `json:"template,omitempty"`
	} `json:"denial"`
	Access map[string]any `json:"requested_access,omitempty"`
	Client map[string]any `json:"client,omitempty"`
}

type profileTask struct {
	Task struct {
		ID        string            `json:"id"`
		Status    string            `json:"status"`
		Endpoint  string            `json:"status_endpoint"`
		ExpiresAt string            `json:"expires_at"`
		Links     map[string]string `json:"links"`
	} `json:"task"`
	Result *struct {
		Mode     string          `json:"mode"`
		Approval json.RawMessage `json:"approval"` // kept as it came
	} `json:"result"`
	// Of a refusal.
	Type string `json:"type"`

	status int
	header http.Header
}

// newRequester reads the discovery document.
func newRequester(t *testing.T, identifier, token string) *requester {
	t.Helper()
	p := &requester{t: t, token: token}
	if status, _ := p.call(http.MethodGet, identifier+"/.well-known/authzen-configuration", nil, nil, &p.metadata); status != http.StatusOK {
		t.Fatalf("discovery: %d", status)
	}
	if p.metadata.Requests == "" || p.metadata.Keys == "" || !slices.Contains(p.metadata.Capabilities, "urn:openid:authzen:capability:access-request") {
		t.Fatalf("the profile is not announced: %+v", p.metadata)
	}
	return p
}

func (p *requester) call(method, url string, header map[string]string, body, into any) (int, http.Header) {
	p.t.Helper()
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			p.t.Fatal(err)
		}
		sent = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, url, sent)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		p.t.Fatalf("%s %s: %d %v: %s", method, url, resp.StatusCode, err, text)
	}
	if resp.StatusCode >= 400 && resp.Header.Get("Content-Type") != "application/problem+json" {
		p.t.Errorf("%s %s: %d is no problem document: %s", method, url, resp.StatusCode, text)
	}
	return resp.StatusCode, resp.Header
}

func (p *requester) evaluate(e profileEvaluation) (d profileDecision) {
	p.t.Helper()
	if status, _ := p.call(http.MethodPost, p.metadata.Evaluation, nil, e, &d); status != http.StatusOK {
		p.t.Fatalf("evaluate: %d", status)
	}
	return d
}

// denied is a denial that people can be asked about.
func (p *requester) denied(e profileEvaluation) profileDecision {
	p.t.Helper()
	d := p.evaluate(e)
	if hint := d.Context.AccessRequest; d.Decision || hint == nil || hint.ExpiresAt == "" || hint.Token == "" && d.Context.EvaluationID == "" {
		p.t.Fatalf("it is not requestable: %+v", d)
	}
	return d
}

// submissionFor echoes the denial.
func submissionFor(e profileEvaluation, d *profileDecision) (s profileSubmission) {
	s.profileEvaluation = e
	s.Denial.EvaluationID, s.Denial.Reason = d.Context.EvaluationID, d.Context.Reason
	s.Denial.ExpiresAt, s.Denial.Token, s.Denial.Template = d.Context.AccessRequest.ExpiresAt, d.Context.AccessRequest.Token, d.Context.AccessRequest.Template
	return s
}

func (p *requester) submit(s profileSubmission, key string) (task profileTask) {
	p.t.Helper()
	header := map[string]string{}
	if key != "" {
		header["Idempotency-Key"] = key
	}
	task.status, task.header = p.call(http.MethodPost, p.metadata.Requests, header, s, &task)
	return task
}

func (p *requester) read(endpoint string) (task profileTask) {
	p.t.Helper()
	task.status, task.header = p.call(http.MethodGet, endpoint, nil, nil, &task)
	return task
}

// poll waits as it is told, until the task has ended.
func (p *requester) poll(task profileTask) profileTask {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for task.Task.Status == "pending" {
		after, err := strconv.Atoi(task.header.Get("Retry-After"))
		if err != nil || after < 1 || time.Now().After(deadline) {
			p.t.Fatalf("pending, and retry after %q", task.header.Get("Retry-After"))
		}
		<-time.After(time.Duration(after) * time.Second)
		if task = p.read(task.Task.Endpoint); task.status != http.StatusOK {
			p.t.Fatalf("poll: %+v", task)
		}
	}
	return task
}

// with returns the evaluation with an approval in its context.
func (e profileEvaluation) with(approval json.RawMessage) profileEvaluation {
	next := profileEvaluation{e.Subject, e.Resource, e.Action, map[string]json.RawMessage{"approval": approval}}
	for name, value := range e.Context {
		next.Context[name] = value
	}
	return next
}

func (task *profileTask) problem(t *testing.T, status int, name string) {
	t.Helper()
	if task.status != status || task.Type != "urn:openid:authzen:access-request:error:"+name {
		t.Errorf("%d %s, want %d %s", task.status, task.Type, status, name)
	}
}

// atTheDesk is what the profile's client asks about: 20 are a review.
func atTheDesk(size int) profileEvaluation {
	return profileEvaluation{
		Subject: json.RawMessage(`{"type":"user","id":"li.wei"}`), Action: json.RawMessage(`{"name":"desk.open"}`),
		Resource: json.RawMessage(fmt.Sprintf(`{"type":"desk","id":"desk-1","properties":{"size":%d}}`, size)),
		Context:  map[string]json.RawMessage{"reason": json.RawMessage(`"work"`), "weather": json.RawMessage(`"fine"`)},
	}
}

// yes lets somebody approve the case of a task.
func (s *server) yes(as, id string) {
	s.t.Helper()
	shown := s.must(http.StatusOK, call{as: as, path: "/api/v1/cheq/" + id}).textAt("/shown")
	s.must(http.StatusOK, call{as: as, path: "/api/v1/cheq/" + id + "/approve", body: encode(object{"shown": shown, "reason": "fine"})})
}

func TestAccessIsRequestedByTheProfile(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss := s.member("acme", "user:boss", "admin")
	p := newRequester(t, s.url, s.tokens["pep"])
	open := atTheDesk(20)

	if d := p.evaluate(atTheDesk(1)); !d.Decision || d.Context.AccessRequest != nil {
		t.Errorf("what is allowed: %+v", d)
	}
	denial := p.denied(open)
	if denial.Context.Reason != "approval_required" || denial.Context.AccessRequest.Endpoint != p.metadata.Requests || denial.Context.NextAction != "" {
		t.Errorf("%+v", denial.Context)
	}
	p.verifies(denial, open)

	submission := submissionFor(open, &denial)
	submission.Access = map[string]any{"requested_until": time.Now().Add(time.Hour).Format(time.RFC3339)}
	submission.Client = map[string]any{"id": "shop-7", "name": "The shop"}
	pending := p.submit(submission, "one")
	if pending.status != http.StatusAccepted || pending.Task.Status != "pending" || pending.Result != nil || pending.header.Get("Location") != pending.Task.Endpoint {
		t.Fatalf("%+v", pending)
	}
	if again := p.submit(submission, "one"); again.status != http.StatusAccepted || again.Task.ID != pending.Task.ID {
		t.Errorf("the same again: %+v", again)
	}
	if again := p.submit(submission, ""); again.Task.ID != pending.Task.ID {
		t.Errorf("the same without a key: %+v", again)
	}
	if d := p.evaluate(open); d.Decision {
		t.Error("to ask is to be allowed")
	}
	s.yes(boss, pending.Task.ID)
	done := p.poll(pending)
	if done.Task.Status != "approved" || done.Result == nil || done.Result.Mode != "reevaluate" {
		t.Fatalf("%+v", done)
	}
	var approval struct {
		ID    string    `json:"id"`
		Until time.Time `json:"approved_until"`
	}
	if err := json.Unmarshal(done.Result.Approval, &approval); err != nil || approval.ID == "" || time.Until(approval.Until) <= 0 || time.Until(approval.Until) > time.Hour {
		t.Errorf("%v: %s", err, done.Result.Approval)
	}
	if d := p.evaluate(open.with(done.Result.Approval)); !d.Decision {
		t.Fatalf("re-evaluated: %+v", d)
	}
	if d := p.evaluate(atTheDesk(21).with(done.Result.Approval)); d.Decision || d.Context.Reason != "out_of_scope" || d.Context.NextAction != "request" || d.Context.AccessRequest == nil {
		t.Errorf("something else: %+v", d)
	}

	s.must(http.StatusOK, call{as: boss, path: "/api/v1/cheq/" + pending.Task.ID + "/revoke?wait=0s", body: `{"reason":"over"}`})
	over := p.evaluate(open.with(done.Result.Approval))
	if over.Decision || over.Context.Reason != "approval_expired" || over.Context.NextAction != "request" || over.Context.AccessRequest == nil {
		t.Fatalf("revoked: %+v", over)
	}

	// It says request: so it asks anew, and thinks better of it.
	anew := p.submit(submissionFor(open, &over), "two")
	if anew.status != http.StatusAccepted || anew.Task.ID == pending.Task.ID || anew.Task.Links["cancel"] == "" {
		t.Fatalf("%+v", anew)
	}
	var cancelled profileTask
	if status, _ := p.call(http.MethodPost, anew.Task.Links["cancel"], nil, map[string]string{"reason": "changed_mind"}, &cancelled); status != http.StatusOK || cancelled.Task.Status != "cancelled" {
		t.Errorf("%d %+v", status, cancelled)
	}
	late := profileTask{}
	late.status, late.header = p.call(http.MethodPost, anew.Task.Links["cancel"], nil, map[string]string{}, &late)
	late.problem(t, http.StatusConflict, "invalid_task_state")
}

// verifies does what an independent service would: the token is signed with a
// published key, and its hash is of what was evaluated.
func (p *requester) verifies(d profileDecision, e profileEvaluation) {
	p.t.Helper()
	var set struct {
		Keys []struct{ Kid, X, Crv string }
	}
	p.call(http.MethodGet, p.metadata.Keys, nil, nil, &set)
	parts := strings.Split(d.Context.AccessRequest.Token, ".")
	var header struct{ Alg, Kid string }
	var claims struct {
		Issuer   string   `json:"iss"`
		Audience string   `json:"aud"`
		Expires  int64    `json:"exp"`
		Issued   int64    `json:"iat"`
		ID       string   `json:"jti"`
		Denial   string   `json:"denial_expires_at"`
		Members  []string `json:"binding_context_members"`
		Hash     string   `json:"binding_hash"`
	}
	p.segment(parts[0], &header)
	p.segment(parts[1], &claims)
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		p.t.Fatal(err)
	}
	known := false
	for _, k := range set.Keys {
		if key, err := base64.RawURLEncoding.DecodeString(k.X); err == nil && k.Kid == header.Kid && k.Crv == "Ed25519" {
			known = ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), signature)
		}
	}
	if !known || header.Alg != "EdDSA" || claims.Issuer == "" || claims.Audience == "" || claims.ID == "" || claims.Expires <= claims.Issued || claims.Denial != d.Context.AccessRequest.ExpiresAt {
		p.t.Errorf("known key: %v, %+v %+v", known, header, claims)
	}
	bound := map[string]any{}
	for _, name := range claims.Members {
		if value, ok := e.Context[name]; ok {
			bound[name] = value
		}
	}
	if _, reads := bound["reason"]; !reads || len(bound) != 1 {
		p.t.Errorf("bound of the context: %v", claims.Members)
	}
	var object any // encoding/json sorts, and these texts and numbers need no more
	data, err := json.Marshal(map[string]any{"subject": e.Subject, "resource": e.Resource, "action": e.Action, "context": bound})
	if err == nil {
		err = json.Unmarshal(data, &object)
	}
	if err == nil {
		data, err = json.Marshal(object)
	}
	if sum := sha256.Sum256(data); err != nil || base64.RawURLEncoding.EncodeToString(sum[:]) != claims.Hash {
		p.t.Errorf("%v: binding_hash %s is not of %s", err, claims.Hash, data)
	}
}

func (p *requester) segment(text string, into any) {
	p.t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestAccessRequestsAreAttacked(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	p := newRequester(t, s.url, s.tokens["pep"])
	side := newRequester(t, s.url, s.tokens[s.member("acme", "service:side", "pep")])
	far := newRequester(t, s.url, s.tokens[s.member("globex", "service:far", "pep")])
	open := atTheDesk(20)
	denial := p.denied(open)
	good := submissionFor(open, &denial)
	spoilt := func(spoil func(*profileSubmission)) profileSubmission {
		next := good
		spoil(&next)
		return next
	}
	parts := strings.Split(good.Denial.Token, ".")
	encoded := base64.RawURLEncoding.EncodeToString
	forge := func(change ...string) string {
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		return encoded([]byte(strings.NewReplacer(change...).Replace(string(payload))))
	}
	stranger := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	other := p.denied(atTheDesk(30))
	for name, row := range map[string]struct {
		as   *requester
		send profileSubmission
	}{
		"by another caller":     {side, good},
		"by another tenant":     {far, good},
		"of another request":    {p, spoilt(func(s *profileSubmission) { s.Resource = atTheDesk(21).Resource })},
		"of another subject":    {p, spoilt(func(s *profileSubmission) { s.Subject = json.RawMessage(`{"type":"user","id":"wang.fang"}`) })},
		"another denial's":      {p, spoilt(func(s *profileSubmission) { s.Denial.Token = other.Context.AccessRequest.Token })},
		"without what is bound": {p, spoilt(func(s *profileSubmission) { s.Context = nil })},
		"no token":              {p, spoilt(func(s *profileSubmission) { s.Denial.Token = "" })},
		"alg none":              {p, spoilt(func(s *profileSubmission) { s.Denial.Token = encoded([]byte(`{"alg":"none"}`)) + "." + parts[1] + "." })},
		"another payload":       {p, spoilt(func(s *profileSubmission) { s.Denial.Token = parts[0] + "." + forge("acme", "globex") + "." + parts[2] })},
		"signed by a stranger": {p, spoilt(func(s *profileSubmission) {
			s.Denial.Token = parts[0] + "." + parts[1] + "." + encoded(ed25519.Sign(stranger, []byte(parts[0]+"."+parts[1])))
		})},
		"a token of the API": {p, spoilt(func(s *profileSubmission) { s.Denial.Token = p.token })},
	} {
		t.Run(name, func(t *testing.T) {
			answer := row.as.submit(row.send, "")
			answer.problem(t, http.StatusBadRequest, "invalid_denial_binding")
		})
	}
	earlier := p.submit(spoilt(func(s *profileSubmission) {
		s.Denial.ExpiresAt = time.Now().Add(-time.Minute).Format(time.RFC3339)
	}), "")
	earlier.problem(t, http.StatusBadRequest, "invalid_denial_binding")

	first := p.submit(good, "key")
	if first.status != http.StatusAccepted {
		t.Fatalf("%+v", first)
	}
	twice := p.submit(spoilt(func(s *profileSubmission) { s.Client = map[string]any{"id": "x"} }), "key")
	twice.problem(t, http.StatusConflict, "duplicate_request")
	for _, endpoint := range []string{first.Task.Endpoint, p.metadata.Requests + "/cheq-of-nobody"} {
		foreign := far.read(endpoint)
		foreign.problem(t, http.StatusNotFound, "unknown_task")
	}
	var stolen profileTask
	stolen.status, stolen.header = far.call(http.MethodPost, first.Task.Links["cancel"], nil, map[string]string{}, &stolen)
	stolen.problem(t, http.StatusNotFound, "unknown_task")

	// An approval's id is no permission, whoever shows it.
	boss := s.member("acme", "user:boss", "admin")
	s.yes(boss, first.Task.ID)
	done := p.poll(p.read(first.Task.Endpoint))
	for name, row := range map[string]struct {
		as   *requester
		what profileEvaluation
		want string
	}{
		"for something else":  {p, atTheDesk(31), "out_of_scope"},
		"in another tenant":   {far, open, "approval_unverifiable"},
		"under another's id":  {p, atTheDesk(32), "approval_unverifiable"},
		"with a forged state": {p, atTheDesk(33), "approval_unverifiable"},
	} {
		t.Run(name, func(t *testing.T) {
			approval := done.Result.Approval
			var known map[string]string
			if err := json.Unmarshal(approval, &known); err != nil {
				t.Fatal(err)
			}
			switch name {
			case "under another's id":
				known["id"] = "grt-another"
			case "with a forged state":
				known["state"] = strings.Repeat("e30.", 2) + "e30"
			}
			approval, err := json.Marshal(known)
			if err != nil {
				t.Fatal(err)
			}
			if d := row.as.evaluate(row.what.with(approval)); d.Decision || d.Context.Reason != row.want {
				t.Errorf("%+v", d)
			}
		})
	}
}
