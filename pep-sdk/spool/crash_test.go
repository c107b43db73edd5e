package spool

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool/dirlock"
)

// part names the part that a child process of a test plays, in a folder.
const part, partDir = "XIEZHI_SPOOL_PART", "XIEZHI_SPOOL_DIR"

func TestMain(m *testing.M) {
	play := map[string]func(dir string) error{"": nil, "writer": writeUntilKilled, "limited": writeUnderALimit}[os.Getenv(part)]
	if play == nil {
		os.Exit(m.Run())
	}
	if err := play(os.Getenv(partDir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child starts this test's binary in a part and returns its output.
func child(t *testing.T, name, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = append(os.Environ(), part+"="+name, partDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// ledger is a sink on disk that knows records by id, as the server's audit
// does: one id a line, and what a kill cut off does not count.
type ledger struct {
	file *os.File
	has  map[string]bool
}

func openLedger(path string) (*ledger, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l := &ledger{has: map[string]bool{}}
	whole := bytes.LastIndexByte(data, '\n') + 1
	for id := range strings.Lines(string(data[:whole])) {
		if id = strings.TrimSuffix(id, "\n"); l.has[id] {
			return nil, fmt.Errorf("%s is there twice", id)
		}
		l.has[id] = true
	}
	if l.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := l.file.Truncate(int64(whole)); err != nil {
		return nil, err
	}
	_, err = l.file.Seek(0, io.SeekEnd)
	return l, err
}

func (l *ledger) take(_ context.Context, records []authz.AuditRecord) error {
	var lines strings.Builder
	for _, r := range records {
		if !l.has[r.ID] {
			l.has[r.ID] = true
			lines.WriteString(r.ID + "\n")
		}
	}
	_, err := l.file.WriteString(lines.String())
	return err
}

// writeUntilKilled appends strict records from many callers, ships them to a
// ledger, and says each id once it is answered.
func writeUntilKilled(dir string) error {
	ctx := context.Background()
	store, err := openLedger(filepath.Join(dir, "ledger"))
	if err != nil {
		return err
	}
	s, err := Open(filepath.Join(dir, "spool"), Options{SegmentBytes: 1 << 16, ShipInterval: 1}, store.take)
	if err != nil {
		return err
	}
	var saying sync.Mutex
	var writing sync.WaitGroup
	for caller := range 16 {
		writing.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%02d-%08d", os.Getpid(), caller, i)
				if err := s.Append(ctx, record(id), true); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				saying.Lock()
				fmt.Println(id)
				saying.Unlock()
			}
		})
	}
	writing.Wait()
	return errors.New("the writers ended")
}

func TestKilledProcessLosesNoStrictRecord(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for range 3 { // each start finds what the one before left
		cmd, out := child(t, "writer", dir)
		said := 0
		for out.Scan() {
			acknowledged[out.Text()] = true
			if said++; said == 1000 {
				if err := cmd.Process.Kill(); err != nil { // SIGKILL, in the middle of everything
					t.Fatal(err)
				}
			}
		}
		cmd.Wait() // says "killed"
		if said < 1000 {
			t.Fatalf("the child said %d ids", said)
		}
	}
	store, err := openLedger(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(filepath.Join(dir, "spool"), Options{}, store.take)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id := range acknowledged {
		if !store.has[id] {
			t.Errorf("%s was answered and is lost", id)
		}
	}
}

// writeUnderALimit meets a real disk error: the kernel refuses to let files
// grow, until the limit is lifted.
func writeUnderALimit(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	s, err := Open(dir, Options{}, never)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := s.Append(ctx, record("before"), true); err != nil {
		return err
	}
	small := syscall.Rlimit{Cur: uint64(headerSize) + uint64(frameBytes("before")) + 20, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	for range 3 {
		err := s.Append(ctx, &authz.AuditRecord{ID: "refused", Body: authz.StringValue(strings.Repeat("x", 1000))}, true)
		if !errors.Is(err, ErrUnavailable) {
			return fmt.Errorf("under the limit: %v", err)
		}
	}
	if err := s.Append(ctx, &authz.AuditRecord{ID: "lost", Body: authz.StringValue(strings.Repeat("x", 1000))}, false); err != nil {
		return err
	}
	s.Flush(canceled()) // begins the sync of the buffered one
	if err := s.Append(ctx, &authz.AuditRecord{ID: "refused", Body: authz.StringValue(strings.Repeat("x", 1000))}, true); !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("under the limit: %v", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := s.Append(ctx, record("after"), true); err != nil {
		return err
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s.Stats())
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestRealDiskErrorRefusesStrictAndTheSpoolRecovers(t *testing.T) {
	dir := t.TempDir()
	cmd, out := child(t, "limited", dir)
	var stats Stats
	for out.Scan() {
		if err := json.Unmarshal(out.Bytes(), &stats); err != nil {
			t.Fatalf("%s: %v", out.Text(), err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	want(t, "synced, refused, lost", []uint64{stats.Synced, stats.Refused, stats.Lost}, []uint64{2, 4, 1})
	settled(t, stats)
	var sink memory
	s, err := Open(dir, Options{}, sink.take)
	if err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	want(t, "survivors", sink.taken(), []string{"before", "after"})
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{}, never)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	if _, err := Open(dir, Options{}, never); !errors.Is(err, dirlock.ErrHeld) {
		t.Errorf("got %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "spool.lock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
