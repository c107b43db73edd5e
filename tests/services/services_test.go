//go:build unix

package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCommandIsToldWhereTheServersAre(t *testing.T) {
	t.Setenv("XIEZHI_TEST_POSTGRES", "postgres://elsewhere/db")
	t.Setenv("XIEZHI_TEST_REDIS", "redis://elsewhere/1")
	out := filepath.Join(t.TempDir(), "out")
	code, err := run(t.Context(), []string{"sh", "-c", `echo "$XIEZHI_TEST_POSTGRES $XIEZHI_TEST_REDIS" > ` + out + `; exit 7`})
	if err != nil || code != 7 {
		t.Errorf("code %d, error %v; want the command's own code 7", code, err)
	}
	if got, want := readFile(t, out), "postgres://elsewhere/db redis://elsewhere/1\n"; got != want {
		t.Errorf("the command found %q, want %q", got, want)
	}
}

func TestCommandThatCannotStartIsAnError(t *testing.T) {
	t.Setenv("XIEZHI_TEST_POSTGRES", "postgres://elsewhere/db")
	t.Setenv("XIEZHI_TEST_REDIS", "redis://elsewhere/1")
	if code, err := run(t.Context(), []string{filepath.Join(t.TempDir(), "missing")}); err == nil || code == 0 {
		t.Errorf("code %d, error %v; want both", code, err)
	}
}

func TestEndingTheCommandEndsItsChildren(t *testing.T) {
	dir := t.TempDir()
	says, never := filepath.Join(dir, "says"), filepath.Join(dir, "never")
	for _, pipe := range []string{says, never} {
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := runCommand(ctx, []string{"sh", "-c", "exec > " + says + "; cat " + never + " & echo started; wait"}, os.Environ())
		done <- err
	}()
	pipe, err := os.Open(says)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if _, err := io.ReadFull(pipe, make([]byte, len("started"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	// The pipe ends when the shell and cat both have: each holds it open.
	if _, err := io.ReadAll(pipe); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("no error, though the command was ended")
	}
}

func TestThrowawayServersAnswerAndLeaveNothing(t *testing.T) {
	for _, s := range []service{postgres(), redis()} {
		t.Run(s.name, func(t *testing.T) {
			dir, ok := s.binaries()
			if !ok {
				t.Skipf("no %s is installed here; the server under test is elsewhere", s.name)
			}
			tmp := openTempDir(t)
			t.Setenv("TMPDIR", tmp)
			server, err := s.start(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.answers(t.Context(), server.url); err != nil {
				t.Errorf("%s: %v", server.url, err)
			}
			if err := server.stop(); err != nil {
				t.Error(err)
			}
			if s.answers(t.Context(), server.url) == nil {
				t.Error("it still answers after stop")
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("it left %v (%v)", left, err)
			}
		})
	}
}

func TestMissingServerSaysWhatHelps(t *testing.T) {
	for _, s := range []service{postgres(), redis()} {
		t.Setenv(s.variable, "")
		t.Setenv("PATH", t.TempDir())
		s.standard = nil
		s.binaries = func() (string, bool) { return "", false }
		_, err := s.find(t.Context())
		if err == nil {
			t.Fatalf("%s: found although there is none", s.name)
		}
		for _, want := range []string{s.variable, "apt-get install " + s.debian} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error lacks %q: %v", s.name, want, err)
			}
		}
	}
}

// A machine without the programs gets Debian's package, if the user may.
func TestMissingProgramsAreInstalledByRoot(t *testing.T) {
	bin := t.TempDir()
	apt := "#!/bin/sh\necho \"$@\" >> " + bin + "/asked\n"
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte(apt), 0o755); err != nil {
		t.Fatal(err)
	}
	s := redis()
	t.Setenv("PATH", bin)
	err := s.install(t.Context())
	if os.Geteuid() != 0 {
		if err == nil || !strings.Contains(err.Error(), "only root") {
			t.Errorf("error %v, want one that says that only root can", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, want := readFile(t, filepath.Join(bin, "asked")), "update -qq\ninstall -qq -y --no-install-recommends redis-server\n"; got != want {
		t.Errorf("apt-get was asked %q, want %q", got, want)
	}
}

func TestOnlyUsableServersAnswer(t *testing.T) {
	const (
		welcome = "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"
		yes     = "D\x00\x00\x00\x0e\x00\x01\x00\x00\x00\x04trueZ\x00\x00\x00\x05I"
		no      = "D\x00\x00\x00\x0f\x00\x01\x00\x00\x00\x05falseZ\x00\x00\x00\x05I"
	)
	tests := map[string]struct {
		answers func(context.Context, string) error
		says    string
		want    string // part of the error, empty for none
	}{
		"PostgreSQL that trusts":                    {postgresAnswers, welcome + yes, ""},
		"PostgreSQL that wants a password":          {postgresAnswers, "R\x00\x00\x00\x08\x00\x00\x00\x05", "wants a password"},
		"PostgreSQL without such a database":        {postgresAnswers, "E\x00\x00\x00\x09none\x00", "none"},
		"PostgreSQL where nothing can be created":   {postgresAnswers, welcome + no, "may not create"},
		"another server on PostgreSQL's port":       {postgresAnswers, "HTTP/1.1 400 Bad Request\r\n", "not a PostgreSQL server"},
		"PostgreSQL's port that hangs up":           {postgresAnswers, "", "EOF"},
		"Redis":                                     {redisAnswers, "+PONG\r\n", ""},
		"Redis that wants a password":               {redisAnswers, "-NOAUTH Authentication required.\r\n", "NOAUTH"},
		"another server on the port Redis has else": {redisAnswers, "HTTP/1.1 400 Bad Request\r\n", "400"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.answers(t.Context(), "any://user@"+serverThatSays(t, tt.says)+"/db")
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one that has %q", err, tt.want)
			}
		})
	}
}

// serverThatSays listens for one connection, answers whatever it is asked with
// text, and returns its address.
func serverThatSays(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1))
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	}()
	return l.Addr().String()
}

// openTempDir is a temporary folder that the user postgres may walk through.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "xiezhi-services-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
