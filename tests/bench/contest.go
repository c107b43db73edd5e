//go:build unix

package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// side is one of two that are compared.
type side struct {
	name string
	// run works for about d on the shared inputs, always whole passes over
	// them, and says what it did.
	run func(d time.Duration) (sample, error)
}

// sample is what one side did in one round.
type sample struct {
	ops  int
	wall time.Duration
	cpu  time.Duration // of the process that answers; 0 where it is not known
	p50  time.Duration // of one operation; 0 where it is not measured, as p99
	p99  time.Duration
}

func (s sample) wallPerOp() float64 { return float64(s.wall) / float64(s.ops) }
func (s sample) cpuPerOp() float64  { return float64(s.cpu) / float64(s.ops) }

// outcome is what one side did in all rounds: medians, times in nanoseconds.
type outcome struct {
	Name      string    `json:"name"`
	WallPerOp float64   `json:"wall_ns_per_op"`
	CPUPerOp  float64   `json:"cpu_ns_per_op"`
	P50       float64   `json:"p50_ns,omitempty"`
	P99       float64   `json:"p99_ns,omitempty"`
	Tail      float64   `json:"p99_to_p50,omitempty"` // where both are measured
	Bytes     float64   `json:"bytes,omitempty"`      // of memory, where that is compared
	Rounds    []float64 `json:"rounds_wall_ns_per_op"`
}

// comparison is a contest's result. The ratios divide the first side's time by
// the second's, round by round; Ratio is their median.
type comparison struct {
	Name     string     `json:"name"`
	Sides    [2]outcome `json:"sides"`
	Ratio    float64    `json:"ratio"`
	CPURatio float64    `json:"cpu_ratio"`           // 0 where the CPU time is not known
	P99Ratio float64    `json:"p99_ratio,omitempty"` // the median of the rounds', where both are measured
	Ratios   []float64  `json:"rounds_ratio"`
}

// contest lets two sides work in turns for some rounds of d each, after one
// round that does not count. Who begins alternates, so that neither always
// finds the machine as the other left it.
func contest(ctx context.Context, name string, rounds int, d time.Duration, sides [2]side) (comparison, error) {
	var samples [2][]sample
	for round := range rounds + 1 {
		order := [2]int{0, 1}
		if round%2 == 1 {
			order = [2]int{1, 0}
		}
		for _, i := range order {
			if err := ctx.Err(); err != nil {
				return comparison{}, err
			}
			s, err := sides[i].run(d)
			if err != nil {
				return comparison{}, fmt.Errorf("%s: %s: %w", name, sides[i].name, err)
			}
			if s.ops == 0 {
				return comparison{}, fmt.Errorf("%s: %s did nothing", name, sides[i].name)
			}
			if round > 0 {
				samples[i] = append(samples[i], s)
			}
		}
	}
	c := comparison{Name: name}
	for i, all := range samples {
		c.Sides[i] = outcome{
			Name:      sides[i].name,
			WallPerOp: median(each(all, sample.wallPerOp)),
			CPUPerOp:  median(each(all, sample.cpuPerOp)),
			P50:       median(each(all, func(s sample) float64 { return float64(s.p50) })),
			P99:       median(each(all, func(s sample) float64 { return float64(s.p99) })),
			Tail:      median(each(all, func(s sample) float64 { return quotient(s.p99, s.p50) })),
			Rounds:    each(all, sample.wallPerOp),
		}
	}
	var tails []float64
	for round := range rounds {
		first, second := samples[0][round], samples[1][round]
		c.Ratios = append(c.Ratios, first.wallPerOp()/second.wallPerOp())
		tails = append(tails, quotient(first.p99, second.p99))
	}
	c.Ratio, c.P99Ratio = median(c.Ratios), median(tails)
	if c.Sides[1].CPUPerOp > 0 {
		c.CPURatio = c.Sides[0].CPUPerOp / c.Sides[1].CPUPerOp
	}
	return c, nil
}

// passes calls pass, which does n operations, until d is over, and measures
// this process. The garbage of whoever was before is not counted.
func passes(d time.Duration, n int, pass func() error) (sample, error) {
	runtime.GC()
	s := sample{}
	cpu, start := processCPU(), time.Now()
	for s.wall < d {
		if err := pass(); err != nil {
			return s, err
		}
		s.ops += n
		s.wall = time.Since(start)
	}
	s.cpu = processCPU() - cpu
	return s, nil
}

// processCPU is the user and system time that this process has spent, the
// garbage collector's included.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func each(samples []sample, f func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = f(s)
	}
	return values
}

// quotient is 0 where nothing was measured.
func quotient(a, b time.Duration) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
