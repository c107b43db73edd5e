//go:build unix

package load

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// xiezhi is the program under test, built once.
var xiezhi string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "xiezhi-load-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	xiezhi = filepath.Join(dir, "xiezhi")
	// -trimpath as `make build` has it, so that the two share a build cache.
	build := exec.Command("go", "build", "-trimpath", "-o", xiezhi, "./cmd/xiezhi")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ./cmd/xiezhi: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// repository is the root of this repository.
const repository = "../.."

// sized returns full where XIEZHI_TEST_LONG asks for it, else the part that
// `make test` runs.
func sized(part, full int) int {
	if os.Getenv("XIEZHI_TEST_LONG") != "" {
		return full
	}
	return part
}

// random returns a source of random numbers and prints its seed.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("XIEZHI_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("XIEZHI_TEST_SEED: %v", err)
		}
	}
	t.Logf("XIEZHI_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
