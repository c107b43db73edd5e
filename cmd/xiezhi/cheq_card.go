package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// card prints what a yes is about: who, what, why, which rules, how long and
// until when.
func (p *printer) card(title cheq.Text, c *cheq.Card) {
	p.line("%s  %s  %s", c.Case, title.EN, title.ZH)
	who := c.Requester.String()
	if c.Caller != c.Requester {
		who += ", asked by " + c.Caller.String()
	}
	lifetime := spanText(c.GrantFor.String())
	if c.Uses > 0 {
		lifetime += ", at most " + plural(c.Uses, "use")
	}
	if c.BreakGlass != "" {
		p.line("EMERGENCY  紧急  %s", c.BreakGlass)
	}
	rows := [][]string{{"who", who + ", in " + c.Tenant}, {"what", whatOf(c.Request)}}
	for _, leaf := range requestLeaves(c.Request) {
		rows = append(rows, []string{"", leaf})
	}
	rows = append(rows, []string{"why", oneLine(c.Reason)})
	for i, o := range c.Opens {
		rows = append(rows, []string{first("opens", i), fmt.Sprintf("%s  %s  %s  %s", o.Effect, o.Rule, oneLine(o.Message.EN), oneLine(o.Message.ZH))})
	}
	if len(c.Newly) > 1 {
		rows = append(rows, []string{"allows", fmt.Sprintf("%d of %d requests that are not allowed now", cheq.NewlyAllowed(c.Newly), len(c.Newly))})
		for _, n := range c.Newly {
			rows = append(rows, []string{"", combinationText(&n)})
		}
	}
	rows = append(rows, []string{"for", lifetime}, []string{"extends", c.Extends}, []string{"decide by", timeText(c.DecideBy)})
	p.table("", named(rows))
	p.change(c.Change)
}

// change prints what a change of policy is about, with the difference as far as
// the case holds it.
func (p *printer) change(c *cheq.Change) {
	if c == nil {
		return
	}
	flips, tests := c.Flips.Text(), c.Tests.Text()
	p.line("")
	p.line("changes release %d into %s", c.Base, c.Digest)
	p.line("  %s", flips.EN)
	p.line("  %s", flips.ZH)
	p.line("  test cases: %s  %s", tests.EN, tests.ZH)
	for i := range c.Files {
		f := &c.Files[i]
		p.line("  %s", oneLine(f.String()))
		lines, _ := f.Lines(math.MaxInt)
		for _, line := range lines {
			p.line("    %s", line)
		}
		if f.Cut > 0 {
			p.line("    … and %s", plural(f.Cut, "line"))
		}
	}
	if c.More > 0 {
		p.line("  … and %s", plural(c.More, "file"))
	}
}

// named leaves out rows that say nothing.
func named(rows [][]string) [][]string {
	var kept [][]string
	for _, row := range rows {
		if row[1] != "" {
			kept = append(kept, row)
		}
	}
	return kept
}

func first(name string, i int) string {
	if i > 0 {
		return ""
	}
	return name
}

func combinationText(n *cheq.Combination) string {
	var parts []string
	for _, v := range n.Values {
		parts = append(parts, v.Path+" = "+v.Value)
	}
	if len(parts) == 0 {
		parts = []string{"as asked"}
	}
	return fmt.Sprintf("%s: %s now, %s then", strings.Join(parts, ", "), n.Before, n.After)
}

// requestLeaves are the properties of a request and its context, one a line,
// "resource.size = 12". Nothing is left out: a yes is about all of it.
func requestLeaves(request []byte) []string {
	v, err := authz.Parse(request)
	if err != nil {
		return []string{string(request)}
	}
	var lines []string
	for _, part := range []string{"subject", "action", "resource"} {
		entity, _ := v.Get(part)
		if properties, ok := entity.Get("properties"); ok {
			lines = leaves(lines, part, properties)
		}
	}
	if context, ok := v.Get("context"); ok {
		lines = leaves(lines, "context", context)
	}
	return lines
}

func leaves(lines []string, at string, v authz.Value) []string {
	switch {
	case v.Kind() == authz.KindObject && v.Len() > 0:
		for i := range v.Len() {
			lines = leaves(lines, at+"."+v.Name(i), v.Index(i))
		}
	case v.Kind() == authz.KindList && v.Len() > 0:
		for i := range v.Len() {
			lines = leaves(lines, at+"."+strconv.Itoa(i), v.Index(i))
		}
	default:
		lines = append(lines, at+" = "+string(v.AppendJSON(nil)))
	}
	return lines
}

// view prints a case: its card, how far it is, and what happened.
func (p *printer) view(v *caseView) {
	p.card(v.Title, &v.Card)
	rows := [][]string{{"state", v.status()}}
	if v.State != cheq.Pending {
		rows = append(rows, []string{"ended", timeText(v.SettledAt) + ", by " + v.Cause}, []string{"granted until", timeText(v.GrantEnd)})
	}
	if v.Reviewed != nil {
		rows = append(rows, []string{"reviewed", "by " + v.Reviewed.By + ": " + oneLine(v.Reviewed.Text)})
	} else if !v.ReviewBy.IsZero() {
		rows = append(rows, []string{"review by", timeText(v.ReviewBy) + map[bool]string{true: ", overdue"}[v.Overdue]})
	}
	for i, g := range v.Groups {
		text := fmt.Sprintf("%s %s: %d of %d yes", g.Title.EN, g.Title.ZH, g.Yes, g.Approvals)
		if g.No > 0 {
			text += fmt.Sprintf(", %d of %d no", g.No, g.Denials)
		}
		if g.Any {
			text += " (one such group is enough)"
		}
		rows = append(rows, []string{first("needs", i), text})
	}
	p.table("", named(rows))
	p.line("")
	events := make([][]string, len(v.Timeline))
	for i, e := range v.Timeline {
		events[i] = []string{timeText(e.At), e.Action, e.Actor, oneLine(e.Detail)}
	}
	p.table("", events)
}
