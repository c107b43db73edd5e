package stream

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// live is what PEPs hold beside a release: grants, restrictions and roles, the
// newest entry of each key, in order of position. It is not safe for
// concurrent use.
type live struct {
	byKey  map[entryKey]*entry
	sorted []*entry // by position; replaced ones are nil in byKey and skipped
	roster roster

	dropped time.Time // when what is over was last dropped
}

type entryKey struct {
	kind        wire.EntryKind
	tenant, key string
}

// entry is one newest entry.
type entry struct {
	wire.Entry
	until    time.Time // from which it is nothing to hold: Entry.CountsUntil
	dropAt   time.Time // from which nobody who lacks it needs to be told
	replaced bool
}

// dropAfter is how long an entry is kept beyond its validity, for nodes and
// PEPs whose clocks differ.
const dropAfter = 10 * time.Minute

func newLive() live { return live{byKey: map[entryKey]*entry{}, roster: newRoster()} }

// apply takes records that are newer than all before, in any order.
func (l *live) apply(records []pap.Record) error {
	var fresh []*entry
	for i := range records {
		r := &records[i]
		var e *entry
		var err error
		switch r.Kind {
		case pap.KindGrant:
			e, err = grantEntry(r)
		case pap.KindRestriction:
			e, err = restrictionEntry(r)
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("log position %d: %s %s: %w", r.Position, r.Kind, r.Key, err)
		}
		fresh = append(fresh, e)
	}
	roles, err := l.roster.apply(records)
	if err != nil {
		return err
	}
	l.put(append(fresh, roles...))
	return nil
}

func (l *live) put(fresh []*entry) {
	slices.SortFunc(fresh, func(a, b *entry) int { return a.Mark().Compare(b.Mark()) })
	slices.SortStableFunc(fresh, func(a, b *entry) int { return int(int64(a.Position) - int64(b.Position)) })
	for _, e := range fresh {
		key := entryKey{e.Kind, e.Tenant, e.Key}
		if old := l.byKey[key]; old != nil {
			old.replaced = true
		}
		l.byKey[key] = e
		l.sorted = append(l.sorted, e)
	}
	if len(l.sorted) > 2*len(l.byKey)+1000 {
		l.compact()
	}
}

// drop forgets what is over.
func (l *live) drop(now time.Time) {
	for key, e := range l.byKey {
		if !now.Before(e.dropAt) {
			e.replaced = true
			delete(l.byKey, key)
		}
	}
	l.compact()
}

func (l *live) compact() {
	kept := make([]*entry, 0, len(l.byKey))
	for _, e := range l.sorted {
		if !e.replaced {
			kept = append(kept, e)
		}
	}
	l.sorted = kept
}

// after returns the newest entries with a position above from that an audience
// gets, in order of position. With counting it leaves out what is nothing to
// hold at now.
func (l *live) after(from uint64, serves func(tenant string) bool, counting bool, now time.Time) []*entry {
	first, _ := slices.BinarySearchFunc(l.sorted, from+1, func(e *entry, position uint64) int {
		if e.Position < position {
			return -1
		}
		return 1
	})
	var found []*entry
	for _, e := range l.sorted[first:] {
		if !e.replaced && serves(e.Tenant) && (!counting || e.until.After(now)) {
			found = append(found, e)
		}
	}
	return found
}

// digest is the state that an audience should hold at a time.
func (l *live) digest(serves func(tenant string) bool, at time.Time) string {
	var marks []wire.Mark
	for _, e := range l.byKey {
		if serves(e.Tenant) && e.until.After(at) {
			marks = append(marks, e.Mark())
		}
	}
	return wire.DigestMarks(marks)
}

// grantEntry leaves out what people wrote and who they are: no decision reads it.
func grantEntry(r *pap.Record) (*entry, error) {
	var g authz.Grant
	if err := json.Unmarshal(r.Body, &g); err != nil {
		return nil, err
	}
	g.Reason, g.EndedReason, g.Source, g.CreatedBy = "", "", "", ""
	return newEntry(r, wire.EntryGrant, g.Tenant, g.Validity.End, struct {
		authz.Grant
		Request *struct{} `json:"request,omitempty"` // hides the grant's
	}{Grant: g})
}

func restrictionEntry(r *pap.Record) (*entry, error) {
	var restriction authz.Restriction
	if err := json.Unmarshal(r.Body, &restriction); err != nil {
		return nil, err
	}
	restriction.Reason, restriction.EndedReason, restriction.Source, restriction.CreatedBy = "", "", "", ""
	return newEntry(r, wire.EntryRestriction, restriction.Tenant, restriction.Validity.End, restriction)
}

func newEntry(r *pap.Record, kind wire.EntryKind, tenant string, end time.Time, body any) (*entry, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	e := &entry{Entry: wire.Entry{Position: r.Position, Kind: kind, Tenant: tenant, Key: r.Key, Body: text}, dropAt: end.Add(dropAfter)}
	e.until, err = e.CountsUntil()
	return e, err
}
