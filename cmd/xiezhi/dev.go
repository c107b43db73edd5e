package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/cmd/internal/dev"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
)

func newDev() *cobra.Command {
	var o dev.Options
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a server for writing policies: two tenants, tokens, publish on save",
		Long: `Dev runs one server on this machine, with SQLite in a folder, the tenants acme and
globex, and a token for each kind of caller. It watches the policy folder and
publishes it on every save: what changed is printed, or the faults with file and
line while the release before stays active. Such releases are marked unreviewed,
so dev binds to loopback only.`,
		Example: "  xiezhi dev\n  xiezhi dev --policies ./my-policies --listen 127.0.0.1:9090",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shipped, err := engine.Shipped()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("policies") {
				folder := policyFolder{}
				if err := folder.find(); err != nil {
					return err
				}
				o.Policies = folder.dir
			}
			o.Shipped, o.Out = shipped, cmd.OutOrStdout()
			if o.Log, err = newLogger(os.Stderr, "warn", "text"); err != nil {
				return err
			}
			tuneCollector()
			err = dev.Run(cmd.Context(), o)
			if cmd.Context().Err() != nil && errors.Is(err, cmd.Context().Err()) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8080", "loopback `address` of the API; port 0 takes a free one")
	cmd.Flags().StringVar(&o.StreamListen, "stream-listen", "127.0.0.1:8081", "loopback `address` of the stream to PEPs")
	cmd.Flags().StringVar(&o.Data, "data", ".xiezhi", "`folder` for SQLite, the spool and the examples")
	cmd.Flags().StringVar(&o.Policies, "policies", "", "policy `folder` to publish and watch (default ./policies where it exists, else the shipped ones)")
	cmd.Flags().StringVar(&o.Attributes, "static-attributes", "", "YAML `file` behind the attribute source static; see docs/operate.md")
	cmd.Flags().StringVar(&o.Channels, "channels", "", "YAML `file` of where people are asked: the keys feishu_…, matrix_… and webhooks; see docs/operate.md")
	cmd.Flags().StringVar(&o.RegoEngine, "rego-engine", "", "what evaluates Rego: compiled, topdown, or both to compare them (default compiled)")
	cmd.Flags().StringVar(&o.ReadyFile, "ready-file", "", "`file` to write, as JSON, once the server answers")
	return cmd
}
