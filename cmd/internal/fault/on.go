//go:build faults

package fault

import (
	"os"
	"strings"
	"syscall"
)

// variable is "<moment>=<file>": the process dies at the moment once the file
// is there, which it removes.
const variable = "XIEZHI_TEST_FAULT"

// Point is a moment at which a crash must lose nothing and repeat nothing.
func Point(moment string) {
	at, file, _ := strings.Cut(os.Getenv(variable), "=")
	if at != moment || os.Remove(file) != nil {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until it arrives
}
