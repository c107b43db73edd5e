//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// xiezhi is the program under test, and exampleShop the service that embeds
// the SDK; both are built once.
var xiezhi, exampleShop string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "xiezhi-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	xiezhi, exampleShop = filepath.Join(dir, "xiezhi"), filepath.Join(dir, "shop")
	// -trimpath as `make build` has it, so that the two share a build cache.
	for _, what := range [][]string{{"-o", dir, "./cmd/xiezhi", "./examples/shop"}, {"-tags", "faults", "-o", xiezhi + "-faults", "./cmd/xiezhi"}} {
		build := exec.Command("go", append([]string{"build", "-trimpath"}, what...)...)
		build.Dir = repository
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build %v: %v\n%s", what, err, out)
			return 1
		}
	}
	return m.Run()
}

// repository is the root of this repository.
const repository = "../.."
