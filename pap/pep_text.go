package pap

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// NewestSeen is the time of the newest state of a batch: what stores, which have
// no clock, take for now.
func NewestSeen(peps []PEP) (newest time.Time) {
	for i := range peps {
		if peps[i].SeenAt.After(newest) {
			newest = peps[i].SeenAt
		}
	}
	return newest
}

// MakeRoom is how a store makes room for the PEPs that were added of a tenant
// which now has count of them and may have most: evict takes so many away of
// those that may leave and says how many did; where they are too few, added
// ones are refused.
func MakeRoom(count, most int, added []string, evict func(excess int) (left int, err error)) (refused []string, err error) {
	if count <= most || len(added) == 0 {
		return nil, nil
	}
	left, err := evict(count - most)
	if err != nil {
		return nil, err
	}
	return added[:min(max(count-most-left, 0), len(added))], nil
}

// NewestPEPs is what a [PEPStore] stores of a batch: the newest state of every
// key, in order of Key as bytes, with times in UTC to the microsecond. It
// refuses, with ErrText, names that a database cannot hold. Both stores use it,
// so that they keep the same.
func NewestPEPs(peps []PEP) ([]PEP, error) {
	newest := make(map[string]PEP, len(peps))
	for _, p := range peps {
		if err := p.checkNames(); err != nil {
			return nil, fmt.Errorf("PEP %.64q: %w", p.Key, err)
		}
		for _, at := range []*time.Time{&p.ConnectedAt, &p.SeenAt, &p.AckedAt, &p.HonoursUntil} {
			*at = at.UTC().Truncate(time.Microsecond)
		}
		if known, ok := newest[p.Key]; !ok || !p.SeenAt.Before(known.SeenAt) {
			newest[p.Key] = p
		}
	}
	return slices.SortedFunc(maps.Values(newest), func(a, b PEP) int { return cmp.Compare(a.Key, b.Key) }), nil
}

// checkNames looks at what PEPs are found by. The rest is kept as JSON, which
// takes any text.
func (p *PEP) checkNames() error {
	if err := CheckKeys(p.Key, p.ID, p.Tenant); err != nil {
		return err
	}
	if err := CheckText(slices.Concat(p.Tenants, []string{p.Kind})...); err != nil {
		return err
	}
	return checkLabels(p.Labels)
}

// Check refuses, with ErrText, what no stored PEP could be selected by.
func (f *PEPFilter) Check(after string) error {
	if err := CheckText(f.Key, f.Tenant, f.Serves, after); err != nil {
		return err
	}
	if err := CheckText(slices.Concat(f.IDs, f.Select.IDs, f.Owners, []string{f.Without})...); err != nil {
		return err
	}
	return cmp.Or(checkLabels(f.Labels), checkLabels(f.Select.Labels))
}

func checkLabels(labels map[string]string) error {
	for name, value := range labels {
		if err := CheckText(name, value); err != nil {
			return err
		}
	}
	return nil
}

// RejectedRelease is the release of the newest rejection, or 0.
func (p *PEP) RejectedRelease() uint64 {
	if p.Rejected == nil {
		return 0
	}
	return p.Rejected.Release
}

// Columns is how both stores keep what filters look into, and the whole, as
// JSON.
func (p PEP) Columns() (tenants, labels, body string, err error) {
	if p.Tenants == nil {
		p.Tenants = []string{}
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	var texts [3]string
	for i, part := range []any{p.Tenants, p.Labels, p} {
		text, err := json.Marshal(part)
		if err != nil {
			return "", "", "", fmt.Errorf("encode PEP %q: %w", p.Key, err)
		}
		texts[i] = string(text)
	}
	return texts[0], texts[1], texts[2], nil
}
