// Report turns what `go test -json` prints into what a person wants to read:
//
//	go test -json ./... | report
//
// It prints one line a package as it ends, the output of what failed, every
// skipped test with its reason, the slowest packages and the counts. It exits
// with 1 where something failed, or where no test ran at all.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// slowest is how many packages the report names as the slowest.
const slowest = 10

func main() {
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	if !r.finish() {
		os.Exit(1)
	}
}

// event is one line of `go test -json`, as `go doc test2json` describes it.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build events
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// test names one test of one package; an empty name is the package itself.
type test struct{ pkg, name string }

type duration struct {
	pkg     string
	elapsed time.Duration
}

// report is what was seen so far.
type report struct {
	out                     io.Writer
	output                  map[test][]string // of what still runs
	builds                  map[string][]string
	count                   map[string]int // tests of a package that still runs
	packages                []duration
	failures                []string
	skips                   []string
	passed, failed, skipped int
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[test][]string{}, builds: map[string][]string{}, count: map[string]int{}}
}

// read takes events until the end. A line that is no event is printed as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Action == "" {
			fmt.Fprintln(r.out, lines.Text())
			continue
		}
		r.add(e)
	}
	return lines.Err()
}

func (r *report) add(e event) {
	id := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case "output":
		r.output[id] = append(r.output[id], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(id, e.Action)
		}
		delete(r.output, id)
	}
}

func (r *report) endTest(id test, action string) {
	r.count[id.pkg]++
	switch action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.skips = append(r.skips, fmt.Sprintf("%s %s: %s", id.pkg, id.name, skipReason(r.output[id])))
	case "fail":
		r.failed++
		r.failures = append(r.failures, id.pkg+" "+id.name)
		for _, line := range r.output[id] {
			fmt.Fprint(r.out, line)
		}
	}
}

func (r *report) endPackage(e event) {
	elapsed := time.Duration(e.Elapsed * float64(time.Second))
	switch tests := r.count[e.Package]; {
	case e.Action == "fail":
		fmt.Fprintf(r.out, "FAIL  %-60s %7.2fs\n", e.Package, e.Elapsed)
		r.explain(e)
	case tests == 0:
		return // a package without tests
	default:
		fmt.Fprintf(r.out, "ok    %-60s %7.2fs %5d tests\n", e.Package, e.Elapsed, tests)
	}
	delete(r.count, e.Package)
	r.packages = append(r.packages, duration{e.Package, elapsed})
}

// explain prints what failed where no test of the package says so: a build, a
// panic, a race at the end, a time-out. A test that was running is named, one
// that had not got its turn is not.
func (r *report) explain(e event) {
	for _, line := range r.builds[e.FailedBuild] {
		fmt.Fprint(r.out, line)
	}
	inTests := slices.ContainsFunc(r.failures, func(f string) bool { return strings.HasPrefix(f, e.Package+" ") })
	for id, lines := range r.output {
		if id.pkg != e.Package {
			continue
		}
		delete(r.output, id)
		waited := strings.HasPrefix(lines[len(lines)-1], "=== PAUSE")
		switch {
		case id.name == "" && inTests, waited:
			continue
		case id.name != "":
			fmt.Fprintf(r.out, "--- did not end: %s\n", id.name)
		}
		fmt.Fprint(r.out, strings.Join(lines, ""))
	}
	if !inTests {
		r.failed++
		r.failures = append(r.failures, e.Package)
	}
}

// skipReason finds what t.Skip was given among a test's output.
func skipReason(output []string) string {
	for _, line := range output {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			return line
		}
	}
	return "no reason given"
}

// finish prints the summary and reports whether all is well.
func (r *report) finish() bool {
	slices.SortStableFunc(r.packages, func(a, b duration) int { return cmp.Compare(b.elapsed, a.elapsed) })
	var sum time.Duration
	for _, p := range r.packages {
		sum += p.elapsed
	}
	fmt.Fprintf(r.out, "\nslowest packages (%d in all, %s of tests):\n", len(r.packages), sum.Round(100*time.Millisecond))
	for _, p := range r.packages[:min(slowest, len(r.packages))] {
		fmt.Fprintf(r.out, "  %7.2fs %s\n", p.elapsed.Seconds(), p.pkg)
	}
	r.list("skipped", r.skips)
	r.list("failed", r.failures)
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if r.passed == 0 && r.failed == 0 {
		fmt.Fprintln(r.out, "no test ran")
	}
	return r.failed == 0 && r.passed > 0
}

func (r *report) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(r.out, "\n%s:\n", title)
	for _, line := range lines {
		fmt.Fprintln(r.out, " ", line)
	}
}
