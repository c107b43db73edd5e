package pep

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// Bounds of the log as it is held.
const (
	// maxPartial bounds ranges that wait for those that belong to them, in
	// bytes as they were signed.
	maxPartial = 256 << 20
	// compactRanges and compactBytes are what the signed ranges on disk may
	// grow by until the log is asked for from 0: entries are replaced, ranges
	// only pile up.
	compactRanges = 4096
	compactBytes  = 8 << 20
)

// logState is what is known of the log.
type logState struct {
	entries  map[entryKey]heldEntry
	position uint64
	known    bool            // a heartbeat vouched for a position that is held
	kids     map[string]bool // that signed what is held
	ranges   int             // since the one with Reset
	bytes    int             // of these
	base     int             // bytes of the ones with Reset
	partial  partial
	asked    string // the nonce under which the log was asked for from 0

	// suspect says that a key in kids was revoked: grants do not count, and
	// after suspectFor nothing does, until the log comes anew.
	suspect   bool
	suspected instant
	condemned bool
	// unjudged are the keys of ranges that came before the connection's first
	// heartbeat said what time it is.
	unjudged map[string]bool
}

type entryKey struct {
	kind         stream.EntryKind
	tenant, name string
}

type heldEntry struct {
	position uint64
	until    time.Time
}

// partial is ranges that take effect together, until the last one is there.
type partial struct {
	reset   bool
	to      uint64
	signed  []string
	bytes   int
	entries []stream.Entry
	kids    []string
}

func (l *logState) digest(at time.Time) string { return stream.DigestMarks(l.marks(at)) }

// takeLog takes one range.
func (m *machine) takeLog(signed string, at instant) []action {
	r, kid, err := m.openRange(signed, at)
	if err == nil {
		err = m.fits(r)
	}
	if err == nil {
		err = m.signsYet(kid, at)
	}
	if err != nil {
		return m.refuse(0, r.To, fmt.Errorf("log: %w", err))
	}
	p := &m.log.partial
	if r.Reset && r.From == 0 {
		*p = partial{reset: true}
	}
	p.to, p.bytes = r.To, p.bytes+len(signed)
	p.signed, p.entries, p.kids = append(p.signed, signed), append(p.entries, r.Entries...), append(p.kids, kid)
	if r.More {
		return nil
	}
	whole := *p
	*p = partial{}
	if whole.to < m.log.position {
		// The store was restored from a backup, or somebody replays an old range:
		// nothing counts until a heartbeat that is still to come speaks of what is
		// held then. One that came before may speak of the old range too.
		m.clock.grants, m.log.known, m.beat = vouch{}, false, nil
	}
	return []action{{apply: &change{
		Change: Change{Reset: whole.reset, Entries: whole.entries, Position: whole.to, Now: m.clock.signedNow(at)},
		done: func(err error) []action {
			if err != nil {
				return m.refuse(0, whole.to, fmt.Errorf("log up to g%d: %w", whole.to, err))
			}
			return m.tookLog(&whole, at)
		},
	}}}
}

// openRange verifies a range and all that it says of itself.
func (m *machine) openRange(signed string, at instant) (stream.LogRange, string, error) {
	var r stream.LogRange
	if m.keys == nil {
		return r, "", errors.New("no key set came before it")
	}
	opened, err := m.keys.Verify(trust.KindLog, signed, m.clock.signedNow(at))
	if err != nil {
		return r, "", err
	}
	// A member that this PEP does not know might close something.
	decoder := json.NewDecoder(bytes.NewReader(opened.Body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return stream.LogRange{}, "", err
	}
	if !slices.Equal(r.Tenants, m.audience) {
		return r, "", fmt.Errorf("signed for the tenants %q, this PEP serves %q", r.Tenants, m.audience)
	}
	return r, opened.KeyID, m.checkEntries(&r)
}

// retired reports whether a log key signs no more, and what it signed before
// has come. On disk its signatures count on: what came on the wire now would be
// new, and dated back by whoever has the key.
func (m *machine) retired(kid string, at instant) bool {
	key, ok := m.keys.Key(kid)
	return ok && !key.SignUntil.IsZero() && !m.clock.signedNow(at).Before(key.SignUntil.Add(onTheWay))
}

// signsYet refuses a range from the wire whose key was retired. Before the
// connection's first heartbeat nobody knows what time it is: then judgeRanges
// sees to it.
func (m *machine) signsYet(kid string, at instant) error {
	switch {
	case !m.link.up: // from the disk
	case !m.link.answered:
		if m.log.unjudged == nil {
			m.log.unjudged = map[string]bool{}
		}
		m.log.unjudged[kid] = true
	case m.retired(kid, at):
		return fmt.Errorf("key %s was retired and signs nothing any more", kid)
	}
	return nil
}

// judgeRanges looks, once the time is known, at the keys of ranges that came
// before. What a retired key signed is treated as what a revoked one did.
func (m *machine) judgeRanges(at instant) []action {
	l := &m.log
	unjudged := l.unjudged
	l.unjudged = nil
	for kid := range unjudged {
		if !m.retired(kid, at) || !l.kids[kid] && !slices.Contains(l.partial.kids, kid) {
			continue
		}
		l.partial = partial{}
		m.suspect(at)
		return m.askLog("the key " + kid + " of entries that came was retired")
	}
	return nil
}

func (m *machine) checkEntries(r *stream.LogRange) error {
	if r.To < r.From || r.To == r.From && !r.Reset {
		return fmt.Errorf("from g%d to g%d is no range", r.From, r.To)
	}
	seen := make(map[entryKey]bool, len(r.Entries))
	for i := range r.Entries {
		e := &r.Entries[i]
		key := entryKey{e.Kind, e.Tenant, e.Key}
		switch {
		case e.Position <= r.From || e.Position > r.To:
			return fmt.Errorf("entry %s %s/%s at g%d lies outside of g%d–g%d", e.Kind, e.Tenant, e.Key, e.Position, r.From, r.To)
		case e.Key == "" || seen[key]:
			return fmt.Errorf("entry %s %s/%q at g%d: without a key, or given twice", e.Kind, e.Tenant, e.Key, e.Position)
		case m.audience[0] != stream.AllTenants && !slices.Contains(m.audience, e.Tenant):
			return fmt.Errorf("entry %s %s/%s at g%d: of a tenant that this PEP does not serve", e.Kind, e.Tenant, e.Key, e.Position)
		}
		if _, err := e.CountsUntil(); err != nil {
			return err
		}
		seen[key] = true
	}
	return nil
}

// fits reports whether a range goes on where what came before it ends.
func (m *machine) fits(r stream.LogRange) error {
	p := &m.log.partial
	switch begun := len(p.signed) > 0; {
	case r.Reset && r.From == 0:
	case begun && (r.From != p.to || r.Reset && !p.reset):
		return fmt.Errorf("it begins at g%d: the one before it ended at g%d, and more was to come", r.From, p.to)
	case begun && p.bytes > maxPartial:
		return fmt.Errorf("%d bytes of ranges that belong together, at most %d", p.bytes, maxPartial)
	case begun:
	case r.Reset || r.From != m.log.position:
		return fmt.Errorf("it begins at g%d, g%d is held", r.From, m.log.position)
	}
	return nil
}

// tookLog notes what the engine has taken.
func (m *machine) tookLog(p *partial, at instant) []action {
	l := &m.log
	if p.reset || l.entries == nil {
		l.entries, l.kids = map[entryKey]heldEntry{}, map[string]bool{}
	}
	if p.reset {
		l.ranges, l.bytes, l.base, l.asked = 0, 0, p.bytes, ""
		l.suspect, l.condemned = false, false
		if m.beat != nil {
			m.beat.differs = false
		}
	}
	for i := range p.entries {
		e := &p.entries[i]
		until, _ := e.CountsUntil() // checked before
		l.entries[entryKey{e.Kind, e.Tenant, e.Key}] = heldEntry{e.Position, until}
	}
	for _, kid := range p.kids {
		l.kids[kid] = true
	}
	l.position, l.ranges, l.bytes = p.to, l.ranges+len(p.signed), l.bytes+p.bytes
	l.forgetEnded(m.clock.signedNow(at))
	actions := []action{{save: &saving{log: p.signed, reset: p.reset}}}
	m.judgeActive(at)
	if m.beat != nil {
		actions = append(actions, m.compare()...)
	}
	m.vouch(&actions)
	if l.ranges > compactRanges || l.bytes > 2*l.base+compactBytes {
		actions = append(actions, m.askLog("the ranges on disk are many")...)
	}
	if !m.link.up {
		return actions
	}
	return append(actions, m.ack(at))
}

// forgetEnded keeps the index from growing with what does not count any more.
// The margin is for heartbeats that were signed before now.
func (l *logState) forgetEnded(now time.Time) {
	for key, e := range l.entries {
		if !e.until.After(now.Add(-time.Hour)) {
			delete(l.entries, key)
		}
	}
}

// suspectLog looks whether what is held was signed by keys that still count.
func (m *machine) suspectLog(at instant) []action {
	l := &m.log
	for kid := range l.kids {
		if key, ok := m.keys.Key(kid); ok && key.RevokedAt.IsZero() {
			continue
		}
		m.suspect(at)
		return m.askLog("the key " + kid + " of entries held was revoked")
	}
	return nil
}

// suspect lets no grant count, and after suspectFor nothing, until the log has
// come anew.
func (m *machine) suspect(at instant) {
	if !m.log.suspect {
		m.log.suspect, m.log.suspected = true, at
	}
	m.clock.grants = vouch{}
}

// expireSuspects ends the time in which entries of a key that does not count go on.
func (m *machine) expireSuspects(at instant) {
	if m.log.suspect && !m.log.condemned && at.since(m.log.suspected) >= suspectFor {
		m.log.condemned = true
		m.judgeActive(at)
	}
}
