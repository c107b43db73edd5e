// Command xiezhi decides by policies, publishes them, and serves both over
// HTTP. `xiezhi --help` lists what it can do.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return report(os.Stderr, newRoot().ExecuteContext(ctx))
}
