//go:build unix

// Bench compares Xiezhi with its peers on the same generated inputs in the
// same run, prints a table, writes results.json, and exits with 1 where a gate
// is missed:
//
//	make bench
//	make bench ARGS='-only in-process,cedar -rounds 9'
//
// The two sides of a comparison work in turns; what counts is the median of
// the ratios of the rounds, since ratios hold on another machine and times do
// not. Before the clock starts, both sides must find the same on every input.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// errMissed means that everything ran and a gate was missed.
var errMissed = errors.New("a gate was missed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := start(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// start runs the comparisons, or a part of one that needs a process of its own.
func start(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "swarm":
		return runSwarm(ctx, os.Stdin, os.Stdout)
	case len(args) == 1 && args[0] == "bare-decide":
		return runBareDecide(ctx, os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "tenants":
		return runTenants(ctx, args[1], os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "bare":
		return runBare(ctx, args[1], os.Stdin, os.Stdout)
	default:
		return run(ctx, args)
	}
}

// bench is one run.
type bench struct {
	rounds      int
	roundTime   time.Duration
	peps        int   // 0: as many as the part has by default
	loaded      []int // Cedar policies
	modules     int   // of Rego
	tenantCount int
	policies    string // folder of the policy repository
	bin         string // folder of the built programs
	content     *bundles.Content
	of          string // which policies, before the names of comparisons; empty: all
	inputs      []input
	results     results
}

// part is a comparison that can be asked for by name.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

var parts = []part{
	{"in-process", (*bench).inProcess},
	{"engine", (*bench).guardrails},
	{"http", (*bench).overHTTP},
	{"card", (*bench).card},
	{"cedar", (*bench).cedar},
	{"batch", (*bench).besideBatches},
	{"tenants", (*bench).tenants},
	{"change", (*bench).change},
	{"compile", (*bench).compile},
	{"push", (*bench).push},
	{"cheq", (*bench).cheq},
	{"sdk", (*bench).sdk},
}

func (b *bench) setLoaded(text string) error {
	b.loaded = nil
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n < 10 {
			return fmt.Errorf("%q: want numbers of at least 10", one)
		}
		b.loaded = append(b.loaded, n)
	}
	return nil
}

func partNames() string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	return strings.Join(names, ", ")
}

func run(ctx context.Context, args []string) error {
	var b bench
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&b.policies, "policies", "policies", "the policy repository to decide with")
	only := flags.String("only", "", "comparisons to run, separated by commas: "+partNames()+" (default all)")
	out := flags.String("out", "results.json", "the file for the results")
	flags.IntVar(&b.rounds, "rounds", 7, "rounds that count, at least 5")
	flags.IntVar(&b.peps, "peps", 0, "how many PEPs are pushed to (default 10000; cheq 1000)")
	flags.IntVar(&b.tenantCount, "tenants", 100_000, "how many tenants the large table has")
	flags.IntVar(&b.modules, "modules", 1000, "how many Rego modules are compiled")
	b.loaded = []int{1000, 10_000, 100_000}
	flags.Func("loaded", "how many Cedar policies are loaded, separated by commas (default 1000,10000,100000)", b.setLoaded)
	flags.DurationVar(&b.roundTime, "round", 2*time.Second, "time of each side in each round")
	flags.StringVar(&b.bin, "bin", "bin", "the folder of the built programs xiezhi and opa")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.tenantCount < 1 || b.modules < 1 {
		return errors.New("-tenants, -modules: want at least 1")
	}
	if b.rounds < 5 {
		return errors.New("-rounds: a median of fewer than 5 rounds says little")
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if b.content, err = regoRelease(os.DirFS(b.policies)); err != nil {
		return fmt.Errorf("read %s: %w", b.policies, err)
	}
	if b.inputs, err = generate(inputCount); err != nil {
		return err
	}
	b.results = results{
		Time: time.Now().UTC().Format(time.RFC3339), Version: version(ctx), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
		Inputs: len(b.inputs), Seed: inputSeed, Rounds: b.rounds, RoundTime: b.roundTime.String(),
	}
	for _, p := range chosen {
		fmt.Fprintf(os.Stderr, "bench: %s\n", p.name)
		if err := p.run(&b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	b.results.Passed = !slices.ContainsFunc(b.results.Gates, func(g gate) bool { return !g.Passed })
	if err := errors.Join(b.results.print(os.Stdout), b.results.write(*out)); err != nil {
		return err
	}
	if !b.results.Passed {
		return errMissed
	}
	return nil
}

func choose(only string) ([]part, error) {
	if only == "" {
		return parts, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %q: want some of %s", name, partNames())
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

// compared notes a comparison and the gates that it has to pass.
func (b *bench) compared(c comparison, gates ...gate) {
	b.results.Comparisons = append(b.results.Comparisons, c)
	b.results.Gates = append(b.results.Gates, gates...)
}

// version names the commit, where git knows it.
func version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
