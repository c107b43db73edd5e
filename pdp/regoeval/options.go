package regoeval

import (
	"fmt"
	"log/slog"
	"time"
)

// Engine says what evaluates policies.
type Engine uint8

const (
	// Compiled runs policies as closures (package vm). What cannot be compiled,
	// and what fails there, OPA's topdown answers.
	Compiled Engine = iota
	// Topdown runs all of them on OPA's topdown.
	Topdown
	// Both asks both and answers with the stricter of the two.
	Both
)

var engineNames = [...]string{Compiled: "compiled", Topdown: "topdown", Both: "both"}

// String returns the name that [ParseEngine] reads.
func (e Engine) String() string { return engineNames[e] }

// ParseEngine reads "compiled", "topdown" or "both"; no name is the first.
func ParseEngine(name string) (Engine, error) {
	if name == "" {
		return Compiled, nil
	}
	for e, known := range engineNames {
		if name == known {
			return Engine(e), nil
		}
	}
	return Compiled, fmt.Errorf("rego engine %q: want compiled, topdown or both", name)
}

// Options are what a Compiler may be told; the zero Options are good.
type Options struct {
	Engine Engine
	// Log is told of panics of the compiled engine and of answers in which the
	// engines differ, once a minute and policy, and of nothing that a request
	// holds; nil: nobody is.
	Log *slog.Logger
	// Reproducers is a folder that keeps the last 20 of these incidents as
	// files; empty: none are kept.
	Reproducers string
	// Now is the clock of these; nil: time.Now.
	Now func() time.Time
}
