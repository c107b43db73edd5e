//go:build unix

package main

import (
	"runtime"
	"slices"
	"time"
)

// singles is [passes] with each of the n operations timed alone. What it takes
// to look at the clock twice with nothing in between is taken out of each.
func singles(d time.Duration, n int, one func(i int) error) (sample, error) {
	clock := clockCost()
	took := make([]time.Duration, 0, 1<<20) // no pointers: the collector does not look at it
	s, err := passes(d, n, func() error {
		for i := range n {
			began := time.Now()
			if err := one(i); err != nil {
				return err
			}
			took = append(took, max(0, time.Since(began)-clock))
		}
		return nil
	})
	s.p50, s.p99 = percentile(took, 50), percentile(took, 99)
	return s, err
}

// clockCost is the median of what an empty interval seems to take.
func clockCost() time.Duration {
	empty := make([]time.Duration, 10_001)
	for i := range empty {
		began := time.Now()
		empty[i] = time.Since(began)
	}
	return percentile(empty, 50)
}

// percentile sorts the values; it is 0 where there are none.
func percentile(values []time.Duration, percent int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)*percent/100]
}

// allocations is how many pieces of memory the heap gave for each of the n
// operations of a pass.
func allocations(n int, pass func() error) (float64, error) {
	if err := pass(); err != nil { // what is made once is not counted
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := pass(); err != nil {
		return 0, err
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), nil
}
