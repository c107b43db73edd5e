//go:build unix

// Services runs a command beside a real PostgreSQL and a real Redis and tells
// it where they are:
//
//	services go test ./...
//
// Each server is, in this order: the one that XIEZHI_TEST_POSTGRES or
// XIEZHI_TEST_REDIS names; one that answers on the standard local port; a
// throw-away one started from installed binaries and removed afterwards; the
// same after installing Debian's package, where this is Debian and the user is
// root. Where none of these works it prints what would help and exits with 1:
// tests are never skipped for want of a server.
//
// The command finds both variables set. Its exit code is passed on.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run finds the services, runs the command and stops what it started. The code
// is the command's.
func run(ctx context.Context, command []string) (code int, err error) {
	if len(command) == 0 {
		return 2, errors.New("name the command to run, as in: services go test ./pap")
	}
	env := os.Environ()
	for _, s := range []service{postgres(), redis()} {
		server, findErr := s.find(ctx)
		if findErr != nil {
			return 1, findErr
		}
		defer func() { err = errors.Join(err, server.stop()) }()
		fmt.Fprintf(os.Stderr, "services: %s at %s (%s)\n", s.name, server.url, server.how)
		env = append(env, s.variable+"="+server.url)
	}
	return runCommand(ctx, command, env)
}

// runCommand runs the command in a process group of its own, so that ending it
// ends its children too.
func runCommand(ctx context.Context, command, env []string) (int, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("run %s: %w", command[0], err)
	}
	return 0, nil
}
