//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/process"
)

// server is one `xiezhi dev` that a test started. It is not safe for
// concurrent use.
type server struct {
	t        *testing.T
	url      string
	policies string // the folder that it watches and publishes
	output   string // the file that it prints to
	// tokens are by name: dev's own admin, auditor (of the platform), author,
	// service and pep (of acme), and those of members.
	tokens map[string]string
}

// files are texts by path.
type files map[string]string

// start starts a server on a copy of the shipped policies, changed as
// [policies] says, and ends it with the test.
func start(t *testing.T, more files) *server {
	t.Helper()
	return startOn(t, policies(t, more))
}

// startOn starts a server on a policy folder.
func startOn(t *testing.T, folder string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{t: t, policies: folder, output: filepath.Join(dir, "output")}
	out, err := os.Create(s.output)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	home, ready := filepath.Join(dir, "home"), filepath.Join(dir, "ready.json")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(xiezhi, "dev", "--listen", "127.0.0.1:0", "--stream-listen", "127.0.0.1:0", "--data", filepath.Join(home, "data"), "--policies", folder, "--ready-file", ready)
	cmd.Stdout = out
	p, err := process.Start(t.Context(), cmd, home, syscall.SIGTERM, s.readReady(ready))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server printed:\n%s", s.printed())
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// in returns the server for a subtest to use.
func (s *server) in(t *testing.T) *server {
	sub := *s
	sub.t = t
	return &sub
}

// readReady returns what tells that the server answers: its ready file is
// written whole.
func (s *server) readReady(file string) func(context.Context) error {
	return func(context.Context) error {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var ready struct {
			URL    string            `json:"url"`
			Tokens map[string]string `json:"tokens"`
		}
		err = json.Unmarshal(data, &ready)
		s.url, s.tokens = ready.URL, ready.Tokens
		return err
	}
}

func (s *server) printed() string {
	s.t.Helper()
	data, err := os.ReadFile(s.output)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

// save writes a policy file as an editor does: the server never sees half of
// it.
func (s *server) save(path, text string) {
	s.t.Helper()
	file := filepath.Join(s.policies, filepath.FromSlash(path))
	temporary := filepath.Join(s.t.TempDir(), "saved")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(temporary, file); err != nil {
		s.t.Fatal(err)
	}
}

// policies makes a folder of the shipped policies, with files added, replaced,
// or where they are empty, left out.
func policies(t *testing.T, more files) string {
	t.Helper()
	all := shipped(t, ".")
	maps.Copy(all, more)
	maps.DeleteFunc(all, func(_, text string) bool { return text == "" })
	return folder(t, all)
}

// minimal makes a folder of the shipped self policies, without those by which
// people are asked about changes, and the given files.
func minimal(t *testing.T, more files) string {
	t.Helper()
	all := shipped(t, "self")
	maps.DeleteFunc(all, func(path, _ string) bool { return strings.HasPrefix(path, "self/changes") })
	maps.Copy(all, more)
	return folder(t, all)
}

// shipped reads the shipped policies under a folder.
func shipped(t *testing.T, under string) files {
	t.Helper()
	all := files{}
	root := os.DirFS(filepath.Join(repository, "policies"))
	err := fs.WalkDir(root, under, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := fs.ReadFile(root, path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func folder(t *testing.T, all files) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range all {
		file := filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	patience = time.Minute           // until something that must come counts as missing
	interval = 20 * time.Millisecond // between two looks
)

// await looks again and again until done, and fails the test where that takes
// longer than the limit.
func await(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s, still not: %s", limit, what)
		}
		<-tick.C
	}
}
