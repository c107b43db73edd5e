package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func newDecide() *cobra.Command {
	var q localQuestion
	var server remoteFlags
	var lang string
	cmd := &cobra.Command{
		Use:   "decide -f request.json",
		Short: "Decide one request, by a policy folder or by a server",
		Long: `Decide answers one request, the JSON of POST /api/v1/decide, and ends with
0 ALLOW, 2 DENY or 3 REVIEW; 1 means that there is no answer.

It decides by a policy folder, with the attributes that you state in place of
trusted sources, and records nothing. With --server it asks a server, as the
owner of the token; $XIEZHI_SERVER and $XIEZHI_TOKEN_FILE stand for the flags.`,
		Example: `  xiezhi decide -f request.json --policies ./policies --roles engineer
  xiezhi decide -f - --server https://xiezhi.example --token-file ~/.xiezhi/token --json < request.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			decision, err := decide(cmd, &q, &server)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				err = printJSON(cmd, decision)
			} else {
				out := newPrinter(cmd)
				printDecision(out, decision, lang)
				err = out.err
			}
			if err != nil {
				return err
			}
			return exitOf(decision.Effect)
		},
	}
	q.register(cmd)
	server.register(cmd)
	langFlag(cmd, &lang)
	for _, local := range localFlags {
		cmd.MarkFlagsMutuallyExclusive("server", local)
	}
	return cmd
}

func langFlag(cmd *cobra.Command, lang *string) {
	cmd.Flags().StringVar(lang, "lang", "en", "language of the reasons: en or zh")
}

func decide(cmd *cobra.Command, q *localQuestion, server *remoteFlags) (*authz.Decision, error) {
	if server.wanted(cmd) {
		body, err := q.readRequest(cmd.InOrStdin())
		if err != nil {
			return nil, err
		}
		r, err := server.open()
		if err != nil {
			return nil, err
		}
		return r.decide(cmd.Context(), body)
	}
	decision, _, err := q.ask(cmd, false)
	return decision, err
}

// localQuestion is a request and all that stands in for a server.
type localQuestion struct {
	folder     policyFolder
	file       string
	attributes string
	roles      []string
	now        string
}

// localFlags have no meaning for a server.
var localFlags = []string{"policies", "attributes", "roles", "now"}

func (q *localQuestion) register(cmd *cobra.Command) {
	q.folder.register(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&q.file, "file", "f", "", "the request as JSON, a `file`; - reads standard input (required)")
	flags.StringVar(&q.attributes, "attributes", "", "YAML `file` of what trusted sources answer: \"subject.roles: [engineer]\"; null does not answer")
	flags.StringSliceVar(&q.roles, "roles", nil, "the subject's roles, short for the attribute subject.roles")
	flags.StringVar(&q.now, "now", "", "the decision's clock, as 2026-06-01T08:00:00Z (default the present)")
	_ = cmd.MarkFlagRequired("file") // the flag is there
}

// ask answers the request by the policy folder. With explain it also says what
// every rule did.
func (q *localQuestion) ask(cmd *cobra.Command, explain bool) (*authz.Decision, *pdp.Explanation, error) {
	clock := time.Now
	if q.now != "" {
		now, err := time.Parse(time.RFC3339, q.now)
		if err != nil {
			return nil, nil, fmt.Errorf("--now %s: want a time such as 2026-06-01T08:00:00Z", q.now)
		}
		clock = func() time.Time { return now }
	}
	body, err := q.readRequest(cmd.InOrStdin())
	if err != nil {
		return nil, nil, err
	}
	var req authz.Request
	if err := req.UnmarshalJSON(body); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", q.file, err)
	}
	release, err := q.folder.compile(cmd.Context(), engine.New())
	if err != nil {
		return nil, nil, q.folder.located(err)
	}
	answers, err := q.answers(release.Attributes())
	if err != nil {
		return nil, nil, err
	}
	return evaluate(cmd.Context(), release, answers, clock, req, explain)
}

func evaluate(ctx context.Context, release *pdp.Release, answers policytest.Answers, clock func() time.Time, req authz.Request, explain bool) (*authz.Decision, *pdp.Explanation, error) {
	p := pdp.New(pdp.Config{Sources: answers.Sources(release.Attributes()), Budget: localBudget, Now: clock, NewID: rand.Text})
	snapshot := &pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}, Directory: answers}
	decision, explanation, err := p.Evaluate(ctx, snapshot, req, explain)
	if err != nil {
		return nil, nil, fmt.Errorf("decide: %w", err)
	}
	return &decision, explanation, nil
}

// localBudget is wide: the first decision of a process is the slow one.
const localBudget = 10 * time.Second

// answers are what --attributes and --roles say.
func (q *localQuestion) answers(schema *pdp.AttributeSchema) (policytest.Answers, error) {
	answers := policytest.Answers{}
	if q.attributes != "" {
		data, err := readLimited(q.attributes, nil)
		if err != nil {
			return nil, err
		}
		if answers, err = policytest.ReadAnswers(q.attributes, data, schema); err != nil {
			return nil, errors.New("read attributes: " + err.Error()) // no faults of the policies
		}
	}
	if q.roles == nil {
		return answers, nil
	}
	const roles = "subject.roles"
	if _, known := schema.Get(roles); !known {
		return nil, fmt.Errorf("--roles: %s of these policies does not declare %s", pdp.AttributesFile, roles)
	}
	if _, given := answers[roles]; given {
		return nil, fmt.Errorf("--roles: %s states %s too: leave one out", q.attributes, roles)
	}
	answers[roles] = authz.Strings(q.roles...)
	return answers, nil
}

// readRequest reads the request file. Its errors name it.
func (q *localQuestion) readRequest(stdin io.Reader) ([]byte, error) {
	if q.file == "-" {
		q.file = "standard input"
		return readLimited(q.file, stdin)
	}
	return readLimited(q.file, nil)
}

// maxInput bounds a file that a command reads, in bytes: what a server takes.
const maxInput = 1 << 20

// readLimited reads from r, or the named file where r is nil.
func readLimited(name string, r io.Reader) ([]byte, error) {
	if r == nil {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, unwrapPath(err))
		}
		defer func() { _ = f.Close() }() // it was only read
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, unwrapPath(err))
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("%s: longer than %d bytes", name, maxInput)
	}
	if strings.TrimSpace(string(data)) == "" {
		return nil, fmt.Errorf("%s: empty", name)
	}
	return data, nil
}

// unwrapPath takes the operation and the path off an error that already says
// both.
func unwrapPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
