package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sidecar"
)

func newSidecar() *cobra.Command {
	var file string
	var keys pflag.FlagSet
	cmd := &cobra.Command{
		Use:   "pep",
		Short: "Run a sidecar: decisions in-process, for services in any language",
		Long: `Pep is the SDK behind the doors of a server: it takes signed policies, grants and
roles from the server, decides on this machine, goes on while the server is away,
and sends the records of its decisions when it is back.

It answers POST /api/v1/decide and /api/v1/decide/batch, AuthZEN at /access/v1, and
GET /status, /healthz, /readyz and /metrics. It asks nobody for a credential:
whoever reaches it may ask for anybody in its tenants. So it listens on a Unix
socket that only its own user may open, or on loopback, and nowhere else.

Every flag is also a key of the configuration file, with underscores, and an
environment variable: XIEZHI_PEP_LISTEN. XIEZHI_SERVER and XIEZHI_TOKEN_FILE hold
where nothing else names the server and the token. See docs/sdk.md.`,
		Example: `  xiezhi pep --server https://xiezhi.example:8080 --token-file /run/secrets/xiezhi \
    --trust /etc/xiezhi/trust.json --tenants acme --data /var/lib/shop/xiezhi
  xiezhi pep --listen unix:/run/shop/pep.sock --label stage=canary …
  curl --unix-socket /run/shop/pep.sock http://localhost/status`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.LoadPEP(file, os.Environ(), givenKeys(&keys))
			if err != nil {
				return err
			}
			log, err := newLogger(cmd.ErrOrStderr(), c.LogLevel, c.LogFormat)
			if err != nil {
				return err
			}
			return runSidecar(cmd.Context(), c, log)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file` (YAML)")
	keys.String("listen", "", "loopback `address` host:port, or unix:/path (default 127.0.0.1:8181)")
	keys.String("server", "", "`URL` of the server's API (default $XIEZHI_SERVER)")
	keys.String("token-file", "", "`file` that holds the access token (default $XIEZHI_TOKEN_FILE)")
	keys.String("tls-ca", "", "PEM `file` of the authorities that vouch for the server (default: the system's)")
	keys.String("tls-cert", "", "PEM `file` of the client certificate, in place of a token")
	keys.String("tls-key", "", "PEM `file` of its key")
	keys.String("trust", "", "`file` trust.json: whose signatures count")
	keys.StringSlice("tenants", nil, "`tenants` that are served, with commas; * for all that the credential may")
	keys.String("data", "", "`folder` of the last known good state and of decision records under way")
	keys.String("id", "", "`name` of this PEP among those of its credential (default host name and pid)")
	keys.StringArray("label", nil, "`key=value` for staged rollouts and pushes; may be given again")
	keys.Duration("grant-stale", 0, "how long grants count after the last heartbeat (default and most 30s)")
	keys.Duration("stale-bound", 0, "how long policies without a bound of their own decide after it (default 1h)")
	keys.Duration("remote-timeout", 0, "bound of a question to the server (default 2s)")
	keys.Int64("spool-max-bytes", 0, "most `bytes` of decision records that wait for the server (default 256 MiB)")
	keys.String("rego-engine", "", "what evaluates Rego: compiled, topdown, or both to compare them (default compiled)")
	keys.String("log-level", "", "debug, info, warn or error (default info)")
	keys.String("log-format", "", "text or json (default text)")
	cmd.Flags().AddFlagSet(&keys)
	return cmd
}

// givenKeys are the flags that were given, by their keys.
func givenKeys(flags *pflag.FlagSet) map[string]any {
	given := map[string]any{}
	flags.VisitAll(func(flag *pflag.Flag) {
		if !flag.Changed {
			return
		}
		key := strings.ReplaceAll(flag.Name, "-", "_")
		if key == "label" {
			key = "labels"
		}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			given[key] = list.GetSlice()
			return
		}
		given[key] = flag.Value.String()
	})
	return given
}

func runSidecar(ctx context.Context, c config.PEP, log *slog.Logger) error {
	tuneCollector()
	ln, err := sidecar.Listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	_, loopback := ln.Addr().(*net.TCPAddr)
	s, err := sidecar.Open(ctx, c, loopback, log)
	if err != nil {
		_ = ln.Close() // the other error is the one to tell
		return err
	}
	log.Info("serving", "address", ln.Addr().String(), "server", c.Server, "tenants", c.Tenants,
		"revision", s.Status().Revision, "version", version)
	return s.Serve(ctx, ln)
}
