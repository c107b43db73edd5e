//go:build unix

package fleet

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
	dir, err := os.MkdirTemp("", "xiezhi-fleet-")
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
func sized[T any](part, full T) T {
	if os.Getenv("XIEZHI_TEST_LONG") != "" {
		return full
	}
	return part
}

// dice are the random numbers of a test: of each part of it its own, so that
// what one part draws does not depend on when another one does.
type dice struct{ seed uint64 }

// throw prints the seed, which is the same in every `make test`.
func throw(t *testing.T) dice {
	t.Helper()
	d := dice{sized(uint64(1), uint64(time.Now().UnixNano()))}
	if text := os.Getenv("XIEZHI_TEST_SEED"); text != "" {
		var err error
		if d.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("XIEZHI_TEST_SEED: %v", err)
		}
	}
	t.Logf("XIEZHI_TEST_SEED=%d", d.seed)
	return d
}

func (d dice) of(part uint64) *rand.Rand { return rand.New(rand.NewPCG(d.seed, part)) }
