package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// line is a connection without a socket: frames are computed as a writer does,
// and handed over one by one.
type line struct {
	node *node
	conn *conn
	pep  *model
	// under way to the PEP, and to the node.
	down, up [][]byte
}

func (n *node) dial(t fataler, m *model) *line {
	t.Helper()
	caller := access.Caller{Type: "service", ID: "shop", TokenID: "t", Rights: []string{"*"}}
	c, err := n.newConn(context.Background(), m.greet(), caller, "somewhere", "stream")
	if err != nil {
		t.Fatalf("%v", err)
	}
	c.wake = make(chan struct{}, 1)
	if err := n.add(c); err != nil {
		t.Fatalf("%v", err)
	}
	return &line{node: n, conn: c, pep: m}
}

// builds does everything that waits for a builder.
func (n *node) buildAll(t fataler) (built bool) {
	t.Helper()
	for ; ; built = true {
		n.Hub.builds.mu.Lock()
		waiting := len(n.Hub.builds.jobs)
		n.Hub.builds.mu.Unlock()
		if waiting == 0 {
			return built
		}
		j, _ := n.Hub.builds.take()
		err := n.do(j)
		n.Hub.builds.done(j)
		if err != nil {
			t.Fatalf("build: %v", err)
		}
	}
}

// write has the node send what is lacking, at most so many frames.
func (l *line) write(most int) (wrote bool) {
	for range most {
		frames, _ := l.node.lacks(l.conn, laneSlow)
		if len(frames) == 0 {
			return wrote
		}
		l.down, wrote = append(l.down, frames...), true
	}
	return wrote
}

// deliver hands over one frame to each end.
func (l *line) deliver(t fataler) (moved bool) {
	t.Helper()
	if len(l.down) > 0 {
		answer, err := l.pep.take(l.down[0])
		if err != nil {
			t.Fatalf("PEP %s: %v", l.pep.hello.ID, err)
		}
		if l.down = l.down[1:]; answer != nil {
			l.up = append(l.up, answer)
		}
		moved = true
	}
	if len(l.up) > 0 {
		if err := l.node.receive(l.conn, l.up[0]); err != nil {
			t.Fatalf("node: %v", err)
		}
		l.up, moved = l.up[1:], true
	}
	return moved
}

// settle goes on until nothing moves.
func (l *line) settle(t fataler) {
	t.Helper()
	for range 10_000 {
		if wrote, moved, built := l.write(1), l.deliver(t), l.node.buildAll(t); !wrote && !moved && !built {
			return
		}
	}
	t.Fatalf("no end: %d frames under way", len(l.down))
}

func (l *line) hangUp() { l.node.remove(l.conn, nil) }

// fleet is a world, two nodes and some PEPs, in a property.
type fleet struct {
	*rapid.T
	w     *world
	nodes []*node
	peps  []*model
	lines []*line // by PEP; nil: away
}

func TestPEPsEndWithTheLiveStateWhateverHappens(t *testing.T) {
	keys := newWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := keys.again()
		for _, tenant := range []string{"acme", "globex"} {
			w.tenant(tenant, false)
			for _, s := range []string{"a", "b"} {
				w.subject(tenant, s, false)
			}
		}
		w.role("", "admin", false)
		w.bind("acme", "a", "admin", false)
		f := &fleet{T: rt, w: w, nodes: []*node{w.node(rt, "one"), w.node(rt, "two")}}
		for i, tenants := range [][]string{{"acme"}, {"acme", "globex"}, {"*"}, {"acme"}} {
			f.peps = append(f.peps, w.model(fmt.Sprint("pep-", i), map[string]string{"ring": fmt.Sprint(i % 2)}, tenants...))
		}
		f.lines = make([]*line, len(f.peps))
		rt.Repeat(map[string]func(*rapid.T){
			"grant":   f.grants,
			"roles":   f.roles,
			"release": f.publishes,
			"rollout": f.rollsOut,
			"push":    f.pushes,
			"time":    f.passes,
			"sync":    f.syncs,
			"connect": f.connects,
			"cut":     f.cuts,
			"move":    f.moves,
			"restart": f.restarts,
			"resync":  f.resyncs,
		})
		f.converges()
	})
}

func (f *fleet) grants(t *rapid.T) {
	tenant := rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant")
	id := fmt.Sprint("grt-", tenant, rapid.IntRange(0, 3).Draw(t, "id"))
	known := slices.ContainsFunc(f.w.records, func(r pap.Record) bool { return r.Key == id })
	if known && rapid.Bool().Draw(t, "revoke") {
		f.w.revoke(tenant, id)
	} else if !known {
		f.w.grant(tenant, id, rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "life"))
	}
}

func (f *fleet) roles(t *rapid.T) {
	off := rapid.Bool().Draw(t, "off")
	tenant := rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant")
	subject := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "subject")
	switch rapid.IntRange(0, 4).Draw(t, "what") {
	case 0:
		f.w.tenant(tenant, off)
	case 1:
		f.w.subject(tenant, subject, off)
	case 2:
		f.w.role(rapid.SampledFrom([]string{"", tenant}).Draw(t, "whose"), "admin", off)
	default:
		f.w.bind(tenant, subject, rapid.SampledFrom([]string{"admin", "viewer"}).Draw(t, "role"), off)
	}
}

func (f *fleet) publishes(t *rapid.T) {
	files := map[string]string{"platform/p": rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "platform")}
	for _, tenant := range []string{"acme", "globex"} {
		if rapid.Bool().Draw(t, tenant) {
			files["tenants/"+tenant+"/p"] = rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "own")
		}
	}
	f.w.publish(files)
}

func (f *fleet) rollsOut(t *rapid.T) {
	head := f.w.head().Release
	if head < 2 {
		return
	}
	f.w.put(pap.KindRollout, "", "rollout", pap.Rollout{
		Release: head, Base: rapid.Uint64Range(1, head-1).Draw(t, "base"), Stages: []pap.Selector{{Labels: map[string]string{"ring": "0"}}},
		State: rapid.SampledFrom([]pap.RolloutState{pap.RolloutRunning, pap.RolloutDone}).Draw(t, "state"),
	})
}

func (f *fleet) pushes(t *rapid.T) {
	f.w.put(pap.KindPush, "", "push", pap.Push{Selector: pap.Selector{IDs: []string{"pep-0", "pep-2"}}})
}

func (f *fleet) passes(t *rapid.T) {
	f.w.pass(time.Duration(rapid.IntRange(1, 40_000).Draw(t, "ms")) * time.Millisecond)
	if rapid.IntRange(0, 9).Draw(t, "long") == 0 {
		f.w.pass(dropAfter)
	}
	for _, n := range f.nodes {
		n.mu.Lock()
		n.expire(f.w.Now())
		n.mu.Unlock()
	}
}

func (f *fleet) node(t *rapid.T) int { return rapid.IntRange(0, 1).Draw(t, "node") }

func (f *fleet) pep(t *rapid.T) int { return rapid.IntRange(0, len(f.peps)-1).Draw(t, "pep") }

func (f *fleet) syncs(t *rapid.T) { f.nodes[f.node(t)].sync() }

func (f *fleet) connects(t *rapid.T) {
	i := f.pep(t)
	n := f.nodes[f.node(t)]
	if f.lines[i] == nil && n.read {
		f.lines[i] = n.dial(t, f.peps[i])
	}
}

// cuts loses what is under way.
func (f *fleet) cuts(t *rapid.T) {
	if i := f.pep(t); f.lines[i] != nil {
		f.lines[i].hangUp()
		f.lines[i] = nil
	}
}

func (f *fleet) moves(t *rapid.T) {
	if l := f.lines[f.pep(t)]; l != nil {
		if rapid.Bool().Draw(t, "build") {
			l.node.buildAll(t)
		}
		l.write(rapid.IntRange(0, 3).Draw(t, "write"))
		for range rapid.IntRange(0, 3).Draw(t, "deliver") {
			l.deliver(t)
		}
	}
}

// restarts replaces a node by one that begins with the newest of every key.
func (f *fleet) restarts(t *rapid.T) {
	i := f.node(t)
	for p, l := range f.lines {
		if l != nil && l.node == f.nodes[i] {
			f.lines[p] = nil
		}
	}
	f.nodes[i] = f.w.node(t, f.nodes[i].config.Node)
}

func (f *fleet) resyncs(t *rapid.T) {
	if l := f.lines[f.pep(t)]; l != nil && l.conn.resyncs < maxResyncs && l.conn.owed > 8 {
		log := rapid.Bool().Draw(t, "log")
		l.up = append(l.up, mustFrame(wire.Header{Type: wire.TypeResync, Log: log, Snapshot: !log}, nil))
	}
}

// converges connects everybody and holds them to the world.
func (f *fleet) converges() {
	f.w.publish(map[string]string{"platform/p": "last"})
	for _, n := range f.nodes {
		n.sync()
	}
	for i, m := range f.peps {
		if f.lines[i] == nil {
			f.lines[i] = f.nodes[i%2].dial(f, m)
		}
		f.lines[i].settle(f)
	}
	for range stateEvery + 1 { // a timed comparison for everybody
		f.w.pass(wire.HeartbeatEvery)
		for _, n := range f.nodes {
			n.sync()
		}
		for _, l := range f.lines {
			l.settle(f)
		}
	}
	head := f.w.head().Release
	for i, m := range f.peps {
		f.w.mustAgree(f, m)
		want := f.w.content(head, m.tenants)
		if m.held.Release != head || m.content == nil || m.content.Digest() != want.Digest() {
			f.Fatalf("PEP %d holds release %d, want %d", i, m.held.Release, head)
		}
		if m.beat.Position != m.held.Position || m.beat.Digest != m.held.Digest || m.beat.Release != head || m.compared == 0 {
			f.Fatalf("PEP %d: heartbeat %+v, compared %d times, holds %+v", i, m.beat, m.compared, m.held)
		}
	}
	digests := map[string]string{}
	for _, l := range f.lines {
		c := l.conn
		state := l.node.live.digest(c.audience.serves, f.w.Now())
		if other, ok := digests[c.audience.name]; ok && other != state {
			f.Fatalf("two nodes differ about the state of %s", c.audience.name)
		}
		digests[c.audience.name] = state
	}
}

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
