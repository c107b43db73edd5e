package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
)

func newPolicyTest() *cobra.Command {
	var folder policyFolder
	var noCoverage bool
	cmd := &cobra.Command{
		Use:   "test [place...]",
		Short: "Run test cases and Rego unit tests, and find what none reaches",
		Long: `Test runs every *_cases.yaml and *_test.rego, prints what does not hold, and how
many cases each rule spoke in. It fails where a case fails, and where no case
reaches a rule, a Rego body or else, or one outcome of a Cedar or CEL condition.

A place is a policy, a file or a folder: it limits the run and the coverage.`,
		Example: "  xiezhi policy test\n  xiezhi policy test platform/network tenants/acme\n  xiezhi policy test --no-coverage --json",
		RunE: func(cmd *cobra.Command, places []string) error {
			return testPolicies(cmd, &folder, places, noCoverage)
		},
	}
	folder.register(cmd)
	cmd.Flags().BoolVar(&noCoverage, "no-coverage", false, "only run the cases")
	return cmd
}

func testPolicies(cmd *cobra.Command, folder *policyFolder, places []string, noCoverage bool) error {
	e := engine.New()
	var result *policytest.Report
	var faults pdp.Faults
	switch release, err := folder.compile(cmd.Context(), e); {
	case err == nil:
		result = e.Test(cmd.Context(), release, policytest.Options{Only: folder.inside(places), NoCoverage: noCoverage})
	case wantsJSON(cmd) && errors.As(err, &faults):
		result = policytest.NewReport()
		result.Faults = faults
	default:
		return folder.located(err)
	}
	if len(places) > 0 && result.Ran() == 0 && len(result.Coverage) == 0 && len(result.Faults) == 0 {
		return fmt.Errorf("%v: there are no policies and no test cases in %s: name a policy, a file or a folder of it", places, folder)
	}
	print := printReport
	if wantsJSON(cmd) {
		print = func(cmd *cobra.Command, _ *policyFolder, r *policytest.Report) error { return printJSON(cmd, r) }
	}
	if err := print(cmd, folder, result); err != nil || result.OK() && len(result.Uncovered) == 0 {
		return err
	}
	return exit(exitFaults)
}

func printReport(cmd *cobra.Command, folder *policyFolder, r *policytest.Report) error {
	out := newPrinter(cmd)
	for _, fault := range r.Faults {
		fault.File = folder.place(fault.File)
		out.line("%s %s", out.paint("FAIL"), fault.String())
	}
	for i := range r.Failed {
		printFailure(out, folder, &r.Failed[i])
	}
	if len(r.Coverage) > 0 {
		if !r.OK() {
			out.line("")
		}
		rows := [][]string{{"RULE", "CASES", "BRANCHES"}}
		for _, c := range r.Coverage {
			rows = append(rows, coverageRow(&c))
		}
		out.table("", rows)
		out.line("")
	}
	for _, u := range r.Uncovered {
		u.File = folder.place(u.File)
		out.line("%s %s", out.paint("FAIL"), u.String())
	}
	summary := fmt.Sprintf("%d passed, %d failed", r.Passed, len(r.Failed)+len(r.Faults))
	if r.Skipped > 0 {
		summary += fmt.Sprintf(", %d skipped", r.Skipped)
	}
	if len(r.Uncovered) > 0 {
		summary += fmt.Sprintf(", %d not covered", len(r.Uncovered))
	}
	verdict := "ok"
	if !r.OK() || len(r.Uncovered) > 0 {
		verdict = "FAIL"
	}
	out.line("%s %s: %s", out.paint(verdict), folder.String(), summary)
	return out.err
}

func printFailure(out *printer, folder *policyFolder, f *policytest.Failure) {
	out.line("%s %s:%d: %s", out.paint("FAIL"), folder.place(f.File), f.Line, f.Name)
	for _, difference := range f.Differences {
		out.line("    %s", difference)
	}
	var rows [][]string
	for i := range f.Reasons {
		rows = append(rows, reasonRow(&f.Reasons[i], f.Reasons[i].Message))
	}
	if len(rows) > 0 {
		out.line("    all reasons:")
		out.table("      ", rows)
	}
}

func coverageRow(c *policytest.RuleCoverage) []string {
	name, cases := c.Policy+"/"+c.Rule, strconv.Itoa(c.Cases)
	if c.Rule == "" { // what the rules share
		name, cases = c.Policy+" (shared)", "-"
	}
	return []string{name, cases, fmt.Sprintf("%d/%d", c.Reached, c.Branches)}
}
