//go:build unix

package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/process"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

// place is where a server keeps its state. Two places may name one database.
type place struct {
	data string // folder
	keys string // folder, which all nodes of one installation share
	// Of PostgreSQL, else the state is in SQLite in data:
	url  string
	file string // that holds the URL
	name string // of the schema, and of the connections
}

func onSQLite(t *testing.T) place {
	return place{data: t.TempDir(), keys: filepath.Join(t.TempDir(), "keys")}
}

// onPostgres makes a place on a schema of its own, which goes with the test.
func onPostgres(t *testing.T) place {
	t.Helper()
	location, err := url.Parse(storetest.PostgresSchema(t))
	if err != nil {
		t.Fatal(err)
	}
	query := location.Query()
	name := query.Get("search_path")
	query.Set("application_name", name)
	location.RawQuery = query.Encode()
	p := place{t.TempDir(), filepath.Join(t.TempDir(), "keys"), location.String(), filepath.Join(t.TempDir(), "url"), name}
	write(t, p.file, p.url)
	return p
}

// another is a place for one more node on the same PostgreSQL.
func (p place) another(t *testing.T) place {
	p.data = t.TempDir()
	return p
}

func (p place) flags() []string {
	flags := []string{"--data", p.data}
	if p.file != "" {
		flags = append(flags, "--database-url-file", p.file)
	}
	return flags
}

// command is the program with arguments, in an environment without the
// variables that would configure it.
func command(arguments ...string) *exec.Cmd {
	cmd := exec.Command(xiezhi, arguments...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "XIEZHI_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	return cmd
}

// finish runs the program to its end and returns what it printed and its exit
// code.
func finish(t *testing.T, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(arguments...)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errors.String(), cmd.ProcessState.ExitCode()
}

// bootstrap makes an administrator, publishes the folder where nothing is
// published, and returns the administrator's token.
func (p place) bootstrap(t *testing.T, policies string, more ...string) string {
	t.Helper()
	arguments := append([]string{"admin", "bootstrap", "--json", "--policies", policies}, p.flags()...)
	out, failure, code := finish(t, append(arguments, more...)...)
	var made struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != 0 || made.Token == "" {
		t.Fatalf("bootstrap: exit code %d, %v\n%s%s", code, err, out, failure)
	}
	return made.Token
}

// server is one running `xiezhi serve`.
type server struct {
	*process.Server
	url     string
	printed *printed
}

// start starts a server, which ends with the test at the latest.
func start(t *testing.T, at place, more ...string) *server {
	t.Helper()
	s := &server{printed: &printed{}}
	arguments := append([]string{"serve", "--listen", "127.0.0.1:0", "--stream-listen", "127.0.0.1:0", "--keys", at.keys, "--log-format", "json"}, at.flags()...)
	cmd := command(append(arguments, more...)...)
	cmd.Stdout, cmd.Stderr = s.printed, s.printed
	folder := filepath.Join(t.TempDir(), "server")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	s.Server, err = process.Start(t.Context(), cmd, folder, syscall.SIGTERM, func(context.Context) error {
		address := s.printed.address()
		if address == "" {
			return errors.New("it has not said where it serves")
		}
		s.url = "http://" + address
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.printed)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s printed last:\n%s", s.url, s.printed.last(30))
		}
	})
	return s
}

// kill ends the server at once, as a crash would.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if _, err := s.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// stop ends the server as an operator does.
func (s *server) stop(t *testing.T) {
	t.Helper()
	state, err := s.End(syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	if state.ExitCode() != 0 {
		t.Errorf("after SIGTERM it exited with %s", state)
	}
}

// printed is what a server printed. It goes through a pipe: a limit on files
// does not bound it.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *printed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(text)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *printed) last(n int) string {
	lines := strings.SplitAfter(p.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// address is where the server says that it serves, "" before.
func (p *printed) address() string {
	for line := range strings.Lines(p.String()) {
		var said struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "serving" {
			return said.Address
		}
	}
	return ""
}

const (
	patience = time.Minute // until something that must come counts as missing
	interval = 5 * time.Millisecond
)

// await looks again and again until nothing is missing, and fails the test
// where that takes longer than the limit.
func await(t *testing.T, limit time.Duration, look func() (missing string)) {
	t.Helper()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for missing := look(); missing != ""; missing = look() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %s", limit, missing)
		}
		<-tick.C
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// policies is a folder with this package's policies, the shipped self policies,
// and more files by path.
func policies(t *testing.T, more map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for to, from := range map[string]string{"": "testdata/policies", "self": repository + "/policies/self"} {
		if err := os.CopyFS(filepath.Join(folder, to), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"changes.cedar", "changes_cases.yaml"} { // nobody is there to be asked
		if err := os.Remove(filepath.Join(folder, "self", name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range more {
		write(t, filepath.Join(folder, path), text)
	}
	return folder
}
