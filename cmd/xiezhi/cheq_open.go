package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func newCheqOpen() *cobra.Command {
	var at remoteFlags
	var file, reason, breakGlass string
	var grantFor time.Duration
	var leave []string
	cmd := &cobra.Command{
		Use:   "open",
		Short: "Ask people about a request that is held back",
		Long: `Open asks those whom the approval templates name. It is refused where nothing is
held back, and where no yes could open it. Who asks the same again joins the
case that is open. In an emergency, --break-glass names the template that is
asked by; everybody is told, and somebody looks back at it.`,
		Example: "  xiezhi cheq open -f request.json --reason 'for the launch' --for 2h\n" +
			"  xiezhi cheq open -f request.json --reason 'the shop is down' --break-glass emergency",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			var in io.Reader
			name := file
			if file == "-" {
				name, in = "standard input", cmd.InOrStdin()
			}
			request, err := readLimited(name, in)
			if err != nil {
				return err
			}
			if !json.Valid(request) {
				return fmt.Errorf("%s: want a request in JSON", name)
			}
			body := map[string]any{"request": json.RawMessage(request), "reason": reason}
			if grantFor != 0 {
				body["grant_for"] = grantFor.String()
			}
			if len(leave) > 0 {
				body["open"] = leave
			}
			if breakGlass != "" {
				body["break_glass"] = breakGlass
			}
			var answer json.RawMessage
			if err := server.send(cmd.Context(), http.MethodPost, casesPath, body, &answer); err != nil {
				return err
			}
			return sayCase(cmd, answer)
		},
	}
	at.register(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "`file` that holds the request; - is standard input")
	cmd.Flags().StringVar(&reason, "reason", "", "`why`; those who answer are shown it")
	cmd.Flags().DurationVar(&grantFor, "for", 0, "how long a yes is wanted for; default as the templates say")
	cmd.Flags().StringArrayVar(&leave, "leave-open", nil, "JSON `pointer` to a member of the request that a yes leaves open, as far as the templates offer; may be repeated")
	cmd.Flags().StringVar(&breakGlass, "break-glass", "", "in an emergency: ask by this `template`")
	_ = cmd.MarkFlagRequired("file") // both were defined above
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func newCheqExtend() *cobra.Command {
	var at remoteFlags
	var reason string
	var grantFor time.Duration
	cmd := &cobra.Command{
		Use:   "extend CASE",
		Short: "Ask for more time of what a case opened",
		Long: `Extend opens a case of its own for the same request and the same rules, which
takes another yes. It must come while the grant lives.`,
		Example: "  xiezhi cheq extend cheq-01k9 --reason 'the migration takes longer' --for 2h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			body := map[string]string{"reason": reason}
			if grantFor != 0 {
				body["grant_for"] = grantFor.String()
			}
			return server.changeCase(cmd, args[0], "extend", nil, body)
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`why`; those who answer are shown it")
	cmd.Flags().DurationVar(&grantFor, "for", 0, "how long a yes is wanted for, from then on; default as the templates say")
	_ = cmd.MarkFlagRequired("reason") // was defined above
	return cmd
}
