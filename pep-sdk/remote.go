package pep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const (
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 4 << 20
	// After so many failures in a row the server is left alone for a time.
	breakAfter = 3
	breakFirst = 500 * time.Millisecond
	breakMost  = 10 * time.Second
)

// errServerAway means that the server did not answer a short time ago.
var errServerAway = errors.New("the server does not answer")

// RemoteError is a refusal of the server.
type RemoteError struct {
	Status int
	Code   string // of the problem document
	Detail string
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("the server answers %d %s: %s", e.Status, e.Code, e.Detail)
}

// Is makes the server's codes the errors of this package.
func (e *RemoteError) Is(target error) bool {
	switch target {
	case ErrRevisionUnavailable:
		return e.Code == "revision_unavailable" || e.Code == "revision_unknown"
	case ErrAuditUnavailable:
		return e.Code == "audit_unavailable"
	}
	return false
}

// remote asks the server.
type remote struct {
	config *Config
	decide string
	health breaker
}

func newRemote(config *Config, server *url.URL) *remote {
	return &remote{config: config, decide: server.JoinPath("/api/v1/decide").String()}
}

// ask asks the server to decide.
func (r *remote) ask(ctx context.Context, req *authz.Request, atLeast authz.Revision) (authz.Decision, error) {
	if !r.health.mayTry(time.Now()) {
		return authz.Decision{}, errServerAway
	}
	bounded, cancel := context.WithTimeout(ctx, r.config.RemoteTimeout)
	defer cancel()
	d, err := r.call(bounded, req, atLeast)
	var refused *RemoteError
	away := err != nil && (!errors.As(err, &refused) || refused.Status >= 500 && refused.Code != "revision_unavailable")
	if ctx.Err() == nil { // who asked gave up: that says nothing of the server
		r.health.tried(time.Now(), !away)
	} else {
		r.health.untried()
	}
	if err != nil {
		return authz.Decision{}, fmt.Errorf("ask the server: %w", err)
	}
	return d, nil
}

func (r *remote) call(ctx context.Context, req *authz.Request, atLeast authz.Revision) (authz.Decision, error) {
	body := req.Value()
	if !atLeast.IsZero() {
		body = body.With("at_least_revision", authz.StringValue(atLeast.String()))
	}
	data, err := post(ctx, r.config, r.decide, body.AppendJSON(nil))
	if err != nil {
		return authz.Decision{}, err
	}
	return authz.ParseDecision(data)
}

// post posts JSON and returns the answer to it. A refusal is a [*RemoteError].
func post(ctx context.Context, config *Config, to string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if err := config.authorize(ctx, req.Header); err != nil {
		return nil, err
	}
	resp, err := config.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxAnswer:
		return nil, fmt.Errorf("the answer of %s has more than %d bytes", to, maxAnswer)
	case resp.StatusCode == http.StatusOK:
		return data, nil
	}
	refused := &RemoteError{Status: resp.StatusCode}
	var problem struct{ Code, Detail string }
	if json.Unmarshal(data, &problem) == nil {
		refused.Code, refused.Detail = problem.Code, problem.Detail
	}
	return nil, refused
}

// breaker leaves a server alone that fails: then one question at a time finds
// out whether it is back.
type breaker struct {
	mu       sync.Mutex
	failures int
	until    time.Time // nothing is tried before
	trying   bool      // the one question is under way
}

func (b *breaker) mayTry(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakAfter {
		return true
	}
	if b.trying || now.Before(b.until) {
		return false
	}
	b.trying = true
	return true
}

func (b *breaker) tried(now time.Time, good bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	if good {
		b.failures = 0
		return
	}
	if b.failures++; b.failures >= breakAfter {
		b.until = now.Add(min(breakFirst<<min(b.failures-breakAfter, 10), breakMost))
	}
}

func (b *breaker) untried() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}
