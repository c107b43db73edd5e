//go:build unix

// Sdk is a service that embeds OPA's v1/sdk: the peer of deciding in-process.
// It is a program of its own since what the SDK imports is no business of
// Xiezhi's module.
//
//	opa-sdk bundle.tar.gz questions.json
//
// It reads orders from standard input, a line of JSON each, and answers with a
// line: what it finds on every question, or how long it took.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/sdk"
)

// question is one input, and the rule that is asked for.
type question struct {
	Path  string         `json:"path"`
	Input map[string]any `json:"input"`
}

type order struct {
	For    time.Duration `json:"for"`
	Single bool          `json:"single"`
	Do     string        `json:"do"` // "answers": all of them, and no time
}

// worked is what was measured, in nanoseconds.
type worked struct {
	Ops  int           `json:"ops"`
	Wall time.Duration `json:"wall"`
	CPU  time.Duration `json:"cpu"`
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
}

type peer struct {
	opa       *sdk.OPA
	questions []question
	now       time.Time
}

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "opa-sdk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments, want bundle.tar.gz questions.json", len(args))
	}
	bundle, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	p := &peer{now: time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)}
	config := fmt.Sprintf(`{"bundles": {"bench": {"resource": %q}}}`, "file://"+bundle)
	quiet := logging.NewNoOpLogger()
	if p.opa, err = sdk.New(ctx, sdk.Options{Config: strings.NewReader(config), Logger: quiet, ConsoleLogger: quiet}); err != nil {
		return err
	}
	defer p.opa.Stop(ctx)
	if p.questions, err = readQuestions(args[1]); err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		answer, err := p.obey(ctx, o)
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return nil
}

// readQuestions keeps numbers as OPA takes them from JSON.
func readQuestions(path string) (questions []question, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.UseNumber()
	return questions, decoder.Decode(&questions)
}

func (p *peer) obey(ctx context.Context, o order) (any, error) {
	if o.Do == "answers" {
		return p.answers(ctx)
	}
	return p.measure(ctx, o)
}

func (p *peer) answers(ctx context.Context) ([]any, error) {
	all := make([]any, len(p.questions))
	for i := range p.questions {
		answer, err := p.ask(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		all[i] = answer
	}
	return all, nil
}

func (p *peer) ask(ctx context.Context, i int) (any, error) {
	q := &p.questions[i]
	d, err := p.opa.Decision(ctx, sdk.DecisionOptions{Now: p.now, Path: q.Path, Input: q.Input, StrictBuiltinErrors: true})
	if err != nil {
		return nil, err
	}
	return d.Result, nil
}

// measure answers whole passes over the questions until the time is over.
func (p *peer) measure(ctx context.Context, o order) (worked, error) {
	var w worked
	var took []time.Duration
	clock := time.Duration(0)
	if o.Single {
		took, clock = make([]time.Duration, 0, 1<<18), clockCost()
	}
	runtime.GC()
	cpu, start := cpuTime(), time.Now()
	for w.Wall < o.For {
		for i := range p.questions {
			var began time.Time
			if o.Single {
				began = time.Now()
			}
			if _, err := p.ask(ctx, i); err != nil {
				return w, err
			}
			if o.Single {
				took = append(took, max(0, time.Since(began)-clock))
			}
		}
		w.Ops += len(p.questions)
		w.Wall = time.Since(start)
	}
	w.CPU = cpuTime() - cpu
	if o.Single {
		slices.Sort(took)
		w.P50, w.P99 = took[len(took)/2], took[len(took)*99/100]
	}
	return w, nil
}

// clockCost is the median of what an empty interval seems to take.
func clockCost() time.Duration {
	empty := make([]time.Duration, 10_001)
	for i := range empty {
		began := time.Now()
		empty[i] = time.Since(began)
	}
	slices.Sort(empty)
	return empty[len(empty)/2]
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
