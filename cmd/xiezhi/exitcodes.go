package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What a command tells the script that called it. Nothing but 0 lets a script
// go on that stops at errors.
const (
	exitFailed = 1 // it could not be done: arguments, files, the network; there is no answer
	exitDeny   = 2
	exitReview = 3
	exitFaults = 4 // it was done, and the policies are wrong
)

const exitCodesHelp = `Exit codes: 0 done, or ALLOW; 1 it could not be done (arguments, files, the
network): there is no answer; 2 DENY; 3 REVIEW; 4 the policies are wrong: faults,
test cases that fail, rules that none reaches, files that are not formatted.`

// exit ends the program with a code when everything there is to say has been
// printed.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitOf is the way a decision ends the program.
func exitOf(effect authz.Effect) error {
	switch effect {
	case authz.Allow:
		return nil
	case authz.Review:
		return exit(exitReview)
	default:
		return exit(exitDeny)
	}
}

// report prints what is left to say of an error, and returns the exit code.
func report(stderr io.Writer, err error) int {
	var code exit
	var faults pdp.Faults
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	_, _ = fmt.Fprintf(stderr, "xiezhi: %s\n", printable(err.Error())) // nobody to tell if it fails
	if errors.As(err, &faults) {
		return exitFaults
	}
	return exitFailed
}
