//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/process"
)

// server is a process that answers at address.
type server struct {
	*process.Server
	address string // host:port
}

// cpu is what the process has spent so far, as Linux tells; elsewhere 0.
func (s *server) cpu() time.Duration { return processTime(s.PID()) }

// processTime is what a process has spent so far, as Linux tells; elsewhere 0.
func processTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything; utime and stime are the
	// 12th and 13th fields after it, in ticks of 1/100 s (proc(5)).
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
