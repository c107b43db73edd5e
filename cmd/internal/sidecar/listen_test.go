package sidecar

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // t.TempDir may be longer than a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "pep.sock")
}

func open(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func TestTheSidecarListensOnThisMachineOnly(t *testing.T) {
	for _, address := range []string{
		"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.org:80", "unix:relative", "unix:", "nonsense", "",
		"unix:/" + strings.Repeat("x", 100),
	} {
		if ln, err := Listen(t.Context(), address); err == nil {
			t.Errorf("%q was opened at %s", address, ln.Addr())
			_ = ln.Close()
		}
	}
	for _, address := range []string{"127.0.0.1:0", "localhost:0"} {
		if err := open(t, address).Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheSocketIsItsUsersOnly(t *testing.T) {
	path := socketPath(t)
	ln := open(t, "unix:"+path)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("mode %s", info.Mode())
	}
	if ln.Addr().String() != path {
		t.Errorf("address %s", ln.Addr())
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("beside it lies %v (%v)", left, err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after closing: %v", err)
	}
}

func TestAStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := socketPath(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("a live one: %v", err)
	}
	stale.SetUnlinkOnClose(false) // as after kill -9
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	first := open(t, "unix:"+path)
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()

	// One that took its place in the meantime is not the first one's to remove.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := open(t, "unix:"+path)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second's socket is gone: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(context.Background(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("error %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file is %q (%v)", data, err)
	}
}
