package regoeval

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats counts evaluations of policies since the compiler was made.
type Stats struct {
	// Settled is how often topdown answered, by policy, since the policy is not
	// compiled or failed in the compiled engine. Policies it never answered for
	// are not here. [Topdown] and explanations count nothing.
	Settled map[string]uint64
	// Compared is how many answers [Both] compared, Differences how many of
	// them were not the same.
	Compared, Differences uint64
	// Panics is how often the compiled engine panicked; each denied.
	Panics uint64
}

// counts is Stats being counted.
type counts struct {
	compared, differences, panics atomic.Uint64

	mu      sync.Mutex
	settled map[string]uint64
}

func (c *counts) settle(policy string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled == nil {
		c.settled = map[string]uint64{}
	}
	c.settled[policy]++
}

func (c *counts) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Settled:  maps.Clone(c.settled),
		Compared: c.compared.Load(), Differences: c.differences.Load(), Panics: c.panics.Load(),
	}
}
