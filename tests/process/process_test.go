//go:build unix

package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestServerIsEndedAndItsFilesRemoved(t *testing.T) {
	dir := folder(t)
	s, err := Start(t.Context(), exec.Command("sh", "-c", "echo up > "+dir+"/up; exec sleep 600"), dir, syscall.SIGTERM, func(context.Context) error {
		_, err := os.Stat(filepath.Join(dir, "up"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(s.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there (%v)", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
}

func TestEndTellsHowTheServerEnded(t *testing.T) {
	ready := func(context.Context) error { return nil }
	s, err := Start(t.Context(), exec.Command("sleep", "600"), folder(t), syscall.SIGTERM, ready)
	if err != nil {
		t.Fatal(err)
	}
	state, err := s.End(syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %s, not by the signal", state)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "log")); err != nil {
		t.Errorf("its files went with it: %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func TestServerThatEndsAtOnceShowsItsLog(t *testing.T) {
	dir := folder(t)
	_, err := Start(t.Context(), exec.Command("sh", "-c", "echo port is haunted; exit 1"), dir, syscall.SIGTERM, func(context.Context) error {
		return errors.New("nobody there")
	})
	if err == nil || !strings.Contains(err.Error(), "port is haunted") {
		t.Errorf("error %v, want the log's last lines", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Start(ctx, exec.Command("sleep", "600"), folder(t), syscall.SIGTERM, func(context.Context) error {
		cancel()
		return errors.New("nobody there")
	})
	if err == nil || !strings.Contains(err.Error(), "nobody there") {
		t.Errorf("error %v, want what ready said last", err)
	}
}

func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "server")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
