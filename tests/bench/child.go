//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// child is another process of this program, which takes orders on its
// standard input and answers each with one line.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

// self is this program in another part.
func self(part ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", part...)
	if path, err := os.Executable(); err == nil {
		cmd.Path = path
	}
	cmd.Stderr = os.Stderr
	return cmd
}

func startChild(cmd *exec.Cmd) (*child, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &child{cmd, in, bufio.NewScanner(out)}, cmd.Start()
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) line() (string, error) {
	if !c.lines.Scan() {
		return "", errors.Join(fmt.Errorf("%s ended", c.cmd.Args[1]), c.lines.Err())
	}
	return c.lines.Text(), nil
}

// order has the child do something and returns when it says it was done.
func (c *child) order(what any) (time.Time, error) {
	text, err := json.Marshal(what)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := c.in.Write(append(text, '\n')); err != nil {
		return time.Time{}, err
	}
	line, err := c.line()
	if err != nil {
		return time.Time{}, err
	}
	var answer done
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		return time.Time{}, err
	}
	if answer.Error != "" {
		return time.Time{}, fmt.Errorf("%s: %s", c.cmd.Args[1], answer.Error)
	}
	return time.Unix(0, answer.At), nil
}

// stop ends the child at once.
func (c *child) stop() error {
	err := c.cmd.Process.Kill()
	_ = c.cmd.Wait() // that it was killed is no fault; closes the pipes
	return err
}

// resident is the memory that a process holds, in bytes (proc(5)).
func resident(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) == 3 && string(fields[0]) == "VmRSS:" {
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d does not say how much memory it holds", pid)
}
