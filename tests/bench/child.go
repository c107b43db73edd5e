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
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20) // an answer may name what was found on every input
	return &child{cmd, in, lines}, cmd.Start()
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) line() (string, error) {
	if !c.lines.Scan() {
		return "", errors.Join(fmt.Errorf("%s ended", c.cmd.Args[1]), c.lines.Err())
	}
	return c.lines.Text(), nil
}

// ask has the child do something and reads what it answers.
func (c *child) ask(what, answer any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	if _, err := c.in.Write(append(text, '\n')); err != nil {
		return err
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(line), answer)
}

// order has the child do something and returns when it says it was done.
func (c *child) order(what any) (time.Time, error) {
	var answer done
	if err := c.ask(what, &answer); err != nil {
		return time.Time{}, err
	}
	if answer.Error != "" {
		return time.Time{}, fmt.Errorf("%s: %s", c.cmd.Args[1], answer.Error)
	}
	return time.Unix(0, answer.At), nil
}

// work orders a child to measure for a while.
type work struct {
	For    time.Duration `json:"for,omitempty"`
	Single bool          `json:"single,omitempty"` // each operation is timed
	Do     string        `json:"do,omitempty"`     // what beside, or instead
}

// worked is what a child measured. Durations are nanoseconds.
type worked struct {
	Ops   int           `json:"ops"`
	Wall  time.Duration `json:"wall"`
	CPU   time.Duration `json:"cpu"`
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	Error string        `json:"error,omitempty"`
}

func workedOf(s sample, err error) worked {
	w := worked{Ops: s.ops, Wall: s.wall, CPU: s.cpu, P50: s.p50, P99: s.p99}
	if err != nil {
		w.Error = err.Error()
	}
	return w
}

// work has the child measure.
func (c *child) work(w work) (sample, error) {
	var answer worked
	if err := c.ask(w, &answer); err != nil {
		return sample{}, err
	}
	if answer.Error != "" {
		return sample{}, fmt.Errorf("%s: %s", c.cmd.Args[1], answer.Error)
	}
	return sample{ops: answer.Ops, wall: answer.Wall, cpu: answer.CPU, p50: answer.P50, p99: answer.P99}, nil
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
