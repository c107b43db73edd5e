package main

import (
	"fmt"
	"strings"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// printDecision prints a decision for people, in English or Chinese.
func printDecision(out *printer, d *authz.Decision, lang string) {
	headline := []string{d.Revision.String(), d.ID}
	if d.Stale {
		headline = append(headline, "stale")
	}
	out.line("%s  %s", out.paint(d.Effect.String()), strings.Join(headline, "  "))
	var rows [][]string
	for i := range d.Reasons {
		reason := &d.Reasons[i]
		message := reason.Message
		if lang == "zh" && reason.MessageZH != "" {
			message = reason.MessageZH
		}
		rows = append(rows, reasonRow(reason, message))
	}
	section(out, "reasons", rows)
	section(out, "obligations", obligationRows(d.Obligations))
	section(out, "limits", limitRows(d.Limits))
	if d.Route != nil {
		row := []string{d.Route.Policy + "/" + d.Route.Rule, "pool " + d.Route.Pool}
		if d.Route.Standby != "" {
			row = append(row, "standby "+d.Route.Standby)
		}
		section(out, "route", [][]string{row})
	}
	if d.Approval != nil {
		section(out, "approval", [][]string{{d.Approval.ID, d.Approval.Status, "until " + d.Approval.ExpiresAt.String()}})
	}
}

func section(out *printer, title string, rows [][]string) {
	if len(rows) > 0 {
		out.line("%s:", title)
		out.table("  ", rows)
	}
}

// reasonRow says effect, rule, place in the request, and why.
func reasonRow(r *authz.Reason, message string) []string {
	rule := r.Rule
	if r.Policy != "" {
		rule = r.Policy + "/" + r.Rule
	}
	if r.FailedRule != "" {
		message = "rule " + r.FailedRule + ": " + message
	}
	if r.Location != "" {
		message = r.Location + ": " + message
	}
	if r.Grant != "" {
		message += " (opened by grant " + r.Grant + ")"
	}
	return []string{r.Effect.String(), rule, r.Path, message}
}

func obligationRows(obligations []authz.Obligation) [][]string {
	var rows [][]string
	for i := range obligations {
		o := &obligations[i]
		strength := "should"
		if o.Must {
			strength = "must"
		}
		row := []string{strength, o.ID, o.Policy + "/" + o.Rule}
		if o.Params.Len() > 0 {
			row = append(row, string(o.Params.AppendJSON(nil)))
		}
		rows = append(rows, row)
	}
	return rows
}

func limitRows(limits []authz.Limit) [][]string {
	var rows [][]string
	for i := range limits {
		l := &limits[i]
		rows = append(rows, []string{l.Key, l.Policy + "/" + l.Rule, limitTerms(l)})
	}
	return rows
}

func limitTerms(l *authz.Limit) string {
	var terms []string
	if l.Rate != 0 {
		terms = append(terms, fmt.Sprintf("%v a second", l.Rate))
	}
	if l.Burst != 0 {
		terms = append(terms, fmt.Sprintf("%d at once", l.Burst))
	}
	if l.Quota != nil {
		terms = append(terms, fmt.Sprintf("%d a %s", l.Quota.Max, l.Quota.Reset))
	}
	if l.Window != "" {
		terms = append(terms, "in "+l.Window)
	}
	if l.Cost != 0 {
		terms = append(terms, fmt.Sprintf("costs %d", l.Cost))
	}
	return strings.Join(terms, ", ")
}
