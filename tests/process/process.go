//go:build unix

// Package process starts servers that tests and benchmarks talk to, waits until
// they answer, and ends them without leaving anything behind.
package process

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
	startTimeout = 60 * time.Second // for a server to answer
	stopTimeout  = 60 * time.Second // for a server to end before it is killed
	pollInterval = 20 * time.Millisecond
)

// Server is a process that was started and answers.
type Server struct {
	cmd    *exec.Cmd
	dir    string
	end    os.Signal
	exited chan struct{} // closed once the process has ended
}

// Start starts the command and returns once ready returns nil; it is called
// again and again. The server owns dir, a folder for all its files, which
// [Server.Stop] removes, and so does Start where it fails. Output that the
// command does not direct elsewhere goes to a file there, whose end errors
// show. The server is ended by the signal.
func Start(ctx context.Context, cmd *exec.Cmd, dir string, end os.Signal, ready func(context.Context) error) (*Server, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer log.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // a Ctrl-C for the tests must not reach the server before Stop does
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", cmd.Path, err), os.RemoveAll(dir))
	}
	s := &Server{cmd: cmd, dir: dir, end: end, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended shows in its log
		close(s.exited)
	}()
	if err := s.await(ctx, ready); err != nil {
		err = fmt.Errorf("start %s: %w\n%s", cmd.Path, err, lastLines(log.Name(), 10))
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", err)
		case <-s.exited:
			return errors.New("it ended at once")
		case <-poll.C:
		}
	}
}

// PID is the process's id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Exited is closed once the process has ended, however it did.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// End sends the server a signal and returns how it ended. Its files stay until
// [Server.Stop]. A server that does not end is killed, which is an error.
func (s *Server) End(signal os.Signal) (*os.ProcessState, error) {
	_ = s.cmd.Process.Signal(signal) // fails only where it has ended already
	select {
	case <-s.exited:
		return s.cmd.ProcessState, nil
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return s.cmd.ProcessState, fmt.Errorf("%s went on for %s after %s", s.cmd.Path, stopTimeout, signal)
	}
}

// Stop ends the server, or kills it, and removes its files.
func (s *Server) Stop() error {
	_, _ = s.End(s.end)
	return os.RemoveAll(s.dir)
}

func lastLines(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}

// FreeAddress returns an address of the loopback that nothing listens on now.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
