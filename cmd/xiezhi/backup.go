package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

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
	cmd := &cobra.Command{
		Use:     "restore",
		Short:   "Fill an empty store from a backup",
		Example: "  xiezhi admin restore --data /var/lib/xiezhi --in xiezhi.backup",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, &flags, func(ctx context.Context, store serve.Store) (err error) {
				f, err := os.Open(filepath.Clean(in))
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				return backup.Restore(ctx, f, store)
			})
		},
	}
	flags.registerStore(cmd)
	cmd.Flags().StringVar(&in, "in", "", "`file` that backup wrote")
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
