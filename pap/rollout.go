package pap

import (
	"maps"
	"slices"
	"time"
)

// SignedKeys is the body of the record of kind [KindKeys]: the newest key set,
// as a root key signed it.
type SignedKeys struct {
	Version uint64 `json:"version"`
	Signed  string `json:"signed"`
}

// Push is the body of the record of kind [KindPush]: the chosen PEPs are sent
// everything again (X11).
type Push struct {
	Selector
	// Tenant bounds it to PEPs whose credential is the tenant's; "" reaches all.
	Tenant string `json:"tenant,omitempty"`
	By     string `json:"by"`
}

// Reaches reports whether a PEP of this credential's tenant, this id and these
// labels is sent everything again.
func (p *Push) Reaches(tenant, id string, labels map[string]string) bool {
	return (p.Tenant == "" || p.Tenant == tenant) && p.Selects(id, labels)
}

// Selector chooses PEPs: those of the named ids, and those that bear all the
// labels. An empty one chooses all.
type Selector struct {
	IDs    []string          `json:"ids,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Selects reports whether a PEP of this id and these labels is chosen.
func (s Selector) Selects(id string, labels map[string]string) bool {
	if len(s.IDs) == 0 && len(s.Labels) == 0 {
		return true
	}
	return slices.Contains(s.IDs, id) || len(s.Labels) > 0 && hasLabels(labels, s.Labels)
}

func hasLabels(labels, want map[string]string) bool {
	for name := range maps.Keys(want) {
		if got, ok := labels[name]; !ok || got != want[name] {
			return false
		}
	}
	return true
}

// RolloutState says how far a rollout is.
type RolloutState string

const (
	RolloutRunning RolloutState = "running"
	RolloutDone    RolloutState = "done"
	RolloutHalted  RolloutState = "halted" // and its release is being taken back
)

// Rollout is the body of the record of kind [KindRollout]: how a release
// reaches PEPs in stages. While it runs, and while one that was halted has not
// been taken back by a newer release, Release is for the PEPs that the stages
// up to Stage select, and Base for all others and for the server nodes.
type Rollout struct {
	Release uint64       `json:"release"`
	Base    uint64       `json:"base"`
	Stages  []Selector   `json:"stages"` // after the last one come all others
	Stage   int          `json:"stage"`  // index into Stages
	State   RolloutState `json:"state"`
	// Tenants are those whose own PEPs speak for a stage, beside the platform's:
	// what changes concerns them, or whoever published it named them. Ids and
	// labels are what a PEP says of itself, its credential is not.
	Tenants []string `json:"tenants"`
	// MinStageSeconds is how long a stage lasts at least.
	MinStageSeconds int `json:"min_stage_seconds,omitempty"`
	// Reason says why it was halted.
	Reason    string    `json:"reason,omitempty"`
	StartedBy string    `json:"started_by"`
	StartedAt time.Time `json:"started_at"`
	ChangedAt time.Time `json:"changed_at"`
}

// Speaks reports whether a PEP whose credential is the tenant's ("" for the
// platform's) can hold a stage up or halt the rollout.
func (r *Rollout) Speaks(tenant string) bool {
	return tenant == "" || slices.Contains(r.Tenants, tenant)
}

// speakers selects the PEPs that Speaks is true of. A stock OPA never is: it
// keeps the base until the rollout is done.
func (r *Rollout) speakers() PEPFilter {
	return PEPFilter{Owners: append([]string{""}, r.Tenants...), Without: KindOPA}
}

// Active reports whether some should still hold Base, of newest release head.
func (r *Rollout) Active(head uint64) bool {
	return r != nil && r.State != RolloutDone && r.Release == head
}

// NodeTarget is the release that server nodes decide by, of newest release head.
func (r *Rollout) NodeTarget(head uint64) uint64 {
	if r.Active(head) {
		return r.Base
	}
	return head
}

// Target is the release that a PEP of this id and these labels should hold, of
// newest releases head.
func (r *Rollout) Target(head uint64, id string, labels map[string]string) uint64 {
	if !r.Active(head) {
		return head
	}
	for i := 0; i <= r.Stage && i < len(r.Stages); i++ {
		if r.Stages[i].Selects(id, labels) {
			return r.Release
		}
	}
	return r.Base
}
