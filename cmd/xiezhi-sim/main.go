// Command xiezhi-sim runs the simulators of vendors' services beside each
// other, for trying Xiezhi out and for tests that cannot call Go. It prints
// where each listens; what people, administrators and bad luck do is posted as
// JSON to the control address, at /feishu/…, /matrix/… and /clock.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/feishu"
	"github.com/xiezhi-project/xiezhi/tests/sim/matrix"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "xiezhi-sim:", err)
		os.Exit(1)
	}
}

// addresses are where the simulators listen; empty: not started.
type addresses struct {
	Feishu  string `json:"feishu,omitempty"`
	Matrix  string `json:"matrix,omitempty"`
	Control string `json:"control,omitempty"`
}

// run serves until the context ends.
func run(ctx context.Context, args []string, out, problems io.Writer) error {
	flags := flag.NewFlagSet("xiezhi-sim", flag.ContinueOnError)
	flags.SetOutput(problems)
	var at addresses
	flags.StringVar(&at.Feishu, "feishu-listen", "127.0.0.1:0", "`address` of Feishu; empty: no Feishu")
	flags.StringVar(&at.Matrix, "matrix-listen", "127.0.0.1:0", "`address` of the Matrix homeserver; empty: none")
	flags.StringVar(&at.Control, "control-listen", "127.0.0.1:0", "`address` of the control, which asks nobody who they are: loopback only; empty: none")
	serverName := flags.String("matrix-server-name", "sim.test", "`name` of the Matrix homeserver, the end of its users' ids")
	secretFile := flags.String("matrix-shared-secret-file", "", "`file` with the shared secret for registration; without one nobody registers over HTTP")
	stopped := flags.String("stopped-clock", "", "let the clock stand at this `time` (RFC 3339) until POST /clock moves it")
	ready := flags.String("ready-file", "", "`file` that is written once all listen: their URLs in JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	clock, err := clockAt(*stopped)
	if err != nil {
		return err
	}
	secret, err := secretIn(*secretFile)
	if err != nil {
		return err
	}

	control := http.NewServeMux()
	control.Handle("POST /clock", moves(clock))
	var urls addresses
	if at.Feishu != "" {
		sim := feishu.New(feishu.Config{Clock: clock})
		defer sim.Close()
		server, err := world.Listen(at.Feishu, sim)
		if err != nil {
			return err
		}
		defer server.Close()
		urls.Feishu = server.URL()
		steer(control, "/feishu", sim.Control(), server)
	}
	if at.Matrix != "" {
		sim := matrix.New(matrix.Config{Clock: clock, ServerName: *serverName, SharedSecret: secret})
		defer sim.Close()
		server, err := world.Listen(at.Matrix, sim)
		if err != nil {
			return err
		}
		defer server.Close()
		urls.Matrix = server.URL()
		steer(control, "/matrix", sim.Control(), server)
	}
	if at.Control != "" {
		if host, _, err := net.SplitHostPort(at.Control); err != nil || !net.ParseIP(host).IsLoopback() {
			return fmt.Errorf("--control-listen %s: want an IP address of the loopback and a port", at.Control)
		}
		server, err := world.Listen(at.Control, control)
		if err != nil {
			return err
		}
		defer server.Close()
		urls.Control = server.URL()
	}
	for _, line := range [][2]string{{"feishu", urls.Feishu}, {"matrix", urls.Matrix}, {"control", urls.Control}} {
		fmt.Fprintf(out, "%s %s\n", line[0], cmp.Or(line[1], "-"))
	}
	if err := announce(*ready, urls); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func clockAt(text string) (*world.Clock, error) {
	if text == "" {
		return world.MachineClock(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, fmt.Errorf("--stopped-clock: %w", err)
	}
	return world.StoppedClock(t), nil
}

func secretIn(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	secret, err := os.ReadFile(file)
	return strings.TrimSpace(string(secret)), err
}

// moves serves the time, and moves a clock that stands still.
func moves(clock *world.Clock) http.Handler {
	return world.Verb(func(_ context.Context, in struct {
		AdvanceMS int64 `json:"advance_ms"`
	}) (map[string]time.Time, error) {
		switch {
		case in.AdvanceMS < 0:
			return nil, errors.New("time does not go back")
		case in.AdvanceMS > 0 && !clock.Stopped():
			return nil, errors.New("the machine's clock cannot be moved: start with --stopped-clock")
		case in.AdvanceMS > 0:
			clock.Advance(time.Duration(in.AdvanceMS) * time.Millisecond)
		}
		return map[string]time.Time{"now": clock.Now()}, nil
	})
}

// steer puts a simulator's control below a path, and lets its server go down
// and come back.
func steer(control *http.ServeMux, path string, verbs http.Handler, server *world.Server) {
	control.Handle(path+"/", http.StripPrefix(path, verbs))
	control.Handle("POST "+path+"/down", world.Act(func(context.Context, struct{}) error {
		server.Down()
		return nil
	}))
	control.Handle("POST "+path+"/up", world.Act(func(context.Context, struct{}) error { return server.Up() }))
}

// announce writes the ready file whole or not at all.
func announce(file string, urls addresses) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(urls)
	if err != nil {
		return err
	}
	draft, err := os.CreateTemp(filepath.Dir(file), ".ready-*")
	if err != nil {
		return err
	}
	_, err = draft.Write(text)
	if err := errors.Join(err, draft.Close()); err != nil {
		return errors.Join(err, os.Remove(draft.Name()))
	}
	return os.Rename(draft.Name(), file)
}
