//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/xiezhi-project/xiezhi/tests/process"
)

// service is one kind of server that tests need.
type service struct {
	name     string   // for people
	variable string   // names the server's URL, for the caller and for the command
	standard []string // URLs of servers on the standard local port, in order of preference
	debian   string   // Debian's package
	help     string   // what to do where nothing works

	// answers returns nil where a server that tests can use is at the URL.
	answers func(ctx context.Context, url string) error
	// binaries finds installed programs; ok is false where they are missing.
	binaries func() (dir string, ok bool)
	// start starts a throw-away server of the programs in dir.
	start func(ctx context.Context, dir string) (found, error)
}

// found is a server that answers.
type found struct {
	url  string
	how  string
	stop func() error
}

func (s service) find(ctx context.Context) (found, error) {
	leave := func() error { return nil }
	if url := os.Getenv(s.variable); url != "" {
		return found{url, s.variable, leave}, nil
	}
	for _, url := range s.standard {
		if s.answers(ctx, url) == nil {
			return found{url, "answers on the standard port", leave}, nil
		}
	}
	how := "throw-away, from the installed programs"
	dir, ok := s.binaries()
	if !ok {
		if err := s.install(ctx); err != nil {
			return found{}, fmt.Errorf("no %s: %w\n%s, or set %s", s.name, err, s.help, s.variable)
		}
		how = "throw-away, from Debian's package " + s.debian
		if dir, ok = s.binaries(); !ok {
			return found{}, fmt.Errorf("no %s, even after installing %s\n%s, or set %s", s.name, s.debian, s.help, s.variable)
		}
	}
	server, err := s.start(ctx, dir)
	if err != nil {
		return found{}, fmt.Errorf("start a throw-away %s of %s: %w\n%s, or set %s", s.name, dir, err, s.help, s.variable)
	}
	server.how = how
	return server, nil
}

// launch starts a throw-away server, all of whose files are in dir.
func launch(ctx context.Context, cmd *exec.Cmd, dir, url string, end syscall.Signal, answers func(context.Context, string) error) (found, error) {
	server, err := process.Start(ctx, cmd, dir, end, func(ctx context.Context) error { return answers(ctx, url) })
	if err != nil {
		return found{}, err
	}
	return found{url: url, stop: server.Stop}, nil
}

// install installs Debian's package, where that is possible.
func (s service) install(ctx context.Context) error {
	apt, err := exec.LookPath("apt-get")
	switch {
	case err != nil:
		return errors.New("nothing answers, no program is installed, and there is no apt-get")
	case os.Geteuid() != 0:
		return errors.New("nothing answers, no program is installed, and only root can install one")
	}
	for _, args := range [][]string{
		{"update", "-qq"},
		{"install", "-qq", "-y", "--no-install-recommends", s.debian},
	} {
		cmd := exec.CommandContext(ctx, apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}
