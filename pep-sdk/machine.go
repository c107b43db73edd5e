package pep

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// Version is what a PEP of this package says of itself in its hello.
const Version = "xiezhi-go/1"

const (
	// maxRejects is how much of what one connection brings is refused before
	// the connection is.
	maxRejects = 100
	// repairAfter is how long a heartbeat may speak of what the PEP does not
	// hold, and nothing comes, before the PEP asks for it.
	repairAfter = 15 * time.Second
	repairMost  = 10 * time.Minute
	// proveAfter is how old a connection is before it is given up for a new
	// nonce, where the two bounds of the node's clock have come apart.
	proveAfter = time.Minute
	// suspectFor is how long entries of a revoked log key other than grants go
	// on counting while the log is on its way anew.
	suspectFor = stream.SilentAfter
	// onTheWay is how long after a log key was retired what it signed before may
	// still come: nodes keep what they have signed for a part of it.
	onTheWay = 2 * time.Minute
	// maxPredated is how far a heartbeat's time may lie after its signature's
	// date, which a node takes later: whole seconds, and a clock that is set.
	maxPredated = time.Minute
)

// machine is the PEP's side of the protocol: frames and ticks in, actions out.
// It does no I/O, reads no clock and starts nothing, and one goroutine owns it.
type machine struct {
	root     trust.Root
	audience []string
	id       string
	labels   map[string]string

	clock  clock
	keys   *trust.Set      // nil: none yet
	active *bundles.Bundle // nil: none yet
	closed string          // why everything is denied though a release is active
	log    logState
	beat   *heartbeat // newest of this process

	link    linkState
	repairs struct {
		since instant // when what is missing was first missed
		wait  time.Duration
		asked bool
	}
	jobs      uint64   // handed to the compiler so far
	working   []inWork // the newest of those that have not come back
	refused   uint64   // newest release that was not taken
	rejected  string   // and why
	lastError string
}

// linkState is what the machine knows of the connection.
type linkState struct {
	up       bool
	polling  bool
	nonce    string
	hello    instant
	heard    instant // when the last frame came
	answered bool    // a heartbeat signed the nonce
	newest   time.Time
	rejects  int
	releases []uint64 // that came on it
	stale    bool     // as last said to the node
}

// action is one thing that the machine wants done. Exactly one field is set.
type action struct {
	send  *stream.Frame
	work  *job
	apply *change
	save  *saving
	drop  *dropping
}

// change is to be applied by the engine; done hears how that went.
type change struct {
	Change
	done func(err error) []action
}

// saving is what the disk should hold; a nil member says nothing.
type saving struct {
	keys    string
	release *bundles.Bundle
	log     []string // signed ranges
	reset   bool     // log begins anew with them
	beat    string
}

// dropping ends the connection.
type dropping struct {
	reason     string
	retryAfter time.Duration
}

func send(f stream.Header) action { return action{send: &stream.Frame{Header: f}} }

// greet begins a connection. The hello that it returns comes first.
func (m *machine) greet(nonce string, polling bool, at instant) []action {
	m.clock.looked(at)
	m.link = linkState{up: true, polling: polling, nonce: nonce, hello: at, heard: at}
	m.log.partial = partial{}
	m.repairs.asked, m.repairs.since = false, instant{}
	held := m.held(at)
	m.link.stale = held.Stale
	return []action{send(stream.Header{Type: stream.TypeHello, Hello: &stream.Hello{
		ID: m.id, Labels: m.labels, Tenants: m.audience, Nonce: nonce, Version: Version, Held: held,
	}})}
}

// lost ends a connection.
func (m *machine) lost() {
	m.link = linkState{}
	m.log.partial = partial{}
}

// held is what the PEP holds and enforces.
func (m *machine) held(at instant) stream.Held {
	h := stream.Held{Position: m.log.position, Stale: m.clock.freshness(at, false).Stale || m.closed != ""}
	if m.keys != nil {
		h.Keys = m.keys.Version()
	}
	if m.active != nil {
		h.Release, h.Digest, h.KeyID = m.active.Release, m.active.Digest.String(), m.active.KeyID
	}
	return h
}

func (m *machine) ack(at instant) action {
	h := m.held(at)
	m.link.stale = h.Stale
	return send(stream.Header{Type: stream.TypeAck, Held: &h})
}

// refuse says that something that came was not taken.
func (m *machine) refuse(release, position uint64, err error) []action {
	m.lastError = err.Error()
	if release != 0 {
		m.refused, m.rejected = release, fmt.Sprintf("r%d: %v", release, err)
	}
	if m.link.rejects++; m.link.rejects > maxRejects {
		return []action{{drop: &dropping{reason: "too much of what came was not right: " + err.Error()}}}
	}
	if !m.link.up || release != 0 && !slices.Contains(m.link.releases, release) {
		return nil // the node of this connection did not send it
	}
	return []action{send(stream.Header{Type: stream.TypeReject, Release: release, Position: position, Reason: stream.ClipReason(err.Error())})}
}

// frame takes one frame from the node.
func (m *machine) frame(f *stream.Frame, at instant) []action {
	if !m.link.up {
		return nil
	}
	m.link.heard = at
	if m.clock.looked(at) {
		return m.suspended()
	}
	switch f.Type {
	case stream.TypeKeys:
		return m.takeKeys(string(f.Body), f.Manifest, at)
	case stream.TypeLog:
		return m.takeLog(string(f.Body), at)
	case stream.TypeHeartbeat:
		return m.takeHeartbeat(string(f.Body), at)
	case stream.TypeRelease:
		return m.takeRelease(f, at)
	case stream.TypeBye:
		return []action{{drop: &dropping{reason: "the node said bye: " + f.Reason, retryAfter: f.RetryAfter}}}
	default:
		return []action{{drop: &dropping{reason: fmt.Sprintf("a node does not send %q", f.Type)}}}
	}
}

func (m *machine) suspended() []action {
	return []action{{drop: &dropping{reason: "the machine was suspended, or its clock was set ahead"}}}
}

// tick is to be called about every second, with a connection or without.
func (m *machine) tick(at instant) []action {
	jumped := m.clock.looked(at)
	m.expireSuspects(at)
	switch {
	case !m.link.up:
		return nil
	case jumped:
		return m.suspended()
	case !m.link.polling && at.mono-m.link.heard.mono >= stream.SilentAfter:
		return []action{{drop: &dropping{reason: fmt.Sprintf("nothing was heard for %s", stream.SilentAfter)}}}
	case m.link.answered && at.mono-m.link.hello.mono >= proveAfter && m.clock.uncertain(at) > m.clock.grantStale/3:
		return []action{{drop: &dropping{reason: "the node's heartbeats come late: a new connection shows how late"}}}
	}
	var actions []action
	if h := m.held(at); h.Stale != m.link.stale && m.link.answered {
		actions = append(actions, m.ack(at))
	}
	return append(actions, m.repair(at)...)
}

// takeKeys takes a key set. Whatever it revoked ends at once.
func (m *machine) takeKeys(signed, manifest string, at instant) []action {
	set, err := m.root.Open(signed, m.clock.signedNow(at))
	if err != nil {
		return m.refuse(0, 0, err)
	}
	if m.keys != nil && set.Version() < m.keys.Version() {
		return m.refuse(0, 0, fmt.Errorf("key set: version %d is lower than %d", set.Version(), m.keys.Version()))
	}
	var actions []action
	if m.keys == nil || set.Version() > m.keys.Version() {
		m.keys = set
		actions = append(actions, action{save: &saving{keys: signed}})
		actions = append(actions, m.suspectLog(at)...)
	}
	if manifest != "" {
		if err := m.reseal(manifest, at, &actions); err != nil {
			actions = append(actions, m.refuse(0, 0, err)...)
		}
	}
	m.judgeActive(at)
	m.vouch(&actions)
	return append(actions, m.ack(at))
}

func (m *machine) activeRelease() uint64 {
	if m.active == nil {
		return 0
	}
	return m.active.Release
}

// reseal takes the active release's manifest signed anew.
func (m *machine) reseal(manifest string, at instant, actions *[]action) error {
	sealed, err := bundles.OpenManifest(m.keys, manifest, m.clock.signedNow(at))
	switch {
	case err != nil:
		return err
	case m.active == nil:
		return errors.New("release manifest: no release is active here")
	case sealed.Release != m.active.Release || sealed.Digest != m.active.Digest || !slices.Equal(sealed.Tenants, m.audience):
		return fmt.Errorf("release manifest: signed anew is r%d (%s) for %s, active is r%d (%s) for %s",
			sealed.Release, sealed.Digest, bundles.AudienceName(sealed.Tenants), m.active.Release, m.active.Digest, bundles.AudienceName(m.audience))
	}
	m.active = &bundles.Bundle{Sealed: sealed, Content: m.active.Content}
	*actions = append(*actions, action{save: &saving{release: m.active}})
	return nil
}

// judgeActive holds the active release against the key set: without a
// signature that counts, everything is denied.
func (m *machine) judgeActive(at instant) {
	m.closed = ""
	if m.active == nil {
		return
	}
	if _, err := bundles.OpenManifest(m.keys, m.active.Signed, m.clock.signedNow(at)); err != nil {
		m.closed = fmt.Sprintf("the active r%d: %v", m.active.Release, err)
	}
	if m.log.condemned {
		m.closed = "entries of the log were signed by a key that was revoked or retired"
	}
}

// takeHeartbeat takes a heartbeat, and counts it for what it speaks of.
func (m *machine) takeHeartbeat(signed string, at instant) []action {
	beat, err := m.openHeartbeat(signed, at)
	if err != nil {
		return m.refuse(0, 0, err)
	}
	var age time.Duration
	switch {
	case !m.link.answered && beat.Nonce != m.link.nonce:
		return m.refuse(0, 0, errors.New("heartbeat: the first of a connection must sign the hello's nonce"))
	case !m.link.answered:
		if age, err = m.clock.answered(beat.Time, m.link.hello, at); err != nil {
			m.lastError = err.Error()
			return []action{{drop: &dropping{reason: err.Error()}}}
		}
		m.link.answered, m.lastError = true, ""
	case beat.Nonce != "" && beat.Nonce != m.link.nonce:
		return m.refuse(0, 0, errors.New("heartbeat: it signs the nonce of another connection"))
	case !beat.Time.After(m.link.newest):
		return nil // repeated, or overtaken
	case m.retired(beat.keyID, at):
		return m.refuse(0, 0, fmt.Errorf("heartbeat: key %s was retired and signs nothing any more", beat.keyID))
	default:
		if age, err = m.clock.heard(beat.Time, at); err != nil {
			return []action{{drop: &dropping{reason: err.Error()}}}
		}
	}
	m.link.newest = beat.Time
	beat.at = at.back(age)
	m.beat = beat
	actions := append(m.judgeRanges(at), m.compare()...)
	m.vouch(&actions)
	if m.link.stale != m.held(at).Stale {
		actions = append(actions, m.ack(at))
	}
	return append(actions, m.repair(at)...)
}

func (m *machine) openHeartbeat(signed string, at instant) (*heartbeat, error) {
	if m.keys == nil {
		return nil, errors.New("heartbeat: no key set came before it")
	}
	opened, err := m.keys.Verify(trust.KindHeartbeat, signed, m.clock.signedNow(at))
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	beat := heartbeat{signed: signed, keyID: opened.KeyID}
	if err := json.Unmarshal(opened.Body, &beat.Heartbeat); err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	if !slices.Equal(beat.Tenants, m.audience) {
		return nil, fmt.Errorf("heartbeat: for the tenants %q, this PEP serves %q", beat.Tenants, m.audience)
	}
	if beat.Time.IsZero() {
		return nil, errors.New("heartbeat: without a time")
	}
	// A key that was retired dates its signatures back: it vouches for no time
	// after its own.
	if beat.Time.After(opened.IssuedAt.Add(maxPredated)) {
		return nil, fmt.Errorf("heartbeat: of %s, and signed at %s", beat.Time.Format(time.RFC3339), opened.IssuedAt.Format(time.RFC3339))
	}
	return &beat, nil
}

// compare is the timed comparison of what is held with what should be.
func (m *machine) compare() []action {
	if m.beat.State == "" || m.beat.Position != m.log.position {
		return nil
	}
	if m.beat.differs = m.log.digest(m.beat.Time) != m.beat.State; !m.beat.differs {
		return nil
	}
	m.lastError = fmt.Sprintf("what is held at g%d is not what the node holds", m.log.position)
	return m.askLog("the state differs")
}

// askLog asks for the log from 0, once until it comes or the connection ends.
func (m *machine) askLog(why string) []action {
	if m.log.asked == m.link.nonce || !m.link.up {
		return nil
	}
	m.log.asked = m.link.nonce
	return []action{send(stream.Header{Type: stream.TypeResync, Log: true, Reason: why})}
}

// vouch lets the newest heartbeat count for what it speaks of and is held.
func (m *machine) vouch(actions *[]action) {
	b := m.beat
	if b == nil || m.keys == nil || m.keys.Version() < b.Keys {
		return
	}
	if key, ok := m.keys.Key(b.keyID); !ok || !key.RevokedAt.IsZero() {
		m.clock.grants = vouch{}
		return
	}
	v := vouch{given: true, at: b.at}
	log := m.log.position >= b.Position && !b.differs && !m.log.suspect
	if log {
		m.log.known = true
		m.clock.grants = v
	}
	if m.active == nil || m.active.Release != b.Release || m.active.Digest.String() != b.Digest {
		return
	}
	m.clock.policies = v
	m.repairs.wait = 0
	if log {
		*actions = append(*actions, action{save: &saving{beat: b.signed}})
	}
}

// repair asks for what a heartbeat speaks of and nothing brings: a channel may
// lose anything.
func (m *machine) repair(at instant) []action {
	b := m.beat
	if b == nil || !m.link.answered || m.link.polling {
		return nil
	}
	log := m.log.position < b.Position || b.differs
	release := m.activeRelease() < b.Release && !m.awaits(b.Release)
	keys := m.keys.Version() < b.Keys
	switch {
	case !log && !release && !keys:
		m.repairs.asked, m.repairs.since = false, instant{}
		return nil
	case !m.repairs.asked:
		m.repairs.asked, m.repairs.since = true, at
		return nil
	case at.mono-m.repairs.since.mono < max(repairAfter, m.repairs.wait):
		return nil
	case !log && !keys && m.refused == b.Release && at.mono-m.repairs.since.mono < repairMost:
		return nil // it would be refused again, most likely
	}
	m.repairs.wait = min(2*max(repairAfter, m.repairs.wait), repairMost)
	m.repairs.since = at
	if keys {
		return []action{{drop: &dropping{reason: "the key set that heartbeats speak of does not come"}}}
	}
	return []action{send(stream.Header{Type: stream.TypeResync, Log: log, Snapshot: release, Reason: "heartbeats speak of what does not come"})}
}

// revision is what is active.
func (m *machine) revision() authz.Revision {
	return authz.Revision{Release: m.activeRelease(), Position: m.log.position}
}

// whyDenied says why nothing is decided; empty where it is.
func (m *machine) whyDenied() string {
	if m.active == nil {
		return cmp.Or(m.rejected, "no release has come")
	}
	if m.closed != "" {
		return m.closed
	}
	if !m.log.known {
		return "nobody has vouched for the log"
	}
	return ""
}

// marks lists the state held, for tests and the timed comparison.
func (l *logState) marks(at time.Time) []stream.Mark {
	var marks []stream.Mark
	for key, e := range maps.All(l.entries) {
		if e.until.After(at) {
			marks = append(marks, stream.Mark{Kind: key.kind, Tenant: key.tenant, Key: key.name, Position: e.position})
		}
	}
	return marks
}
