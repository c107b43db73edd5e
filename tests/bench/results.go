//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"
)

// gate is a value, most often a ratio, that a comparison must not miss, and
// what it aims at beyond.
type gate struct {
	Name    string  `json:"name"`
	Limit   float64 `json:"limit"`         // 0: none, the value is only reported
	Aim     float64 `json:"aim,omitempty"` // 0: none but the limit
	AtLeast bool    `json:"at_least"`      // else at most
	Value   float64 `json:"value"`
	Passed  bool    `json:"passed"`
}

// atMost wants the first side to take at most limit times the second's time.
func atMost(limit float64, c comparison) gate { return bound(limit, c.Name, c.Ratio) }

// cpuAtMost wants the same of the processors' time.
func cpuAtMost(limit float64, c comparison) gate { return bound(limit, c.Name+": CPU", c.CPURatio) }

// p99AtMost wants the first side's p99 to be at most limit times the second's.
func p99AtMost(limit float64, c comparison) gate { return bound(limit, c.Name+": p99", c.P99Ratio) }

// bound wants a value that is not above limit. A value that was not measured
// misses it.
func bound(limit float64, name string, value float64) gate {
	return gate{Name: name, Limit: limit, Value: value, Passed: value > 0 && value <= limit}
}

// atLeast wants the first side to do at least limit times as much in a second.
func atLeast(limit float64, c comparison) gate {
	return gate{Name: c.Name, Limit: limit, AtLeast: true, Value: 1 / c.Ratio, Passed: 1/c.Ratio >= limit}
}

// reported is a value that stands beside a gate and can't miss one.
func reported(name string, value float64) gate { return gate{Name: name, Value: value, Passed: true} }

// aiming returns the gate with what it aims at.
func (g gate) aiming(at float64) gate {
	g.Aim = at
	return g
}

func (g gate) String() string {
	verdict, sign, aim := "passed", "≤", "–"
	if !g.Passed {
		verdict = "MISSED"
	}
	if g.AtLeast {
		sign = "≥"
	}
	if g.Limit == 0 {
		return fmt.Sprintf("%s\t%.2f\t–\t–\treported", g.Name, g.Value)
	}
	if g.Aim != 0 {
		aim = fmt.Sprintf("%s %.2f", sign, g.Aim)
	}
	return fmt.Sprintf("%s\t%.2f\t%s %.2f\t%s\t%s", g.Name, g.Value, sign, g.Limit, aim, verdict)
}

// results is what results.json holds.
type results struct {
	Time        string       `json:"time"`
	Version     string       `json:"version"` // of the code under test
	Go          string       `json:"go"`
	Platform    string       `json:"platform"`
	CPUs        int          `json:"cpus"`
	Inputs      int          `json:"inputs"`
	Seed        int64        `json:"seed"`
	Rounds      int          `json:"rounds"`
	RoundTime   string       `json:"round_time"`
	Comparisons []comparison `json:"comparisons"`
	Gates       []gate       `json:"gates"`
	Passed      bool         `json:"passed"`
}

// print writes the tables that people read.
func (r *results) print(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s, %d CPUs, %d inputs (seed %#x), medians of %d rounds of %s in turns\n\n",
		r.Go, r.Platform, r.CPUs, r.Inputs, r.Seed, r.Rounds, r.RoundTime)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "comparison\tside\twall µs/op\tCPU µs/op\tops/s\tp50 µs\tp99 µs\twall ratio (least–most)\tCPU ratio\tp99 ratio")
	for _, c := range r.Comparisons {
		for i, s := range c.Sides {
			name, ratio, cpuRatio, p99Ratio := "", "", "", ""
			if i == 0 {
				name = c.Name
				least, most := span(c.Ratios)
				ratio = fmt.Sprintf("%.3f (%.3f–%.3f)", c.Ratio, least, most)
				cpuRatio, p99Ratio = orDash("%.3f", c.CPURatio), orDash("%.2f", c.P99Ratio)
			}
			if s.Bytes > 0 {
				fmt.Fprintf(table, "%s\t%s\t%.1f KiB\t\t\t\t\t%s\t\t\n", name, s.Name, s.Bytes/1024, ratio)
				continue
			}
			fmt.Fprintf(table, "%s\t%s\t%.1f\t%s\t%.0f\t%s\t%s\t%s\t%s\t%s\n",
				name, s.Name, s.WallPerOp/1e3, orDash("%.1f", s.CPUPerOp/1e3), 1e9/s.WallPerOp,
				orDash("%.1f", s.P50/1e3), orDash("%.1f", s.P99/1e3), ratio, cpuRatio, p99Ratio)
		}
	}
	fmt.Fprintln(table, "\ngate\tvalue\tlimit\taim\t")
	for _, g := range r.Gates {
		fmt.Fprintln(table, g)
	}
	return table.Flush()
}

func (r *results) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// orDash formats a number, or a dash for what was not measured.
func orDash(format string, value float64) string {
	if value == 0 {
		return "–"
	}
	return fmt.Sprintf(format, value)
}

func span(values []float64) (least, most float64) {
	least, most = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	return least, most
}
