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
	"syscall"

	"github.com/xiezhi-project/xiezhi/bundles"
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
	policies, channels, readyFile := filepath.Join(dir, "policies"), filepath.Join(dir, "channels.yaml"), filepath.Join(dir, "ready.json")
	address, err := process.FreeAddress()
	if err == nil {
		err = writeFiles(policies, content.Files())
	}
	if err == nil { // one person asks for all that is decided here
		err = os.WriteFile(channels, []byte("cases_pending: 100000\ncases_hourly: 100000\n"), 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	var ready struct {
		URL    string
		Tokens struct{ Admin, PEP string }
	}
	x = &xiezhi{server: server{address: address}}
	cmd := exec.Command(binary, "dev", "--listen", address, "--stream-listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--policies", policies, "--channels", channels, "--ready-file", readyFile)
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
