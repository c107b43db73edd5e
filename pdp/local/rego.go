package local

import (
	"fmt"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
)

// RegoOptions say what evaluates Rego; the zero options are good.
type RegoOptions = regoeval.Options

// RegoFallback is a policy that is not compiled, so that OPA's topdown
// evaluates it.
type RegoFallback = regoeval.Fallback

// RegoStats counts what evaluations of Rego met.
type RegoStats struct {
	// Compiled and Topdown are how many policies of the active release each
	// engine evaluates.
	Compiled, Topdown int
	// Settled is how often topdown answered in the compiled engine's place, by
	// policy; the rest is about both engines: [regoeval.Stats].
	Settled                       map[string]uint64
	Compared, Differences, Panics uint64
}

// ParseRegoEngine reads "compiled", "topdown" or "both"; no name is the
// first.
func ParseRegoEngine(name string) (regoeval.Engine, error) { return regoeval.ParseEngine(name) }

// RegoStats counts for all releases of this compiler, and the policies of the
// active one, which may be nil.
func (c *Compiler) RegoStats(active *pdp.Release) RegoStats {
	s := c.rego.Stats()
	stats := RegoStats{Settled: s.Settled, Compared: s.Compared, Differences: s.Differences, Panics: s.Panics}
	if program := regoOf(active); program != nil {
		stats.Compiled, stats.Topdown = program.Engines()
	}
	return stats
}

// RegoFallbacks lists the release's policies that are not compiled though the
// engine is.
func (c *Compiler) RegoFallbacks(release *pdp.Release) []RegoFallback {
	if program := regoOf(release); program != nil {
		return program.Fallbacks()
	}
	return nil
}

func regoOf(release *pdp.Release) *regoeval.Program {
	if release == nil {
		return nil
	}
	for _, program := range release.Programs() {
		if rego, ok := program.(*regoeval.Program); ok {
			return rego
		}
	}
	return nil
}

// maxNamed is how many policies a line of the log names.
const maxNamed = 10

// Announce logs in one line what evaluates the Rego of a release that is to be
// active.
func (c *Compiler) Announce(release *pdp.Release) {
	program := regoOf(release)
	if program == nil {
		return
	}
	compiled, topdown := program.Engines()
	if compiled+topdown == 0 {
		return
	}
	attrs := []any{"content", release.Content.Digest().String(), "compiled", compiled, "topdown", topdown}
	left := program.Fallbacks()
	if len(left) == 0 {
		c.log.Info("Rego is ready", attrs...)
		return
	}
	var named []string
	for _, f := range left[:min(len(left), maxNamed)] {
		named = append(named, fmt.Sprintf("%s (%s:%d: %s)", f.Policy, f.File, f.Line, f.Why))
	}
	c.log.Warn("Rego is ready; policies that cannot be compiled are evaluated more slowly", append(attrs, "not_compiled", named)...)
}
