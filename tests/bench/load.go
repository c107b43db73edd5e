//go:build unix

package main

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load sends prepared requests to a server on a number of connections, each
// one after the other without a pause.
type load struct {
	cpu      func() time.Duration // of the server, so far
	requests [][]byte
	clients  []*client
}

func newLoad(address string, cpu func() time.Duration, connections int, requests [][]byte) (*load, error) {
	l := &load{cpu: cpu, requests: requests}
	for range connections {
		c, err := dialClient(address)
		if err != nil {
			l.close()
			return nil, err
		}
		l.clients = append(l.clients, c)
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.clients {
		c.close()
	}
}

// run keeps all connections busy for d. The first error ends it.
func (l *load) run(d time.Duration) (sample, error) {
	cpu := l.cpu()
	start := time.Now()
	end := start.Add(d)
	var failed atomic.Bool
	latencies := make([][]time.Duration, len(l.clients))
	errs := make([]error, len(l.clients))
	var busy sync.WaitGroup
	for i, c := range l.clients {
		busy.Go(func() {
			// Connections begin at different places, so that at any time the
			// server has different requests before it.
			next := i * len(l.requests) / len(l.clients)
			for began := time.Now(); began.Before(end) && !failed.Load(); next++ {
				if _, errs[i] = c.do(l.requests[next%len(l.requests)]); errs[i] != nil {
					failed.Store(true)
					return
				}
				now := time.Now()
				latencies[i] = append(latencies[i], now.Sub(began))
				began = now
			}
		})
	}
	busy.Wait()
	s := sample{wall: time.Since(start), cpu: l.cpu() - cpu}
	for _, err := range errs {
		if err != nil {
			return s, err
		}
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	s.ops = len(all)
	if s.ops > 0 {
		s.p99 = all[s.ops*99/100]
	}
	return s, nil
}
