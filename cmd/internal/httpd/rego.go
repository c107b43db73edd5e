package httpd

// RegoStats is what evaluations of Rego met: how many policies of the active
// release each engine evaluates, how often topdown answered in the compiled
// engine's place, by policy, how many answers of both engines were compared,
// how many of them differed, and how often the compiled engine panicked.
type RegoStats struct {
	Compiled, Topdown             int
	Settled                       map[string]uint64
	Compared, Differences, Panics uint64
}

// RegoMeasures are these numbers as measures.
func RegoMeasures(read func() RegoStats) []Measure {
	total := func(name, help string, of func(RegoStats) uint64) Measure {
		return Measure{Name: name, Help: help, Total: true, Read: func() float64 { return float64(of(read())) }}
	}
	return []Measure{
		{
			Name: "xiezhi_rego_policies", Help: "Rego policies of the active release, by the engine that evaluates them.", Label: "engine",
			ReadEach: func() map[string]float64 {
				s := read()
				return map[string]float64{"compiled": float64(s.Compiled), "topdown": float64(s.Topdown)}
			},
		},
		{
			Name: "xiezhi_rego_settled_by_topdown_total", Total: true, Label: "policy",
			Help: "Evaluations that topdown settled, since the policy is not compiled or failed in the compiled engine, by policy.",
			ReadEach: func() map[string]float64 {
				settled := map[string]float64{}
				for policy, n := range read().Settled {
					settled[policy] = float64(n)
				}
				return settled
			},
		},
		total("xiezhi_rego_engine_comparisons_total", "Policies' answers that both engines gave and that were compared.", func(s RegoStats) uint64 { return s.Compared }),
		total("xiezhi_rego_engine_differences_total", "Answers in which the engines differed; the stricter one counted.", func(s RegoStats) uint64 { return s.Differences }),
		total("xiezhi_rego_engine_panics_total", "Panics of the compiled engine; the policy denied.", func(s RegoStats) uint64 { return s.Panics }),
	}
}
