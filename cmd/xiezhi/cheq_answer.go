package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newCheqApprove() *cobra.Command {
	var yes bool
	cmd := answerCommand(&cobra.Command{
		Use:   "approve CASE",
		Short: "Show a case, and say yes to what was shown",
		Long: `Approve shows what a yes would open and asks for it once more. The answer that it
sends is about what it showed, and about nothing else: a case that is another by
then is not approved.`,
		Example: "  xiezhi cheq approve cheq-01k9 --reason 'agreed with the network team'",
	}, "approve", func(cmd *cobra.Command, v *caseView) error {
		out := &printer{w: cmd.ErrOrStderr()}
		out.card(v.Title, &v.Card)
		if out.err != nil || yes {
			return out.err
		}
		return confirm(cmd, "Approve this?")
	}, func(cmd *cobra.Command) error {
		if yes {
			return errors.New("an emergency takes a second yes, some seconds after the first: say the same once more")
		}
		return confirm(cmd, "This is an emergency: approve it, once more?")
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func newCheqReject() *cobra.Command {
	return answerCommand(&cobra.Command{
		Use:     "reject CASE",
		Short:   "Say no to a case",
		Example: "  xiezhi cheq reject cheq-01k9 --reason 'not before the audit'",
	}, "reject", func(*cobra.Command, *caseView) error { return nil }, nil)
}

// answerCommand reads a case, lets look say whether it is to be answered, and
// answers what was read. Where the server wants the same once more, again says
// whether it is meant.
func answerCommand(cmd *cobra.Command, step string, look func(*cobra.Command, *caseView) error, again func(*cobra.Command) error) *cobra.Command {
	var at remoteFlags
	var reason string
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		server, err := at.open()
		if err != nil {
			return err
		}
		_, v, err := server.readCase(cmd, args[0], nil)
		if err != nil {
			return err
		}
		if err := look(cmd, v); err != nil {
			return err
		}
		shown, err := v.Card.Digest()
		if err != nil {
			return err
		}
		for {
			err := server.changeCase(cmd, args[0], step, nil, map[string]string{"shown": shown, "reason": reason})
			if again == nil || !wantsConfirmation(err) {
				return err
			}
			if err := again(cmd); err != nil {
				return err
			}
		}
	}
	at.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`why`; the case keeps it")
	return cmd
}

// wantsConfirmation reports whether a yes was noted, and must be said again.
func wantsConfirmation(err error) bool {
	var status *statusError
	var problem struct {
		Code string `json:"code"`
	}
	return errors.As(err, &status) && json.Unmarshal(status.body, &problem) == nil && problem.Code == "confirm"
}

// errNotConfirmed ends a command that a person did not want.
var errNotConfirmed = errors.New("nothing was done")

// confirm asks on the terminal. Only y or yes goes on.
func confirm(cmd *cobra.Command, question string) error {
	in := cmd.InOrStdin()
	if f, isFile := in.(*os.File); isFile && !isTerminal(f) {
		return errors.New("this is asked for on a terminal; where nobody looks, say --yes")
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	answer, err := readLine(in)
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	default:
		return errNotConfirmed
	}
}

// readLine takes one line and leaves what follows.
func readLine(in io.Reader) (string, error) {
	var line []byte
	next := make([]byte, 1)
	for {
		n, err := in.Read(next)
		switch {
		case n == 1 && next[0] == '\n', errors.Is(err, io.EOF):
			return string(line), nil
		case n == 1:
			line = append(line, next[0])
		}
		if err != nil {
			return "", fmt.Errorf("read the answer: %w", err)
		}
	}
}

// changeCase does something to a case, and prints what it is then.
func (r *remote) changeCase(cmd *cobra.Command, id, step string, query url.Values, body any) error {
	var answer json.RawMessage
	if err := r.asking(query).send(cmd.Context(), http.MethodPost, casePath(id, step), body, &answer); err != nil {
		return err
	}
	return sayCase(cmd, answer)
}

// sayCase prints a case in one line, and which PEPs may count a revoked grant
// yet.
func sayCase(cmd *cobra.Command, answer json.RawMessage) error {
	if wantsJSON(cmd) {
		return printJSON(cmd, answer)
	}
	var c struct {
		approvalCase
		Unacknowledged *[]unacknowledged `json:"unacknowledged"`
		More           int               `json:"unacknowledged_more"`
	}
	if err := decodeAnswer(answer, &c); err != nil {
		return err
	}
	out := newPrinter(cmd)
	until := ""
	if at := timeText(c.until()); at != "" {
		until = " until " + at
	}
	out.line("%s: %s%s", c.ID, c.status(), until)
	if c.Unacknowledged != nil && len(*c.Unacknowledged) > 0 {
		rows := [][]string{{"MAY COUNT IT YET", "REVISION", "UNTIL"}}
		for _, m := range *c.Unacknowledged {
			rows = append(rows, []string{m.name(), m.Revision, timeText(m.HonoursUntil)})
		}
		out.table("  ", rows)
	}
	if c.More > 0 {
		out.line("  and %d more", c.More)
	}
	return out.err
}

// unacknowledged is a PEP that has not heard of a revoke.
type unacknowledged struct {
	ID           string    `json:"id"`
	Tenant       string    `json:"tenant"`
	Subject      string    `json:"subject"`
	Revision     string    `json:"revision"`
	HonoursUntil time.Time `json:"honours_until"`
}

func (m *unacknowledged) name() string {
	if m.ID == "" {
		return "a PEP of the platform"
	}
	return strings.Join([]string{m.Tenant, m.Subject, m.ID}, "/")
}

func newCheqRevoke() *cobra.Command {
	var wait time.Duration
	cmd := reasonCommand(&cobra.Command{
		Use:   "revoke CASE",
		Short: "End the grant that a case minted, and say which PEPs may count it yet",
	}, "revoke", func() url.Values { return url.Values{"wait": {wait.String()}} })
	cmd.Flags().DurationVar(&wait, "wait", time.Second, "wait so long for PEPs to hear of it, at most 30s")
	return cmd
}

func newCheqCancel() *cobra.Command {
	return reasonCommand(&cobra.Command{
		Use:   "cancel CASE",
		Short: "Take a case back that you asked for",
	}, "cancel", func() url.Values { return nil })
}

// reasonCommand does to a case what takes a reason and no more.
func reasonCommand(cmd *cobra.Command, step string, query func() url.Values) *cobra.Command {
	var at remoteFlags
	var reason string
	cmd.Example = "  xiezhi cheq " + step + " cheq-01k9 --reason 'no longer needed'"
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		server, err := at.open()
		if err != nil {
			return err
		}
		return server.changeCase(cmd, args[0], step, query(), map[string]string{"reason": reason})
	}
	at.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`why`; the case keeps it")
	return cmd
}

func newCheqComment() *cobra.Command {
	return textCommand(&cobra.Command{
		Use:     "comment CASE TEXT",
		Short:   "Write a line into a case's timeline",
		Example: "  xiezhi cheq comment cheq-01k9 'which customers are affected?'",
	}, "comment")
}

func newCheqDelegate() *cobra.Command {
	var at remoteFlags
	var reason string
	cmd := &cobra.Command{
		Use:     "delegate CASE WHO",
		Short:   "Hand your place in a case to somebody else; there is no taking back",
		Example: "  xiezhi cheq delegate cheq-01k9 user:wang --reason 'on leave'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			return server.changeCase(cmd, args[0], "delegate", nil, map[string]string{"to": args[1], "reason": reason})
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`why`; the case keeps it")
	return cmd
}

func newCheqReview() *cobra.Command {
	return textCommand(&cobra.Command{
		Use:     "review CASE TEXT",
		Short:   "Look back at an emergency that you neither asked for nor approved",
		Example: "  xiezhi cheq review cheq-01k9 'the outage was real; the rule is too strict for restarts'",
	}, "review")
}

// textCommand says something about a case.
func textCommand(cmd *cobra.Command, step string) *cobra.Command {
	var at remoteFlags
	cmd.Args = cobra.ExactArgs(2)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		server, err := at.open()
		if err != nil {
			return err
		}
		return server.changeCase(cmd, args[0], step, nil, map[string]string{"text": args[1]})
	}
	at.register(cmd)
	return cmd
}
