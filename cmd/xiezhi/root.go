package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newRoot returns the command tree: one constructor a line, in the order of
// the help text.
func newRoot() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "xiezhi",
		Short: "Decide by policies, and publish them",
		Long: `Xiezhi answers who may do what to which resource: ALLOW, DENY or REVIEW,
with every reason, by policies in Rego, Cedar and rule documents.

` + exitCodesHelp,
		Example: "  xiezhi dev\n  xiezhi decide -f request.json\n  xiezhi policy test --policies ./policies",
		Version: version,
	})
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().Bool("json", false, "print the result as JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		newServe(),
		newSidecar(),
		newDev(),
		newDecide(),
		newPolicy(),
		newRelease(),
		newPEPs(),
		newCheq(),
		newBundle(),
		newKeys(),
		newToken(),
		newAdmin(),
	)
	return root
}

// group makes cmd a command that only holds others: it prints its help, and
// refuses the name of one that it does not hold.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%s has no command %q: see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// wantsJSON reports whether --json was given.
func wantsJSON(cmd *cobra.Command) bool {
	wants, err := cmd.Flags().GetBool("json")
	return err == nil && wants
}
