package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// acknowledged is what the server says of a quorum.
type acknowledged struct {
	Needed    int `json:"needed"`
	Holding   int `json:"holding"`
	Concerned int `json:"concerned"`
}

// longestWait is how long the server holds one call.
const longestWait = 60 * time.Second

func newReleaseAwait() *cobra.Command {
	var at remoteFlags
	var quorum string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "await RELEASE",
		Short: "Wait until a quorum of the connected PEPs holds a release",
		Long: `Await waits until so many of the connected PEPs have acknowledged the release, or a
newer one: all, a share such as 90%, or a number. A revision such as r42.g7 waits
for the log position too. It ends with code 1 where too few have in time, and says
who is missing.`,
		Example: "  xiezhi release await 42\n  xiezhi release await r42.g7 --quorum 90% --wait 30s",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			reached, err := await(cmd.Context(), server, args[0], quorum, wait)
			if err != nil {
				return sayMissing(cmd, err)
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, reached)
			}
			p := newPrinter(cmd)
			p.line("%s", reached.text(args[0]))
			return p.err
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&quorum, "quorum", "all", "how many: all, a share such as 90%, or a `number`")
	cmd.Flags().DurationVar(&wait, "wait", longestWait, "how long to wait")
	return cmd
}

func (a *acknowledged) text(what string) string {
	return fmt.Sprintf("%d of %s hold %s", a.Holding, plural(a.Concerned, "connected PEP"), what)
}

// await asks, in several calls where the server holds none so long.
func await(ctx context.Context, server *remote, what, quorum string, wait time.Duration) (acknowledged, error) {
	patient := *server
	client := *server.client
	client.Timeout = longestWait + remoteTimeout
	patient.client = &client
	deadline := time.Now().Add(wait)
	for {
		held := max(0, min(time.Until(deadline), longestWait)).Round(time.Millisecond)
		query := url.Values{"quorum": {quorum}, "wait": {held.String()}}
		var reached acknowledged
		err := patient.asking(query).send(ctx, http.MethodPost, "/api/v1/releases/"+url.PathEscape(what)+"/await", nil, &reached)
		var status *statusError
		if errors.As(err, &status) && status.code == http.StatusGatewayTimeout && time.Now().Before(deadline) {
			continue
		}
		return reached, err
	}
}

// sayMissing prints who an await waited for in vain.
func sayMissing(cmd *cobra.Command, err error) error {
	var status *statusError
	var problem struct {
		Detail  string `json:"detail"`
		Missing []struct {
			ID        string `json:"id"`
			Tenant    string `json:"tenant"`
			Subject   string `json:"subject"`
			Connected bool   `json:"connected"`
			Revision  string `json:"revision"`
			Rejected  string `json:"rejected"`
		} `json:"missing"`
		More int `json:"missing_more"`
	}
	if !errors.As(err, &status) || status.code != http.StatusGatewayTimeout || json.Unmarshal(status.body, &problem) != nil {
		return err
	}
	rows := [][]string{{"MISSING", "REVISION", "REFUSED"}}
	for _, m := range problem.Missing {
		name := "a PEP of the platform"
		if m.ID != "" {
			name = strings.Join([]string{m.Tenant, m.Subject, m.ID}, "/")
		}
		rows = append(rows, []string{name, m.Revision, m.Rejected})
	}
	p := &printer{w: cmd.ErrOrStderr()}
	p.line("xiezhi: %s", problem.Detail)
	if len(problem.Missing) > 0 {
		p.table("  ", rows)
	}
	if problem.More > 0 {
		p.line("  and %d more", problem.More)
	}
	if p.err != nil {
		return p.err
	}
	return exit(exitFailed)
}
