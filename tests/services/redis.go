//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/process"
)

// probeTimeout bounds one question whether a server answers.
const probeTimeout = 2 * time.Second

func redis() service {
	return service{
		name:     "Redis",
		variable: "XIEZHI_TEST_REDIS",
		standard: []string{"redis://127.0.0.1:6379/0"},
		debian:   "redis-server",
		help:     "install it (Debian: apt-get install redis-server; macOS: brew install redis)",
		answers:  redisAnswers,
		binaries: func() (string, bool) {
			path, err := exec.LookPath("redis-server")
			return filepath.Dir(path), err == nil
		},
		start: startRedis,
	}
}

// redisAnswers sends PING and wants PONG.
func redisAnswers(ctx context.Context, rawURL string) error {
	conn, err := dial(ctx, rawURL)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 512)).ReadString('\n')
	if err != nil {
		return err
	}
	if line = strings.TrimSpace(line); line != "+PONG" {
		return fmt.Errorf("answered %q to PING", line)
	}
	return nil
}

func startRedis(ctx context.Context, dir string) (found, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return found{}, err
	}
	home, err := os.MkdirTemp("", "xiezhi-redis-")
	if err != nil {
		return found{}, err
	}
	host, port, _ := strings.Cut(address, ":")
	cmd := exec.Command(filepath.Join(dir, "redis-server"),
		"--bind", host, "--port", port, "--dir", home, "--save", "", "--appendonly", "no")
	return launch(ctx, cmd, home, "redis://"+address+"/0", syscall.SIGTERM, redisAnswers)
}

// dial connects to the host and port of a URL; the connection ends by itself
// after probeTimeout.
func dial(ctx context.Context, rawURL string) (net.Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: probeTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(probeTimeout)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
