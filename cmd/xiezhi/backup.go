package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/backup"
	"github.com/xiezhi-project/xiezhi/cmd/internal/serve"
)

func newBackup() *cobra.Command {
	var flags serverFlags
	var out string
	cmd := &cobra.Command{
		Use:     "backup",
		Short:   "Write everything the store holds into one file",
		Example: "  xiezhi admin backup --out xiezhi.backup",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, &flags, func(ctx context.Context, store serve.Store) error {
				return writeWhole(out, func(w io.Writer) error { return backup.Backup(ctx, store, w, time.Now()) })
			})
		},
	}
	flags.registerStore(cmd)
	cmd.Flags().StringVar(&out, "out", "", "`file` to write; it must not exist")
	_ = cmd.MarkFlagRequired("out") // the flag was defined on the line before
	return cmd
}

func newRestore() *cobra.Command {
	var flags serverFlags
	var in string
	var above uint64
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Fill an empty store from a backup",
		Long: `Fill an empty store from a backup.

PEPs take no release below the one they hold. Where releases were published after
the backup, --release-above gives the newest release of the backup a number above
the highest that any PEP may hold; else PEPs become stale and end in refusing.`,
		Example: "  xiezhi admin restore --data /var/lib/xiezhi --in xiezhi.backup --release-above 57",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.load()
			if err != nil {
				return err
			}
			return withStore(cmd, &flags, func(ctx context.Context, store serve.Store) (err error) {
				f, err := os.Open(filepath.Clean(in))
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				if err := backup.Restore(ctx, f, store); err != nil || above == 0 {
					return err
				}
				core, err := serve.OpenCore(ctx, c, store, nil, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
				if err != nil {
					return err
				}
				revision, err := core.PAP.RaiseReleases(ctx, admin.LocalActor(), above)
				if err != nil {
					return fmt.Errorf("the backup is restored, its newest release is not above %d: %w", above, err)
				}
				p := newPrinter(cmd)
				p.line("The newest release is %d.", revision.Release)
				return p.err
			})
		},
	}
	flags.registerStore(cmd)
	cmd.Flags().StringVar(&in, "in", "", "`file` that backup wrote")
	cmd.Flags().Uint64Var(&above, "release-above", 0, "the highest release `number` that any PEP may hold")
	_ = cmd.MarkFlagRequired("in") // the flag was defined on the line before
	return cmd
}

// writeWhole writes a new file that only its owner can read, synced, or none.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
