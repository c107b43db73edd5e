package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/serve"
)

func newAdmin() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "admin",
		Short: "Work on the store itself: first administrator, backup, restore",
		Long: `These commands open the database that the configuration names, so they need no
token. They run on the server's machine, beside a running server too (restore
excepted), and leave an audit record under your operating-system user.`,
		Example: "  xiezhi admin bootstrap --name ops\n  xiezhi admin backup --out xiezhi.backup",
	})
	cmd.AddCommand(newBootstrap(), newBackup(), newRestore())
	return cmd
}

func newBootstrap() *cobra.Command {
	var (
		flags       serverFlags
		name        string
		life        time.Duration
		folder      policyFolder
		restoreSelf bool
	)
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Make the first administrator, or mend a lock-out",
		Long: `Bootstrap makes the platform subject user:NAME with the role admin, and prints an
access token for it, once. Where nothing is published yet it publishes the
shipped policies. With --restore-self it also puts the shipped self policies in
force again.`,
		Example: "  xiezhi admin bootstrap --name ops --data /var/lib/xiezhi",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.load()
			if err != nil {
				return err
			}
			content, err := folder.read()
			if err != nil {
				return err
			}
			var made admin.Bootstrapped
			err = withStore(cmd, &flags, func(ctx context.Context, store serve.Store) error {
				core, err := serve.OpenCore(ctx, c, store, nil, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
				if err != nil {
					return err
				}
				made, err = admin.Bootstrap(ctx, core.PAP, name, life, content, restoreSelf)
				return err
			})
			if err != nil {
				return folder.located(err)
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, map[string]any{"subject": made.Subject, "token": made.Token, "expires_at": made.ExpiresAt, "release": made.Release})
			}
			p := newPrinter(cmd)
			p.line("%s is an administrator of the platform.", made.Subject)
			if made.Release > 0 {
				p.line("Published release %s from %s.", fmt.Sprint(made.Release), folder.String())
			}
			p.line("Token, shown once, good until %s:\n%s", made.ExpiresAt.Format(time.RFC3339), made.Token)
			return p.err
		},
	}
	flags.registerStore(cmd)
	cmd.Flags().StringVar(&name, "name", "admin", "`id` of the administrator")
	cmd.Flags().DurationVar(&life, "for", 24*time.Hour, "how long the token is good")
	cmd.Flags().StringVar(&folder.dir, "policies", "", "policy `folder` to publish first (default the policies shipped with xiezhi)")
	cmd.Flags().BoolVar(&restoreSelf, "restore-self", false, "put self/ of these policies in force again")
	return cmd
}

func withStore(cmd *cobra.Command, flags *serverFlags, work func(context.Context, serve.Store) error) error {
	c, err := flags.load()
	if err != nil {
		return err
	}
	store, err := serve.OpenStore(cmd.Context(), c, false, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	if err != nil {
		return err
	}
	return errors.Join(work(cmd.Context(), store), store.Close())
}
