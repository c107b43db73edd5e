package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/pdp"
)

func newPolicyCheck() *cobra.Command {
	var folder policyFolder
	var verbose bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compile policies and print every fault with its place",
		Long: `Check compiles a policy folder as publishing does, and prints every fault with
file and line. It runs no test case: see xiezhi policy test.

A Rego policy that works and cannot be compiled to the form that is evaluated
fastest is named, with the place that keeps it from that: it is no fault.`,
		Example: "  xiezhi policy check --policies ./policies -v",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return checkPolicies(cmd, &folder, verbose)
		},
	}
	folder.register(cmd)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list the policies")
	return cmd
}

// checked is the result of `policy check`.
type checked struct {
	OK       bool            `json:"ok"`
	Digest   *bundles.Digest `json:"digest"` // of a folder that compiles
	Policies []checkedPolicy `json:"policies"`
	// NotCompiled are Rego policies that OPA's topdown evaluates.
	NotCompiled []notCompiled `json:"not_compiled"`
	Faults      pdp.Faults    `json:"faults"`
}

type checkedPolicy struct {
	Policy   string   `json:"policy"`
	Language string   `json:"language"`
	File     string   `json:"file"`
	Title    pdp.Text `json:"title"`
	Rules    []string `json:"rules"`
}

type notCompiled struct {
	Policy string `json:"policy"`
	File   string `json:"file"` // the place that keeps it from being compiled
	Line   int    `json:"line"`
	Why    string `json:"why"`
}

func checkPolicies(cmd *cobra.Command, folder *policyFolder, verbose bool) error {
	e := engine.New()
	release, err := folder.compile(cmd.Context(), e)
	result := checked{OK: err == nil, Policies: []checkedPolicy{}, NotCompiled: []notCompiled{}, Faults: pdp.Faults{}}
	if err != nil && (!wantsJSON(cmd) || !errors.As(err, &result.Faults)) {
		return folder.located(err)
	}
	rules := 0
	if err == nil {
		digest := release.Content.Digest()
		result.Digest = &digest
		for _, p := range release.Policies() {
			row := checkedPolicy{Policy: p.ID, Language: p.Language, File: p.File, Title: p.Title, Rules: []string{}}
			for _, r := range p.Rules {
				row.Rules = append(row.Rules, r.ID)
			}
			rules += len(row.Rules)
			result.Policies = append(result.Policies, row)
		}
		for _, f := range e.RegoFallbacks(release) {
			result.NotCompiled = append(result.NotCompiled, notCompiled(f))
		}
	}
	if wantsJSON(cmd) {
		if err := printJSON(cmd, result); err != nil || result.OK {
			return err
		}
		return exit(exitFaults)
	}
	out := newPrinter(cmd)
	if verbose {
		rows := [][]string{}
		for _, p := range result.Policies {
			rows = append(rows, []string{p.Policy, p.Language, plural(len(p.Rules), "rule"), p.Title.EN})
		}
		out.table("", rows)
	}
	for _, f := range result.NotCompiled {
		out.line("%s:%d: %s is evaluated by topdown, which is slower: %s", folder.place(f.File), f.Line, f.Policy, f.Why)
	}
	out.line("%s: %s with %s compile", folder.String(), policies(len(result.Policies)), plural(rules, "rule"))
	return out.err
}

func policies(n int) string {
	if n == 1 {
		return "1 policy"
	}
	return plural(n, "policie")
}
