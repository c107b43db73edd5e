package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func newPolicyEval() *cobra.Command {
	var q localQuestion
	var explain bool
	var lang string
	cmd := &cobra.Command{
		Use:   "eval -f request.json",
		Short: "Decide one request by a policy folder, and say what every rule did",
		Long: `Eval decides like xiezhi decide, and explains: every rule of every policy, matched
or not, and why. It records nothing. It ends with 0 ALLOW, 2 DENY or 3 REVIEW.`,
		Example: "  xiezhi policy eval -f request.json --attributes attributes.yaml\n  xiezhi policy eval -f request.json --roles dba --now 2026-06-01T23:00:00Z --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			decision, explanation, err := q.ask(cmd, explain)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				err = printExplainedJSON(cmd, decision, explanation)
			} else {
				out := newPrinter(cmd)
				printDecision(out, decision, lang)
				if explanation != nil {
					printExplanation(out, explanation)
				}
				err = out.err
			}
			if err != nil {
				return err
			}
			return exitOf(decision.Effect)
		},
	}
	q.register(cmd)
	langFlag(cmd, &lang)
	cmd.Flags().BoolVar(&explain, "explain", true, "say what every rule did")
	return cmd
}

// printExplainedJSON prints a decision as the API answers it, with one member
// more.
func printExplainedJSON(cmd *cobra.Command, d *authz.Decision, e *pdp.Explanation) error {
	if e == nil {
		return printJSON(cmd, d)
	}
	decision, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write the decision: %w", err)
	}
	explanation, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write the explanation: %w", err)
	}
	decision = bytes.TrimSuffix(decision, []byte("}"))
	return printJSON(cmd, json.RawMessage(fmt.Appendf(decision, `,"explanation":%s}`, explanation)))
}

func printExplanation(out *printer, e *pdp.Explanation) {
	out.line("")
	out.line("request digest %s", e.RequestDigest)
	for i := range e.Policies {
		p := &e.Policies[i]
		switch {
		case !p.Applicable:
			out.line("%s (%s) does not apply: %s", p.Policy, p.Language, p.Why)
			continue
		case p.Why != "":
			out.line("%s (%s) failed: %s", p.Policy, p.Language, p.Why)
		default:
			out.line("%s (%s)", p.Policy, p.Language)
		}
		var rows [][]string
		for _, r := range p.Rules {
			matched := "no"
			if r.Matched {
				matched = "yes"
			}
			rows = append(rows, []string{matched, r.Rule, r.Why})
		}
		out.table("  ", rows)
	}
}
