package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestTextFromElsewhereCannotSteerTheTerminal(t *testing.T) {
	var out bytes.Buffer
	p := &printer{w: &out, colour: true}
	hostile := "a\x1b[31mb\rc\u202ed\u009be\x00"
	p.line("%s %d", hostile, 1)
	p.table("", [][]string{{hostile, hostile}})
	printDecision(p, &authz.Decision{ID: hostile, Reasons: []authz.Reason{{Policy: hostile, Rule: hostile, Path: hostile, Message: hostile, Location: hostile}},
		Obligations: []authz.Obligation{{ID: hostile, Policy: hostile}}, Route: &authz.Route{Pool: hostile}}, "en")
	text := strings.ReplaceAll(strings.ReplaceAll(out.String(), "\x1b[1;31m", ""), "\x1b[0m", "")
	if strings.ContainsAny(text, "\x1b\r\u202e\u009b\x00") {
		t.Errorf("got %q", text)
	}
	if !strings.Contains(out.String(), "\x1b[1;31mDENY\x1b[0m") {
		t.Errorf("our own colour is missing: %q", out.String())
	}
}

func TestAColumnThatIsEmptyEverywhereIsLeftOut(t *testing.T) {
	var out bytes.Buffer
	p := &printer{w: &out}
	p.table("  ", [][]string{{"DENY", "", "long reason"}, {"审批", "", "x"}, {"a"}})
	if want := "  DENY  long reason\n  审批    x\n  a\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAResultThatCannotBeWrittenIsAnError(t *testing.T) {
	for _, args := range [][]string{
		{"policy", "check"}, {"policy", "check", "--json"},
		{"decide", "-f", place(t, "q.json", question)}, {"decide", "--json", "-f", place(t, "q.json", question)},
		{"policy", "eval", "-f", place(t, "q.json", question)},
	} {
		root := newRoot()
		root.SetArgs(args)
		root.SetOut(full{})
		var stderr bytes.Buffer
		if code := report(&stderr, root.ExecuteContext(t.Context())); code != exitFailed || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: exit code %d, %q", args, code, stderr.String())
		}
	}
}

func TestAFileThatIsTooLongIsNotRead(t *testing.T) {
	long := place(t, "q.json", question+strings.Repeat(" ", maxInput))
	if code, _, stderr := xiezhi(t, "decide", "-f", long); code != exitFailed || !strings.Contains(stderr, "longer than 1048576 bytes") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

func TestExitCodes(t *testing.T) {
	for _, row := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{exitOf(authz.Allow), 0},
		{exitOf(authz.Deny), 2},
		{exitOf(authz.Review), 3},
		{exitOf(authz.Effect(9)), 2},
		{errors.New("anything"), 1},
		{pdp.Faults{{File: "a", Message: "b"}}, 4},
	} {
		if got := report(new(bytes.Buffer), row.err); got != row.want {
			t.Errorf("%v: exit code %d, want %d", row.err, got, row.want)
		}
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	commands := newRoot().Commands()
	for len(commands) > 0 {
		cmd := commands[0]
		commands = append(commands[1:], cmd.Commands()...)
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example or no short help", cmd.CommandPath())
		}
	}
}
