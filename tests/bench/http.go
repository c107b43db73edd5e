//go:build unix

package main

import (
	"bytes"
	"context"
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

// connections is how many keep-alive connections load a server.
const connections = 64

// xiezhi is a running `xiezhi dev` that serves the release under test.
type xiezhi struct {
	server
	token string // of the enforcement point, which asks for others
}

// startXiezhi starts the built binary and puts [people] into its directory.
func startXiezhi(ctx context.Context, binary string, content *bundles.Content) (x *xiezhi, err error) {
	dir, err := os.MkdirTemp("", "xiezhi-bench-")
	if err != nil {
		return nil, err
	}
	policies, readyFile := filepath.Join(dir, "policies"), filepath.Join(dir, "ready.json")
	address, err := process.FreeAddress()
	if err == nil {
		err = writeFiles(policies, content.Files())
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	var ready struct {
		URL    string
		Tokens struct{ Admin, PEP string }
	}
	x = &xiezhi{server: server{address: address}}
	cmd := exec.Command(binary, "dev", "--listen", address, "--stream-listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--policies", policies, "--ready-file", readyFile)
	x.Server, err = process.Start(ctx, cmd, dir, syscall.SIGTERM, func(context.Context) error {
		data, err := os.ReadFile(readyFile)
		if err != nil {
			return err
		}
		return json.Unmarshal(data, &ready)
	})
	if err != nil {
		return nil, err
	}
	x.token = ready.Tokens.PEP
	if err := introduce(ctx, ready.URL, ready.Tokens.Admin); err != nil {
		return nil, errors.Join(err, x.Stop())
	}
	return x, nil
}

// introduce makes the subjects of the inputs and binds their roles.
func introduce(ctx context.Context, url, token string) error {
	for id, roles := range people {
		if err := create(ctx, url+"/api/v1/subjects", token, map[string]any{"tenant": tenant, "type": "user", "id": id}); err != nil {
			return err
		}
		for _, role := range roles {
			if err := create(ctx, url+"/api/v1/roles", token, map[string]any{"tenant": tenant, "name": role}); err != nil {
				return err
			}
			if err := create(ctx, url+"/api/v1/bindings", token, map[string]any{"tenant": tenant, "subject": "user:" + id, "role": role}); err != nil {
				return err
			}
		}
	}
	return nil
}

// create posts one object of the directory; that it exists already is fine.
func create(ctx context.Context, url, token string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 && response.StatusCode != http.StatusConflict {
		return fmt.Errorf("POST %s %s: %s: %s", url, body, response.Status, answer)
	}
	return nil
}

// startOPA starts a stock `opa run --server` with the same Rego and data, and
// one more module for each question. Decision logs go to the console, which is
// /dev/null: a disk would only slow it down.
func startOPA(ctx context.Context, binary string, content *bundles.Content, asked []question) (*server, error) {
	dir, err := os.MkdirTemp("", "opa-bench-")
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(dir, "policies")
	files, err := opaFiles(content, asked)
	if err == nil {
		err = writeFiles(folder, files)
	}
	null, err2 := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	address, err3 := process.FreeAddress()
	if err := errors.Join(err, err2, err3); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer null.Close()
	cmd := exec.Command(binary, "run", "--server", "--addr", address, "--log-level", "error", "--disable-telemetry",
		"--set", "decision_logs.console=true", folder)
	cmd.Stdout, cmd.Stderr = null, null
	s := &server{address: address}
	s.Server, err = process.Start(ctx, cmd, dir, syscall.SIGTERM, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/health", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		if response.Body.Close(); response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func opaFiles(content *bundles.Content, asked []question) ([]bundles.File, error) {
	data, err := peerData(content)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	files := []bundles.File{{Path: "data.json", Data: text}}
	for _, f := range content.Files() {
		if isModule(f.Path) {
			files = append(files, f)
		}
	}
	for _, q := range asked {
		module := fmt.Sprintf("package bench.%s\n\nfindings := %s\n", q.name, q.text)
		files = append(files, bundles.File{Path: "bench/" + q.name + ".rego", Data: []byte(module)})
	}
	return files, nil
}

func writeFiles(folder string, files []bundles.File) error {
	for _, f := range files {
		path := filepath.Join(folder, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// overHTTP compares `/api/v1/decide`, with authentication, with `opa run
// --server`, without, asked the same joint query on the same Rego over 64
// keep-alive connections, decision logs on in both; and one batch call with as
// many calls on one connection.
func (b *bench) overHTTP(ctx context.Context) (err error) {
	reference, err := newEngine(ctx, b.content)
	if err != nil {
		return err
	}
	asked, of := questions(reference.release.Policies(), b.inputs)
	ours, err := startXiezhi(ctx, filepath.Join(b.bin, "xiezhi"), b.content)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	theirs, err := startOPA(ctx, filepath.Join(b.bin, "opa"), b.content, asked)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.Stop()) }()

	toOurs, toTheirs := make([][]byte, len(b.inputs)), make([][]byte, len(b.inputs))
	for i := range b.inputs {
		body, err := json.Marshal(b.inputs[i].ours)
		if err != nil {
			return err
		}
		toOurs[i] = prepare(ours.address, "/api/v1/decide", ours.token, body)
		if body, err = json.Marshal(map[string]any{"input": b.inputs[i].peers}); err != nil {
			return err
		}
		toTheirs[i] = prepare(theirs.address, "/v1/data/bench/"+asked[of[i]].name+"/findings?strict-builtin-errors=true", "", body)
	}
	if err := b.agreeOverHTTP(ctx, reference, &ours.server, toOurs, theirs, toTheirs); err != nil {
		return err
	}
	if err := b.compareServers(ctx, &ours.server, toOurs, theirs, toTheirs); err != nil {
		return err
	}
	return b.compareBatch(ctx, ours, toOurs)
}

func (b *bench) compareServers(ctx context.Context, ours *server, toOurs [][]byte, theirs *server, toTheirs [][]byte) error {
	var sides [2]side
	for i, s := range []struct {
		name     string
		server   *server
		requests [][]byte
	}{{"xiezhi", ours, toOurs}, {"opa run --server", theirs, toTheirs}} {
		l, err := newLoad(s.server.address, s.server.cpu, connections, s.requests)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer l.close()
		sides[i] = side{s.name, l.run}
	}
	c, err := contest(ctx, fmt.Sprintf("decide over HTTP, %d connections", connections), b.rounds, b.roundTime, sides)
	if err != nil {
		return err
	}
	b.compared(c, atLeast(1.3, c))
	return nil
}

// compareBatch sends the inputs a hundred at a time.
func (b *bench) compareBatch(ctx context.Context, x *xiezhi, singles [][]byte) error {
	const size = 100
	var batches [][]byte
	for chunk := range slices.Chunk(b.inputs, size) {
		items := make([]any, len(chunk))
		for i := range chunk {
			items[i] = chunk[i].ours
		}
		body, err := json.Marshal(map[string]any{"evaluations": items})
		if err != nil {
			return err
		}
		batches = append(batches, prepare(x.address, "/api/v1/decide/batch", x.token, body))
	}
	one, err := dialClient(x.address)
	if err != nil {
		return err
	}
	defer one.close()
	send := func(requests [][]byte) func(time.Duration) (sample, error) {
		return func(d time.Duration) (sample, error) {
			before := x.cpu()
			s, err := passes(d, len(b.inputs), func() error {
				for _, r := range requests {
					if _, err := one.do(r); err != nil {
						return err
					}
				}
				return nil
			})
			s.cpu = x.cpu() - before // the server's, not that of this process
			return s, err
		}
	}
	c, err := contest(ctx, fmt.Sprintf("one batch of %d over HTTP", size), b.rounds, b.roundTime, [2]side{
		{"one call", send(batches)},
		{fmt.Sprintf("%d calls in sequence", size), send(singles)},
	})
	if err != nil {
		return err
	}
	b.compared(c, atMost(0.6, c))
	return nil
}

// agreeOverHTTP makes sure that both servers find on every input what the
// library does.
func (b *bench) agreeOverHTTP(ctx context.Context, reference *engine, ours *server, toOurs [][]byte, theirs *server, toTheirs [][]byte) error {
	a, err := dialClient(ours.address)
	if err != nil {
		return err
	}
	defer a.close()
	o, err := dialClient(theirs.address)
	if err != nil {
		return err
	}
	defer o.close()
	for i := range b.inputs {
		decision, err := reference.decideMaps(ctx, b.inputs[i].ours)
		if err != nil {
			return err
		}
		wanted, err := findingsOf(&decision)
		if err != nil {
			return err
		}
		body, err := a.do(toOurs[i])
		if err != nil {
			return fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		var answer struct {
			Effect  authz.Effect
			Reasons []authz.Reason
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		found, err := findingsOf(&authz.Decision{Reasons: answer.Reasons})
		if err != nil {
			return fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		if answer.Effect != decision.Effect || !slices.Equal(found, wanted) {
			return fmt.Errorf("input %d: the server answers %s %v, the library %s %v", i, answer.Effect, found, decision.Effect, wanted)
		}
		if body, err = o.do(toTheirs[i]); err != nil {
			return fmt.Errorf("input %d: opa: %w", i, err)
		}
		var result struct{ Result any }
		if err := json.Unmarshal(body, &result); err != nil {
			return fmt.Errorf("input %d: opa: %w", i, err)
		}
		if found, err = findingsOfPeer(result.Result); err != nil {
			return fmt.Errorf("input %d: opa: %w: %s", i, err, strings.TrimSpace(string(body)))
		}
		if !slices.Equal(found, wanted) {
			return fmt.Errorf("input %d: opa's server answers %v, the library %v", i, found, wanted)
		}
	}
	return nil
}
