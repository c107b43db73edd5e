package main

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func newPolicyPush() *cobra.Command {
	var at remoteFlags
	cmd := &cobra.Command{
		Use:   "push [SELECTOR]",
		Short: "Have a server send the chosen PEPs everything again",
		Long: `Push sends the release and the whole log again to PEPs that are connected: those of
the named ids and those with all the named labels, or all that you may reach.
PEPs never need it to become right; it helps where one is to be trusted again.`,
		Example: "  xiezhi policy push zone=a\n  xiezhi policy push shop-1,shop-2",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			var chosen selector
			if text := strings.Join(args, ""); text != "" {
				if chosen, err = parseSelector(text); err != nil {
					return err
				}
			}
			var pushed struct {
				Connected int    `json:"connected"`
				Revision  string `json:"revision"`
			}
			if err := server.send(cmd.Context(), http.MethodPost, "/api/v1/policy/push", chosen, &pushed); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, pushed)
			}
			p := newPrinter(cmd)
			p.line("pushed to %s, connected now; revision %s", plural(pushed.Connected, "PEP"), pushed.Revision)
			return p.err
		},
	}
	at.register(cmd)
	return cmd
}
