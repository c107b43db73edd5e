package main

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// token is what the server says of one.
type token struct {
	ID        string     `json:"id"`
	Tenant    string     `json:"tenant"`
	Subject   string     `json:"subject"`
	Name      string     `json:"name,omitempty"`
	Rights    []string   `json:"rights"`
	CreatedBy string     `json:"created_by"`
	ExpiresAt time.Time  `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	Token     string     `json:"token,omitempty"`
	Revision  string     `json:"revision,omitempty"`
}

func newToken() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "token",
		Short:   "Make, list and revoke access tokens of a server",
		Example: "  xiezhi token create --tenant acme --subject service:shop --rights decide --expires 720h\n  xiezhi token list --tenant acme\n  xiezhi token revoke 01k…",
	})
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenRevoke())
	return cmd
}

func newTokenCreate() *cobra.Command {
	var (
		at                    remoteFlags
		tenant, subject, name string
		rights                []string
		expires               time.Duration
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token; its text is shown once",
		Long: `A token acts as its subject, with no more than the subject's roles allow and no more
than the rights it names. Only a hash of it is stored.`,
		Example: "  xiezhi token create --tenant acme --subject service:shop --rights decide,evaluate --expires 720h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			body := map[string]any{
				"tenant": tenant, "subject": subject, "name": name, "rights": rights,
				"expires_at": time.Now().Add(expires).UTC().Truncate(time.Second),
			}
			var made token
			if err := server.send(cmd.Context(), http.MethodPost, "/api/v1/tokens", body, &made); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, made)
			}
			p := newPrinter(cmd)
			p.line("token %s for %s, good until %s; shown once:\n%s", made.ID, made.Subject, made.ExpiresAt.Format(time.RFC3339), made.Token)
			return p.err
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", "", "`tenant` of the subject; default your own")
	cmd.Flags().StringVar(&subject, "subject", "", "`type:id` of whom it acts as")
	cmd.Flags().StringVar(&name, "name", "", "a `name` to tell it by")
	cmd.Flags().StringSliceVar(&rights, "rights", nil, "`rights` it may use, with commas; '*' for all of the subject's")
	cmd.Flags().DurationVar(&expires, "expires", 30*24*time.Hour, "how long it is good")
	_ = cmd.MarkFlagRequired("subject") // both were defined above
	_ = cmd.MarkFlagRequired("rights")
	return cmd
}

func newTokenList() *cobra.Command {
	var at remoteFlags
	var tenant string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List a tenant's tokens",
		Example: "  xiezhi token list --tenant acme",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			query := url.Values{}
			if tenant != "" {
				query.Set("tenant", tenant)
			}
			tokens, err := listAll[token](cmd.Context(), server, "/api/v1/tokens", query, 0)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, tokens)
			}
			rows := [][]string{{"ID", "SUBJECT", "STATE", "RIGHTS", "NAME"}}
			for _, t := range tokens {
				rows = append(rows, []string{t.ID, t.Subject, t.state(time.Now()), strings.Join(t.Rights, ","), t.Name})
			}
			p := newPrinter(cmd)
			p.table("", rows)
			return p.err
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", "", "`tenant` whose tokens; default your own")
	return cmd
}

func (t *token) state(now time.Time) string {
	switch {
	case t.RevokedAt != nil:
		return "revoked " + t.RevokedAt.Local().Format(time.DateTime)
	case !now.Before(t.ExpiresAt):
		return "expired " + t.ExpiresAt.Local().Format(time.DateTime)
	default:
		return "good until " + t.ExpiresAt.Local().Format(time.DateTime)
	}
}

func newTokenRevoke() *cobra.Command {
	var at remoteFlags
	cmd := &cobra.Command{
		Use:     "revoke ID",
		Short:   "Revoke a token; it holds on every node within a second",
		Example: "  xiezhi token revoke 01k4…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			var revoked token
			if err := server.send(cmd.Context(), http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(args[0]), nil, &revoked); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, revoked)
			}
			p := newPrinter(cmd)
			p.line("token %s of %s is revoked, revision %s", revoked.ID, revoked.Subject, revoked.Revision)
			return p.err
		},
	}
	at.register(cmd)
	return cmd
}
