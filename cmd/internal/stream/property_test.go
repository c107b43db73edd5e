package stream

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
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
	c, err := n.newConn(context.Background(), m.greet(), &visitor{caller, "somewhere", "stream"})
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
	if l := f.lines[f.pep(t)]; l != nil && l.conn.says.resyncs < maxResyncs && l.conn.says.owed > 8 {
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
