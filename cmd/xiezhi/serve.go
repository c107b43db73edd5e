package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/serve"
)

func newServe() *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a server",
		Long: `Serve answers decisions over HTTP and administers policies. It publishes nothing
by itself: make the first administrator with xiezhi admin bootstrap, which also
publishes the shipped policies. Keys of the configuration are in docs/operate.md.`,
		Example: "  xiezhi serve --config /etc/xiezhi.yaml\n  xiezhi serve --data /var/lib/xiezhi --tls-cert cert.pem --tls-key key.pem --listen :8080",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.load()
			if err != nil {
				return err
			}
			log, err := newLogger(cmd.ErrOrStderr(), c.LogLevel, c.LogFormat)
			if err != nil {
				return err
			}
			return runServer(cmd.Context(), c, log)
		},
	}
	flags.registerStore(cmd)
	flags.keys.String("listen", "", "`address` of the API, host:port (default 127.0.0.1:8080)")
	flags.keys.String("stream-listen", "", "`address` of the stream to PEPs, host:port (default 127.0.0.1:8081)")
	flags.keys.String("stream-url", "", "`URL` by which PEPs reach the stream, wss://host:port (default: as it listens)")
	flags.keys.String("stream-client-ca", "", "PEM `file` of authorities whose certificates name PEPs")
	flags.keys.String("keys", "", "`folder` of the keys to sign with, the same on all nodes (default keys in --data)")
	flags.keys.String("node", "", "`name` of this node (default host name and pid)")
	flags.keys.String("tls-cert", "", "PEM `file` of the certificate chain")
	flags.keys.String("tls-key", "", "PEM `file` of its key")
	flags.keys.Bool("insecure-listen", false, "allow plain HTTP beyond loopback, behind a proxy that ends TLS")
	flags.keys.String("static-attributes", "", "YAML `file` behind the attribute source static")
	flags.keys.String("rego-engine", "", "what evaluates Rego: compiled, topdown, or both to compare them (default compiled)")
	flags.keys.String("policies", "", "git `address` to publish policies from: git+https://host/repository@branch#folder")
	flags.keys.Duration("policies-poll", 0, "how often to fetch it (default 1m)")
	flags.keys.String("policies-subject", "", "`subject` whose rights it is published with (default service:git)")
	flags.keys.String("policies-token-file", "", "`file` of a token for HTTPS, or user:token")
	flags.keys.String("policies-signers", "", "`file` of OpenPGP public keys and SSH allowed signers that commits must be signed by")
	flags.keys.String("policies-webhook-secret-file", "", "`file` of the secret that the git host signs its calls with")
	flags.keys.String("policies-status-url", "", "`URL` to report each commit's status to; {commit} in it is filled")
	flags.keys.String("policies-status-token-file", "", "`file` of the token for that URL")
	flags.keys.String("log-level", "", "debug, info, warn or error (default info)")
	flags.keys.String("log-format", "", "text or json (default text)")
	cmd.Flags().AddFlagSet(&flags.keys)
	return cmd
}

// serverFlags read the configuration. A flag of keys that is given overrides
// the key of its name, with underscores, in the file and the environment.
type serverFlags struct {
	file string
	keys pflag.FlagSet
}

// registerStore adds the flags that say where the state is.
func (f *serverFlags) registerStore(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "config", "", "configuration `file` (YAML); see docs/operate.md")
	f.keys.String("data", "", "`folder` of SQLite and the decision spool (default /var/lib/xiezhi)")
	f.keys.String("database-url", "", "PostgreSQL `URL` without a password; default SQLite in --data")
	f.keys.String("database-url-file", "", "`file` that holds a PostgreSQL URL")
	cmd.Flags().AddFlagSet(&f.keys)
}

func (f *serverFlags) load() (config.Server, error) {
	given := map[string]any{}
	f.keys.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed {
			given[strings.ReplaceAll(flag.Name, "-", "_")] = flag.Value.String()
		}
	})
	return config.Load(f.file, os.Environ(), given)
}

// collectorPercent is how much garbage may gather, in percent of what lives. A
// server's live heap is small and a decision's garbage dies at once, so rarer
// collections buy a fifth of its time for some tens of megabytes.
const collectorPercent = 400

// tuneCollector leaves an operator's own GOGC alone.
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectorPercent)
	}
}

func runServer(ctx context.Context, c config.Server, log *slog.Logger) error {
	tuneCollector()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken by another process; choose another with --listen", c.Listen)
	}
	if err != nil {
		return err
	}
	node, err := serve.Open(ctx, c, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	revision := "none: run xiezhi admin bootstrap"
	if active := node.PDP.Active(); active != nil {
		revision = active.Revision().String()
	}
	log.Info("serving", "address", listener.Addr().String(), "revision", revision, "version", version)
	return node.Serve(ctx, listener)
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log_level %q: want debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, fmt.Errorf("log_format %q: want text or json", format)
	}
}
