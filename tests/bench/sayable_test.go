//go:build unix

package main

import (
	"os"
	"strings"
	"testing"
)

func TestCedarAndHandWrittenRulesFindWhatTheLibraryFinds(t *testing.T) {
	content, err := sayableRelease(os.DirFS("../../policies"))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := newEngine(t.Context(), content)
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := generate(inputCount)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newCedarPeer(inputs)
	if err != nil {
		t.Fatal(err)
	}
	provisions, err := agreeSayable(t.Context(), ours, theirs, inputs)
	if err != nil {
		t.Fatal(err)
	}
	allowed, rules := 0, map[string]bool{}
	for i := range provisions {
		ok, closed := written(&provisions[i], nil)
		if ok {
			allowed++
		}
		for _, rule := range closed {
			rules[rule] = true
		}
	}
	t.Logf("%d inputs, %d allowed, closed by %v", len(provisions), allowed, rules)
	if allowed < len(provisions)/5 || len(rules) < 6 {
		t.Errorf("%d of %d inputs are allowed, and %d rules speak: too few to show what they cost", allowed, len(provisions), len(rules))
	}
	delete(theirs.roles, "bench.engineer")
	if _, err := agreeSayable(t.Context(), ours, theirs, inputs); err == nil || !strings.Contains(err.Error(), "cedar-go") {
		t.Errorf("error %v, want one about cedar-go, who lacks a role", err)
	}
}
