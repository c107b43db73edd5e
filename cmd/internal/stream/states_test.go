package stream

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

func TestAPEPResumesAtAnyPosition(t *testing.T) {
	w := newWorld(t)
	w.tenant("acme", false)
	w.subject("acme", "a", false)
	w.role("", "admin", false)
	w.publish(map[string]string{"platform/p": "1"})
	n := w.node(t, "one")
	n.sync()
	kept := w.model("kept", nil, "acme")
	var snapshots []model
	step := func() {
		n.sync()
		l := n.dial(t, kept)
		l.settle(t)
		l.hangUp()
		copied := *kept
		copied.entries = map[string]wire.Entry{}
		for k, e := range kept.entries {
			copied.entries[k] = e
		}
		snapshots = append(snapshots, copied)
	}
	for i := range 12 {
		id := fmt.Sprint("grt-", i%4)
		switch i % 3 {
		case 0:
			w.grant("acme", id, time.Hour)
		case 1:
			w.bind("acme", "a", "admin", i%2 == 0)
		default:
			w.revoke("acme", fmt.Sprint("grt-", (i+1)%3))
		}
		step()
	}
	for _, other := range []*node{n, w.node(t, "two")} {
		other.sync()
		for _, m := range snapshots {
			at := m.held.Position
			entries := map[string]wire.Entry{}
			for k, e := range m.entries {
				entries[k] = e
			}
			m.entries, m.kinds, m.hello.ID = entries, nil, fmt.Sprint("from-", at)
			l := other.dial(t, &m)
			l.settle(t)
			w.mustAgree(t, &m)
			if slices.Contains(m.kinds, wire.TypeRelease) || slices.Contains(m.kinds, wire.TypeKeys) {
				t.Errorf("from %d it is sent what it holds: %v", at, m.kinds)
			}
			l.hangUp()
		}
	}
}

func TestADeltaLeadsToWhatASnapshotHolds(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprint("platform/p", i)] = fmt.Sprint("text ", i)
	}
	w.publish(files)
	n := w.node(t, "one")
	n.sync()
	early := w.model("early", nil, "acme")
	l := n.dial(t, early)
	l.settle(t)
	delete(files, "platform/p7")
	files["platform/p8"], files["tenants/acme/new"], files["tenants/globex/new"] = "changed", "new", "new"
	w.publish(files)
	n.sync()
	l.settle(t)
	late := w.model("late", nil, "acme")
	n.dial(t, late).settle(t)
	if early.content.Digest() != late.content.Digest() || late.content.Digest() != w.content(2, []string{"acme"}).Digest() {
		t.Error("they hold different content")
	}
	if early.bases[1] == "" || late.bases[0] != "" {
		t.Errorf("bases: %q and %q", early.bases, late.bases)
	}
	// A release that does not concern it is a delta without files.
	files["tenants/globex/new"] = "changed"
	w.publish(files)
	n.sync()
	l.settle(t)
	if early.held.Release != 3 || early.bases[2] != late.held.Digest || early.content.Digest() != late.content.Digest() {
		t.Errorf("release 3: holds %+v, bases %q", early.held, early.bases)
	}
	// A node that has only the newest reads the base from the store.
	m := w.model("old", nil, "acme")
	*m = *late
	m.hello.ID, m.bases = "old", nil
	fresh := w.node(t, "two")
	fresh.sync()
	fresh.dial(t, m).settle(t)
	if m.held.Release != 3 || len(m.bases) != 1 || m.bases[0] == "" {
		t.Errorf("from the other node: holds %+v, bases %q", m.held, m.bases)
	}
}

func TestRolloutsReachTheirStages(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	n := w.node(t, "one")
	n.sync()
	canary, rest := w.model("canary", map[string]string{"ring": "0"}, "acme"), w.model("rest", nil, "acme")
	lines := []*line{n.dial(t, canary), n.dial(t, rest)}
	both := func() {
		t.Helper()
		n.sync()
		for _, l := range lines {
			l.settle(t)
		}
	}
	both()
	want := func(a, b uint64) {
		t.Helper()
		w.pass(wire.HeartbeatEvery)
		both()
		if canary.held.Release != a || rest.held.Release != b || canary.beat.Release != a || rest.beat.Release != b {
			t.Fatalf("releases %d and %d, heartbeats %d and %d, want %d and %d", canary.held.Release, rest.held.Release, canary.beat.Release, rest.beat.Release, a, b)
		}
	}
	rollout := func(stage int, state pap.RolloutState) {
		w.put(pap.KindRollout, "", "rollout", pap.Rollout{
			Release: 2, Base: 1, Stages: []pap.Selector{{Labels: map[string]string{"ring": "0"}}, {}}, Stage: stage, State: state,
		})
	}
	w.publish(map[string]string{"platform/p": "2"})
	rollout(0, pap.RolloutRunning)
	want(2, 1)
	newcomer := w.model("newcomer", nil, "acme") // at a node that has never had the base
	other := w.node(t, "two")
	other.sync()
	other.dial(t, newcomer).settle(t)
	if newcomer.held.Release != 1 {
		t.Errorf("a PEP of no stage gets release %d", newcomer.held.Release)
	}
	rollout(0, pap.RolloutHalted)
	want(2, 1)
	rollout(1, pap.RolloutRunning)
	want(2, 2)
	rollout(0, pap.RolloutRunning) // nobody goes back
	want(2, 2)
	w.publish(map[string]string{"platform/p": "3"})
	want(3, 3)
}

func TestAPushSendsTheChosenEverythingAgain(t *testing.T) {
	w := newWorld(t)
	w.grant("acme", "grt-1", time.Hour)
	w.publish(map[string]string{"platform/p": "1"})
	n := w.node(t, "one")
	n.sync()
	chosen, other := w.model("chosen", map[string]string{"zone": "a"}, "acme"), w.model("other", nil, "acme")
	lines := []*line{n.dial(t, chosen), n.dial(t, other)}
	push := func(p pap.Push) {
		t.Helper()
		for i, m := range []*model{chosen, other} {
			lines[i].settle(t)
			m.kinds, m.bases = nil, nil
		}
		w.put(pap.KindPush, "", "push", p)
		n.sync()
		for _, l := range lines {
			l.settle(t)
		}
	}
	push(pap.Push{Selector: pap.Selector{Labels: map[string]string{"zone": "a"}}})
	if want := []wire.Type{wire.TypeLog, wire.TypeRelease}; !slices.Equal(chosen.kinds, want) || chosen.bases[0] != "" || len(chosen.entries) != 1 {
		t.Errorf("the chosen one is sent %v on %q", chosen.kinds, chosen.bases)
	}
	if want := []wire.Type{wire.TypeLog}; !slices.Equal(other.kinds, want) {
		t.Errorf("the other is sent %v", other.kinds)
	}
	push(pap.Push{Tenant: "acme"}) // both have credentials of the platform's
	if want := []wire.Type{wire.TypeLog}; !slices.Equal(chosen.kinds, want) || !slices.Equal(other.kinds, want) {
		t.Errorf("a tenant's push reaches the platform's: %v, %v", chosen.kinds, other.kinds)
	}
}

func TestARefusedReleaseIsNotSentAgainBeforeThereIsAnother(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	n := w.node(t, "one")
	n.sync()
	m := w.model("pep", nil, "acme")
	l := n.dial(t, m)
	l.settle(t)
	m.refuse = func(b *bundles.Bundle) error {
		if b.Release == 2 {
			return errors.New("does not compile here")
		}
		return nil
	}
	w.publish(map[string]string{"platform/p": "2"})
	for range 5 {
		w.pass(wire.HeartbeatEvery)
		n.sync()
		l.settle(t)
	}
	if len(m.bases) != 2 || m.held.Release != 1 {
		t.Errorf("it was sent %d releases and holds %d", len(m.bases), m.held.Release)
	}
	pep := l.conn.pep
	if pep.Rejects != 1 || pep.Rejected == nil || pep.Rejected.Release != 2 || pep.Rejected.Reason != "does not compile here" || pep.Revision.Release != 1 {
		t.Errorf("the PAP sees %+v, rejected %+v", pep, pep.Rejected)
	}
	w.publish(map[string]string{"platform/p": "3"})
	n.sync()
	l.settle(t)
	if m.held.Release != 3 {
		t.Errorf("it holds release %d after the next one", m.held.Release)
	}
}

func TestNothingIsVouchedForWithoutAReadOfTheStore(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	n := w.node(t, "one")
	n.sync()
	m := w.model("pep", nil, "acme")
	l := n.dial(t, m)
	l.settle(t)
	beats := func() (count int) {
		for _, kind := range m.kinds {
			if kind == wire.TypeHeartbeat {
				count++
			}
		}
		return count
	}
	if beats() != 1 || !m.beat.Time.Equal(w.Now()) {
		t.Fatalf("%d heartbeats, the last of %s", beats(), m.beat.Time)
	}
	w.pass(time.Minute)
	n.queue.mark([]*conn{l.conn}, laneSlow)
	l.settle(t)
	late := w.model("late", nil, "acme")
	ll := n.dial(t, late)
	ll.settle(t)
	if beats() != 1 || late.greeted || late.held.Release != 1 {
		t.Errorf("cut off from the store: %d heartbeats, a nonce signed %t, release %d", beats(), late.greeted, late.held.Release)
	}
	n.sync()
	l.settle(t)
	ll.settle(t)
	if beats() != 2 || !late.greeted || !late.beat.Time.Equal(w.Now()) {
		t.Errorf("after a read: %d heartbeats, a nonce signed %t", beats(), late.greeted)
	}
	// A read that does not follow the last one is not understood.
	w.pass(wire.HeartbeatEvery)
	w.grant("acme", "grt-1", time.Hour)
	w.grant("acme", "grt-2", time.Hour)
	n.at.Position++
	n.sync()
	l.settle(t)
	if beats() != 2 || m.held.Position != 0 {
		t.Errorf("after a gap: %d heartbeats, position %d", beats(), m.held.Position)
	}
}

func TestAPEPOfALogThatIsNoMoreStartsAnew(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.grant("acme", fmt.Sprint("grt-", i), time.Hour)
	}
	n := w.node(t, "one")
	n.sync()
	m := w.model("pep", nil, "acme")
	l := n.dial(t, m)
	l.settle(t)
	l.hangUp()
	w.records = w.records[:3] // the store was restored from a backup
	w.revoke("acme", "grt-0")
	n = w.node(t, "one")
	n.sync()
	l = n.dial(t, m)
	l.settle(t)
	if m.held.Position != 5 {
		t.Fatalf("a node that may only be behind makes it start anew: position %d", m.held.Position)
	}
	w.pass(wire.HeartbeatEvery)
	n.sync()
	l.settle(t)
	w.mustAgree(t, m)
}

func TestALogLargerThanAFrameTakesEffectTogether(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 100_000)
	for i := range 50 {
		now := w.Now()
		w.put(pap.KindRestriction, "acme", fmt.Sprint("rst-", i), authz.Restriction{
			ID: fmt.Sprint("rst-", i), Tenant: "acme", Rules: []authz.RestrictionRule{{Condition: long}}, Validity: authz.Validity{Start: now, End: now.Add(time.Hour)},
		})
	}
	n := w.node(t, "one")
	n.sync()
	m := w.model("pep", nil, "acme")
	l := n.dial(t, m)
	l.write(2)
	frames := len(l.down)
	for range frames - 1 {
		l.deliver(t)
	}
	if frames < 4 || len(m.entries) != 0 {
		t.Fatalf("%d frames, %d entries before the last", frames, len(m.entries))
	}
	l.settle(t)
	if len(m.entries) != 50 || m.held.Position != 50 {
		t.Errorf("%d entries at %d", len(m.entries), m.held.Position)
	}
}

// A PEP takes the heartbeat that answers its hello to be signed after it: one
// of an earlier read would make grants count longer than they may.
func TestAHelloIsAnsweredByAReadThatBeganAfterIt(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	n := w.node(t, "one")
	n.sync()
	hello := w.pass(freshRead / 2) // the read is fresh still
	m := w.model("m", nil, "acme")
	l := n.dial(t, m)
	l.settle(t)
	if m.greeted {
		t.Errorf("the hello of %s is answered by a read of %s", hello, m.beat.Time)
	}
	w.pass(time.Millisecond)
	n.sync()
	l.settle(t)
	if !m.greeted || m.beat.Time.Before(hello) || m.held.Release != 1 {
		t.Errorf("after another read: greeted %v by one of %s, release %d", m.greeted, m.beat.Time, m.held.Release)
	}
}

// Until a heartbeat of another key comes, no grant counts where one of a revoked
// key was the newest.
func TestARevokedLogKeyIsFollowedByAHeartbeatWithTheNextRead(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	n := w.node(t, "one")
	n.sync()
	lines := make([]*line, phases)
	for i := range lines {
		lines[i] = n.dial(t, w.model(fmt.Sprint("m", i), nil, "acme"))
		lines[i].settle(t)
	}
	var stolen string
	for _, k := range w.ring.Set().Keys() {
		if k.Purpose == trust.PurposeLog {
			stolen = k.ID
		}
	}
	if _, err := trust.Revoke(w.dir, filepath.Join(w.dir, trust.RootKeyFile), stolen, "stolen", w.Now()); err != nil {
		t.Fatal(err)
	}
	ring, err := trust.OpenRing(w.dir, w.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.ring = ring
	n.keys(t)
	read := w.pass(10 * time.Millisecond) // nobody's turn
	n.sync()
	for i, l := range lines {
		l.settle(t)
		if b := l.pep.beat; !b.Time.Equal(read) || b.Keys != ring.Set().Version() {
			t.Errorf("PEP %d: its newest heartbeat is of %s under key set %d, not of %s under %d", i, b.Time, b.Keys, read, ring.Set().Version())
		}
	}
}

// It is sent by the writers, to whom only marked connections come.
func TestTheHeartbeatAfterARevokedLogKeyComesByItself(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	clients := make([]*client, phases)
	for i := range clients {
		clients[i] = s.connect(w.model(fmt.Sprint("m", i), nil, "acme"))
		clients[i].until("the release", at(1, 0))
	}
	idle := func() bool {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		return s.queue.busy == 0 && s.queue.fast.len() == 0 && s.queue.slow.len() == 0
	}
	s.keys(t)
	eventually(t, "all that was marked is written", idle)
	read := w.pass(10 * time.Millisecond) // nobody's turn
	s.sync()
	for _, c := range clients {
		c.until("a heartbeat of that read", func(m *model) bool { return m.beat.Time.Equal(read) })
	}
}
