//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/tests/process"
)

// polling is a stock OPA that gets its bundle from this process by long
// polling, the quickest way it has. The bundle is not signed, and is built
// before it counts as published.
type polling struct {
	*process.Server
	address string
	http    *http.Server
	files   []bundle.ModuleFile
	data    map[string]any
	place   []string // of the version in the data
	deltas  bool     // a new version is a delta of this one value

	mu      sync.Mutex
	version int
	body    []byte
	changed chan struct{}
}

func startPolling(ctx context.Context, binary string, content *bundles.Content) (*polling, error) {
	data, err := peerData(content)
	if err != nil {
		return nil, err
	}
	p := &polling{data: data, place: []string{"bench", "version"}}
	return p, p.start(ctx, binary, content)
}

// start serves the first version and starts the OPA that polls for it.
func (p *polling) start(ctx context.Context, binary string, content *bundles.Content) error {
	p.changed = make(chan struct{})
	for _, f := range content.Files() {
		if isModule(f.Path) {
			p.files = append(p.files, bundle.ModuleFile{URL: f.Path, Path: f.Path, Raw: f.Data})
		}
	}
	body, err := p.build(1)
	if err != nil {
		return err
	}
	p.version, p.body = 1, body
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.http = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = p.http.Serve(ln) }() // until stop
	dir, err := os.MkdirTemp("", "opa-poll-")
	if err == nil {
		p.address, err = process.FreeAddress()
	}
	if err != nil {
		return errors.Join(err, p.http.Close())
	}
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("services:\n  bench: {url: 'http://%s'}\nbundles:\n  bench:\n    service: bench\n    resource: bundle.tar.gz\n    polling: {long_polling_timeout_seconds: 30}\n", ln.Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return errors.Join(err, p.http.Close())
	}
	cmd := exec.Command(binary, "run", "--server", "--addr", p.address, "--log-level", "error", "--disable-telemetry", "--config-file", config)
	p.Server, err = process.Start(ctx, cmd, dir, syscall.SIGTERM, func(ctx context.Context) error {
		version, err := p.asked(ctx)
		if err == nil && version != 1 {
			err = errors.New("no bundle yet")
		}
		return err
	})
	if err != nil {
		return errors.Join(err, p.http.Close())
	}
	return nil
}

// build writes the bundle with the version in its data, or the delta from the
// version before.
func (p *polling) build(version int) ([]byte, error) {
	var b bundle.Bundle
	b.Manifest.Init()
	b.Manifest.Revision = strconv.Itoa(version)
	if p.deltas && version > 1 {
		b.Patch.Data = []bundle.PatchOperation{{Op: "replace", Path: "/" + strings.Join(p.place, "/"), Value: version}}
	} else {
		b.Modules, b.Data = p.files, p.data
		at := p.data
		for _, step := range p.place[:len(p.place)-1] {
			if _, there := at[step]; !there {
				at[step] = map[string]any{}
			}
			at = at[step].(map[string]any)
		}
		at[p.place[len(p.place)-1]] = version
	}
	var out bytes.Buffer
	err := bundle.NewWriter(&out).UseModulePath(true).Write(b)
	return out.Bytes(), err
}

// ServeHTTP answers a poll as OPA's protocol has it.
func (p *polling) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for {
		p.mu.Lock()
		tag, body, changed := strconv.Quote(strconv.Itoa(p.version)), p.body, p.changed
		p.mu.Unlock()
		if r.Header.Get("If-None-Match") != tag {
			w.Header().Set("ETag", tag)
			w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
			_, _ = w.Write(body) // OPA asks again where it did not get it
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-time.After(25 * time.Second):
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
}

// publish counts from when the bundle can be had until OPA answers by it.
func (p *polling) publish(ctx context.Context) (sample, error) {
	next := p.version + 1
	body, err := p.build(next)
	if err != nil {
		return sample{}, err
	}
	p.mu.Lock()
	p.version, p.body = next, body
	close(p.changed)
	p.changed = make(chan struct{})
	began := time.Now()
	p.mu.Unlock()
	for {
		version, err := p.asked(ctx)
		if err != nil {
			return sample{}, err
		}
		if version == next {
			return sample{ops: 1, wall: time.Since(began)}, nil
		}
		if time.Since(began) > time.Minute {
			return sample{}, fmt.Errorf("opa still answers by version %d, want %d", version, next)
		}
		time.Sleep(200 * time.Microsecond) // asking all the time would take the processor from it
	}
}

// asked is the version that OPA answers by, 0 before its first bundle.
func (p *polling) asked(ctx context.Context) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/v1/data/"+strings.Join(p.place, "/"), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var answer struct{ Result int }
	return answer.Result, json.NewDecoder(response.Body).Decode(&answer)
}

func (p *polling) stop() error {
	return errors.Join(p.Stop(), p.http.Close())
}
