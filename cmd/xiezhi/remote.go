package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// remoteFlags say which server is asked, and as whom.
type remoteFlags struct {
	server    string
	tokenFile string
}

func (f *remoteFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", "", "ask the server at this `URL` (default $XIEZHI_SERVER)")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "`file` that holds the access token (default $XIEZHI_TOKEN_FILE)")
}

// wanted reports whether a server is to be asked: one was named, and no flag
// says that this machine should answer.
func (f *remoteFlags) wanted(cmd *cobra.Command) bool {
	if f.server != "" {
		return true
	}
	for _, local := range localFlags {
		if flag := cmd.Flags().Lookup(local); flag != nil && flag.Changed {
			return false
		}
	}
	f.server = os.Getenv("XIEZHI_SERVER")
	return f.server != ""
}

// remote is a server and the credential that it is asked with.
type remote struct {
	base   *url.URL
	token  string
	client *http.Client
}

// remoteTimeout bounds one call.
const remoteTimeout = 30 * time.Second

// open checks the server's address and reads the token. A token never travels
// in the clear, except on this machine.
func (f *remoteFlags) open() (*remote, error) {
	if f.server == "" {
		f.server = os.Getenv("XIEZHI_SERVER")
	}
	if f.tokenFile == "" {
		f.tokenFile = os.Getenv("XIEZHI_TOKEN_FILE")
	}
	if f.server == "" {
		return nil, errors.New("no server: name one with --server or XIEZHI_SERVER")
	}
	base, err := url.Parse(f.server)
	switch {
	case err != nil || base.Host == "" || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("--server %q: want a URL such as https://xiezhi.example:8080", f.server)
	case base.User != nil:
		return nil, errors.New("--server: a URL holds no credential here: put the token into a file, and name it with --token-file")
	case base.Scheme != "https" && base.Scheme != "http":
		return nil, fmt.Errorf("--server %q: want https", f.server)
	case base.Scheme == "http" && !config.Loopback(base.Hostname()):
		return nil, fmt.Errorf("--server %q: plain HTTP would show the token on the way: use https (http is for this machine only)", f.server)
	case f.tokenFile == "":
		return nil, errors.New("no token: name its file with --token-file or XIEZHI_TOKEN_FILE")
	}
	data, err := readLimited(f.tokenFile, nil)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(string(data))
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%s: want one access token and nothing else", f.tokenFile)
	}
	return &remote{base: base, token: token, client: &http.Client{
		Timeout: remoteTimeout,
		// A redirect could lead the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// call sends a body, nil for none, and returns the answer's. An answer that is
// no success is a [*statusError].
func (r *remote) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	return r.callWith(ctx, method, path, nil, body)
}

// statusError is an answer that is no success.
type statusError struct {
	where  string // method and address
	status string
	code   int
	body   []byte
}

func (e *statusError) Error() string { return e.where + ": " + e.status + problemOf(e.body) }

// callWith is call with headers of its own.
func (r *remote) callWith(ctx context.Context, method, path string, header http.Header, body []byte) ([]byte, error) {
	target := r.base.JoinPath(path).String()
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, target, err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err // it names method and address
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: read the answer: %w", method, target, err)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("%s %s: the answer is longer than %d bytes", method, target, maxAnswer)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, &statusError{where: method + " " + target, status: resp.Status, code: resp.StatusCode, body: answer}
	}
	return answer, nil
}

// problemOf is what an RFC 9457 problem document adds to a status.
func problemOf(answer []byte) string {
	var problem struct {
		Title  string     `json:"title"`
		Detail string     `json:"detail"`
		Faults pdp.Faults `json:"faults"`
	}
	if json.Unmarshal(answer, &problem) != nil {
		return ""
	}
	text := ""
	for _, part := range []string{problem.Title, problem.Detail} {
		if part != "" {
			text += ": " + part
		}
	}
	if len(problem.Faults) > 0 {
		text += "\n" + problem.Faults.Error()
	}
	return text
}

func (r *remote) decide(ctx context.Context, body []byte) (*authz.Decision, error) {
	answer, err := r.call(ctx, http.MethodPost, "/api/v1/decide", body)
	if err != nil {
		return nil, err
	}
	return decisionOf(answer)
}

// decisionOf reads the answer of POST /api/v1/decide. What contradicts itself
// is no answer.
func decisionOf(answer []byte) (*authz.Decision, error) {
	var d struct {
		ID          string             `json:"decision_id"`
		Effect      *authz.Effect      `json:"effect"`
		Decision    bool               `json:"decision"`
		Revision    authz.Revision     `json:"revision"`
		Stale       bool               `json:"stale"`
		Reasons     []authz.Reason     `json:"reasons"`
		Obligations []authz.Obligation `json:"obligations"`
		Limits      []authz.Limit      `json:"limits"`
		Route       *authz.Route       `json:"route"`
		Approval    *authz.Approval    `json:"approval"`
		Permit      *string            `json:"permit"`
	}
	if err := json.Unmarshal(answer, &d); err != nil {
		return nil, fmt.Errorf("the server's answer is no decision: %w", err)
	}
	if d.Effect == nil || d.Decision != (*d.Effect == authz.Allow) {
		return nil, errors.New("the server's answer is no decision: effect and decision are missing or differ")
	}
	return &authz.Decision{
		ID: d.ID, Effect: *d.Effect, Revision: d.Revision, Stale: d.Stale, Reasons: d.Reasons, Obligations: d.Obligations,
		Limits: d.Limits, Route: d.Route, Approval: d.Approval, Permit: d.Permit,
	}, nil
}
