//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	startTimeout = 30 * time.Second // for a server to answer
	stopTimeout  = 10 * time.Second // for a server to end before it is killed
	pollInterval = 20 * time.Millisecond
)

// throwaway is a server that this process started.
type throwaway struct {
	url    string
	dir    string // all its files, removed in the end
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process has ended
	signal syscall.Signal
}

// launch starts a server and waits until it answers. It owns dir from here on.
func launch(ctx context.Context, dir, url string, cmd *exec.Cmd, end syscall.Signal, answers func(context.Context, string) error) (*throwaway, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // a Ctrl-C for the tests must not reach the server before stop does
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	server := &throwaway{url: url, dir: dir, cmd: cmd, exited: make(chan struct{}), signal: end}
	go func() {
		_ = cmd.Wait() // how it ended shows in its log
		close(server.exited)
	}()
	if err := server.ready(ctx, answers); err != nil {
		tail := logTail(log.Name())
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, tail), server.stop())
	}
	return server, nil
}

func (t *throwaway) ready(ctx context.Context, answers func(context.Context, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		err := answers(ctx, t.url)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer after %s: %w", startTimeout, err)
		case <-t.exited:
			return errors.New("it ended at once")
		case <-poll.C:
		}
	}
}

// stop ends the server and removes its files.
func (t *throwaway) stop() error {
	_ = t.cmd.Process.Signal(t.signal) // fails only where it has ended already
	select {
	case <-t.exited:
	case <-time.After(stopTimeout):
		_ = t.cmd.Process.Kill()
		<-t.exited
	}
	return os.RemoveAll(t.dir)
}

func logTail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-8):], []byte("\n")))
}

// freePort returns a port of 127.0.0.1 that nothing listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
