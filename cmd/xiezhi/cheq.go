package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// approvalCase is what the server says of one.
type approvalCase struct {
	ID        string          `json:"id"`
	Tenant    string          `json:"tenant"`
	State     cheq.State      `json:"state"`
	Requester string          `json:"requester"`
	Caller    string          `json:"caller"`
	Reason    string          `json:"reason,omitempty"`
	Request   json.RawMessage `json:"request"`
	Opens     []cheq.Opening  `json:"opens"`
	OpenedAt  time.Time       `json:"opened_at"`
	DecideBy  time.Time       `json:"decide_by"`
	GrantFor  string          `json:"grant_for"`
	Extends   string          `json:"extends,omitempty"`
	Shown     string          `json:"shown"`
	Votes     []caseVote      `json:"votes"`
	SettledAt time.Time       `json:"settled_at,omitzero"`
	Cause     string          `json:"cause,omitempty"`
	GrantEnd  time.Time       `json:"grant_end,omitzero"`
	Yield     cheq.Yield      `json:"yield,omitempty"`
	ReviewBy  time.Time       `json:"review_by,omitzero"`
	Overdue   bool            `json:"overdue,omitempty"`
	Reviewed  *struct {
		By   string `json:"by"`
		Text string `json:"text"`
	} `json:"reviewed,omitempty"`
}

type caseVote struct {
	Voter  string `json:"voter"`
	Answer string `json:"answer"`
}

// caseView is a case with all that is known of it.
type caseView struct {
	approvalCase
	Title    cheq.Text         `json:"title"`
	Groups   []cheq.GroupState `json:"groups"`
	Timeline []struct {
		At     time.Time `json:"at"`
		Actor  string    `json:"actor"`
		Action string    `json:"action"`
		Detail string    `json:"detail"`
	} `json:"timeline"`
	Card cheq.Card `json:"card"`
}

func newCheq() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "cheq",
		Short: "Ask people about what is held back, and answer them",
		Example: "  xiezhi cheq list --state pending\n  xiezhi cheq approve cheq-01k9 --reason 'agreed with the network team'\n" +
			"  xiezhi cheq open -f request.json --reason 'for the launch' --for 2h",
	})
	cmd.AddCommand(newCheqList(), newCheqShow(), newCheqApprove(), newCheqReject(), newCheqRevoke(), newCheqCancel(), newCheqComment(), newCheqDelegate(),
		newCheqReview(), newCheqOpen(), newCheqExtend())
	return cmd
}

func newCheqList() *cobra.Command {
	var (
		at                       remoteFlags
		tenant, state, requester string
		limit                    int
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List cases, the newest first",
		Long: `List prints one line a case: who asks for what, which rules hold it back, for how
long a yes opens, until when it must be answered or is granted, and why it is
asked. Who may not read every case sees those that it asked for or may answer.`,
		Example: "  xiezhi cheq list --state pending\n  xiezhi cheq list --requester user:li.wei --tenant acme",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"tenant": tenant, "state": state, "requester": requester} {
				if value != "" {
					query.Set(name, value)
				}
			}
			cases, err := listAll[json.RawMessage](cmd.Context(), server, casesPath, query, limit)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, cases)
			}
			rows := [][]string{{"CASE", "STATE", "WHO", "WHAT", "RULES", "FOR", "UNTIL", "WHY"}}
			for _, text := range cases {
				var c approvalCase
				if err := decodeAnswer(text, &c); err != nil {
					return err
				}
				rows = append(rows, []string{c.ID, c.status(), c.Requester, whatOf(c.Request), rulesOf(c.Opens), spanText(c.GrantFor), timeText(c.until()), oneLine(c.Reason)})
			}
			out := newPrinter(cmd)
			out.table("", rows)
			return out.err
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", "", "`tenant` of the cases; default all that you may see")
	cmd.Flags().StringVar(&state, "state", "", "only those in this `state`: pending, approved, rejected, expired or cancelled")
	cmd.Flags().StringVar(&requester, "requester", "", "only those for this `subject`, user:li.wei or platform:user:root")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most this many; 0 for all")
	return cmd
}

const casesPath = "/api/v1/cheq"

func casePath(id string, step ...string) string {
	return strings.Join(append([]string{casesPath, url.PathEscape(id)}, step...), "/")
}

// status is the state, and of an approved case what became of its grant.
func (c *approvalCase) status() string {
	if c.Yield != cheq.NoYield {
		return string(c.State) + ", " + string(c.Yield)
	}
	return string(c.State)
}

// until is when it must be answered, or its grant ends; zero where neither is
// waited for.
func (c *approvalCase) until() time.Time {
	switch {
	case c.State == cheq.Pending:
		return c.DecideBy
	case c.Yield == cheq.Live:
		return c.GrantEnd
	default:
		return time.Time{}
	}
}

// whatOf is a request in few words.
func whatOf(request json.RawMessage) string {
	v, err := authz.Parse(request)
	if err != nil {
		return ""
	}
	req, err := authz.RequestOf(v)
	if err != nil {
		return ""
	}
	return req.Action.Name + " " + req.Resource.Type + ":" + req.Resource.ID
}

func rulesOf(opens []cheq.Opening) string {
	rules := make([]string, len(opens))
	for i, o := range opens {
		rules[i] = o.Rule
	}
	return strings.Join(rules, ",")
}

// spanText is a duration without the parts that are zero, "24h".
func spanText(text string) string {
	for _, zero := range [][2]string{{"m0s", "m"}, {"h0m", "h"}} {
		if head, ok := strings.CutSuffix(text, zero[0]); ok {
			text = head + zero[1]
		}
	}
	return text
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func newCheqShow() *cobra.Command {
	var at remoteFlags
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "show CASE",
		Short:   "Show one case: what is asked, who must still answer, what happened",
		Example: "  xiezhi cheq show cheq-01k9\n  xiezhi cheq show cheq-01k9 --wait 1m",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			query := url.Values{}
			if wait > 0 {
				query.Set("wait", wait.String())
				server.client.Timeout += wait
			}
			answer, v, err := server.readCase(cmd, args[0], query)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, answer)
			}
			out := newPrinter(cmd)
			out.view(v)
			return out.err
		},
	}
	at.register(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long for it to be settled, at most 1m")
	return cmd
}

// readCase reads a case, and refuses one whose card is not what the server
// asks about: nobody should answer what was not shown.
func (r *remote) readCase(cmd *cobra.Command, id string, query url.Values) (json.RawMessage, *caseView, error) {
	answer, err := r.asking(query).call(cmd.Context(), http.MethodGet, casePath(id), nil)
	if err != nil {
		return nil, nil, err
	}
	var v caseView
	if err := decodeAnswer(answer, &v); err != nil {
		return nil, nil, err
	}
	digest, err := v.Card.Digest()
	if err != nil {
		return nil, nil, err
	}
	if digest != v.Shown || v.Card.Case != id {
		return nil, nil, fmt.Errorf("case %s: the server asks about something else than the card that it shows: it may be newer than this program", id)
	}
	return answer, &v, nil
}
