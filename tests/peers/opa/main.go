// Opa is the stock Open Policy Agent, built from the module that go.mod pins.
// Benchmarks and tests run it beside Xiezhi as the peer to compare with.
package main

import (
	"errors"
	"os"

	"github.com/open-policy-agent/opa/cmd"
)

func main() {
	err := cmd.RootCommand.Execute()
	if err == nil {
		return
	}
	if exit, ok := errors.AsType[*cmd.ExitError](err); ok {
		os.Exit(exit.Exit)
	}
	os.Exit(1)
}
