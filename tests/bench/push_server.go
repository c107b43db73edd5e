//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/tests/process"
)

// pushServer is a running `xiezhi serve` with the shipped policies.
type pushServer struct {
	*process.Server
	client               *http.Client
	binary, dir          string
	url, stream, trust   string
	listen, streamListen string
	admin, pep           string   // tokens
	version              int      // of the table that is published
	flags                []string // more of them
}

// startPushServer publishes the shipped policies with more files, and starts the
// server with more flags. What is published later waits for nobody.
func (b *bench) startPushServer(ctx context.Context, more []bundles.File, flags ...string) (*pushServer, error) {
	shipped, err := bundles.ReadFS(os.DirFS(b.policies), func(p string) bool {
		return filepath.Ext(p) != ".go" && !strings.HasPrefix(p, "self/changes")
	})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "xiezhi-push-")
	if err != nil {
		return nil, err
	}
	s := &pushServer{client: &http.Client{}, binary: filepath.Join(b.bin, "xiezhi"), dir: dir, flags: flags, trust: filepath.Join(dir, "data", "keys", "trust.json")}
	if s.listen, err = process.FreeAddress(); err == nil {
		s.streamListen, err = process.FreeAddress()
	}
	if err == nil {
		err = s.bootstrap(ctx, append(shipped.Files(), more...))
	}
	if err == nil {
		err = s.run(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.url, s.stream = "http://"+s.listen, "ws://"+s.streamListen+"/stream"
	if err := s.enrol(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// restart kills the server, as a crash would, and starts it again.
func (s *pushServer) restart(ctx context.Context) error {
	if _, err := s.End(syscall.SIGKILL); err != nil {
		return err
	}
	return s.run(ctx)
}

// Stop ends the server and removes its files.
func (s *pushServer) Stop() error { return errors.Join(s.Server.Stop(), os.RemoveAll(s.dir)) }

// publish releases a table of that many random bytes and returns when it was
// stored.
func (s *pushServer) publish(ctx context.Context, size int) (time.Time, error) {
	random := make([]byte, size)
	_, _ = rand.Read(random) // crypto/rand.Read never fails
	text := fmt.Sprintf("tenants:\n  %s:\n    bytes: %s\n", tenant, base64.StdEncoding.EncodeToString(random))
	precondition := http.Header{"If-None-Match": {"*"}}
	if s.version > 0 {
		precondition = http.Header{"If-Match": {fmt.Sprintf(`"%d"`, s.version)}}
	}
	stored, err := s.release(ctx, "tables/bench.yaml", text, precondition)
	if err == nil {
		s.version++
	}
	return stored, err
}

// release publishes one file and returns when it was stored.
func (s *pushServer) release(ctx context.Context, path, text string, precondition http.Header) (time.Time, error) {
	if _, err := s.call(ctx, http.MethodPut, "/api/v1/policies/"+path, precondition, map[string]any{"content": text}, nil); err != nil {
		return time.Time{}, err
	}
	var made struct {
		CreatedAt time.Time `json:"created_at"`
	}
	_, err := s.call(ctx, http.MethodPost, "/api/v1/releases", nil, map[string]any{"drafts": []string{path}}, &made)
	return made.CreatedAt, err
}

// mint makes a grant and returns its position in the log.
func (s *pushServer) mint(ctx context.Context) (id string, position uint64, err error) {
	var made struct {
		ID string `json:"id"`
	}
	revision, err := s.call(ctx, http.MethodPost, "/api/v1/policy/dynamic", nil, map[string]any{
		"type": "DYNAMIC", "kind": "grant", "tenant": tenant, "satisfies": []string{"tenants/acme/change_freeze/frozen"}, "reason": "a benchmark",
		"validity": map[string]any{"end": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
		"request": map[string]any{
			"tenant": tenant, "subject": map[string]any{"type": "user", "id": "li.wei"}, "action": "ecs.instance.resize",
			"resource": map[string]any{"type": "ecs.instance", "id": "i-1", "properties": map[string]any{}},
		},
	}, &made)
	return made.ID, revision.Position, err
}

func (s *pushServer) revoke(ctx context.Context, id string) (uint64, error) {
	revision, err := s.call(ctx, http.MethodDelete, "/api/v1/policy/dynamic/"+id+"?wait=0s", nil, nil, nil)
	return revision.Position, err
}

// bootstrap makes the administrator and publishes the policies.
func (s *pushServer) bootstrap(ctx context.Context, policies []bundles.File) error {
	folder := filepath.Join(s.dir, "policies")
	if err := writeFiles(folder, policies); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.binary, "admin", "bootstrap", "--json", "--data", filepath.Join(s.dir, "data"), "--policies", folder)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	var made struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(out, &made); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	s.admin = made.Token
	return nil
}

// run starts the server's process.
func (s *pushServer) run(ctx context.Context) (err error) {
	folder, err := os.MkdirTemp(s.dir, "run-")
	if err != nil {
		return err
	}
	cmd := exec.Command(s.binary, append([]string{"serve", "--listen", s.listen, "--stream-listen", s.streamListen, "--data", filepath.Join(s.dir, "data"), "--log-level", "error"}, s.flags...)...)
	cmd.Env = append(os.Environ(), "GOGC=100", // as the bare server has it: its memory is compared
		"XIEZHI_CASES_PENDING=100000", "XIEZHI_CASES_HOURLY=100000") // one person asks for all that is decided here
	s.Server, err = process.Start(ctx, cmd, folder, syscall.SIGTERM, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.listen+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := s.client.Do(request)
		if err != nil {
			return err
		}
		if response.Body.Close(); response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	})
	return err
}

// enrol makes the tenant, its enforcement point and that one's token.
func (s *pushServer) enrol(ctx context.Context) error {
	for _, made := range []struct {
		path   string
		object map[string]any
	}{
		{"tenants", map[string]any{"id": tenant}},
		{"subjects", map[string]any{"tenant": tenant, "type": "service", "id": "gateway"}},
		{"bindings", map[string]any{"tenant": tenant, "subject": "service:gateway", "role": "pep"}},
		{"subjects", map[string]any{"tenant": tenant, "type": "user", "id": "li.wei"}},
		{"bindings", map[string]any{"tenant": tenant, "subject": "user:li.wei", "role": "engineer"}},
	} {
		if _, err := s.call(ctx, http.MethodPost, "/api/v1/"+made.path, nil, made.object, nil); err != nil {
			return err
		}
	}
	var token struct {
		Token string `json:"token"`
	}
	_, err := s.call(ctx, http.MethodPost, "/api/v1/tokens", nil, map[string]any{
		"tenant": tenant, "subject": "service:gateway", "rights": []string{"*"}, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339),
	}, &token)
	s.pep = token.Token
	return err
}

// keep hands decision records to the server, as a PEP does.
func (s *pushServer) keep(ctx context.Context, records []authz.AuditRecord) error {
	for some := range slices.Chunk(records, 1000) {
		_, err := s.callAs(ctx, s.pep, http.MethodPost, "/api/v1/audit/decisions", nil, map[string]any{"records": some}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// call asks the API as the administrator and returns the revision that the
// answer names.
func (s *pushServer) call(ctx context.Context, method, path string, header http.Header, body, into any) (authz.Revision, error) {
	return s.callAs(ctx, s.admin, method, path, header, body, into)
}

func (s *pushServer) callAs(ctx context.Context, token, method, path string, header http.Header, body, into any) (revision authz.Revision, err error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return revision, err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, sent)
	if err != nil {
		return revision, err
	}
	if header != nil {
		request.Header = header
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return revision, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return revision, err
	}
	if response.StatusCode/100 != 2 {
		return revision, fmt.Errorf("%s %s: %s: %.1000s", method, path, response.Status, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			return revision, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	if named := response.Header.Get("Xiezhi-Revision"); named != "" {
		return authz.ParseRevision(named)
	}
	return revision, nil
}
