package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

func newKeysRoot() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "root",
		Short: "Replace the root, in two steps",
		Long: `A root is replaced by adding another, giving the trust.json that names both to every
PEP and node, and then dropping the old one and giving them trust.json again.`,
		Example: "  xiezhi keys root add --keys ./keys --out /media/root-2.pem\n  xiezhi keys root drop p2Qk… --keys ./keys --root-key /media/root-2.pem",
	})
	cmd.AddCommand(newKeysRootAdd(), newKeysRootDrop())
	return cmd
}

func newKeysRootAdd() *cobra.Command {
	var dir, out string
	cmd := &cobra.Command{
		Use:     "add",
		Short:   "Make another root, and name it in trust.json",
		Example: "  xiezhi keys root add --keys ./keys --out /media/root-2.pem",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			added, err := trust.AddRoot(dir, out, time.Now())
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, added)
			}
			p := newPrinter(cmd)
			p.line("root %s in %s", added.ID, out)
			p.line("give to every PEP and node, before it signs: %s", filepath.Join(dir, trust.RootFile))
			return p.err
		},
	}
	keysFolder(cmd, &dir)
	cmd.Flags().StringVar(&out, "out", "", "`file` to write its private half to; it must not be there yet")
	_ = cmd.MarkFlagRequired("out") // it was defined above
	return cmd
}

func newKeysRootDrop() *cobra.Command {
	var dir, rootKey string
	cmd := &cobra.Command{
		Use:   "drop ROOT",
		Short: "Take a root out of trust.json; another signs the key set anew",
		Long: `Drop takes a root out of trust.json and has the key set signed by the one that
--root-key holds. Verifiers that know the dropped one alone take no set from then on;
the others stop believing it when they are given the new trust.json.`,
		Example: "  xiezhi keys root drop p2Qk… --keys ./keys --root-key /media/root-2.pem",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := trust.DropRoot(dir, rootKeyPath(dir, rootKey), args[0], time.Now()); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, map[string]string{"dropped": args[0]})
			}
			p := newPrinter(cmd)
			p.line("root %s is dropped", args[0])
			p.line("give to every PEP and node: %s and %s", filepath.Join(dir, trust.SetFile), filepath.Join(dir, trust.RootFile))
			return p.err
		},
	}
	keysFolder(cmd, &dir)
	rootKeyFlag(cmd, &rootKey)
	return cmd
}
