package pep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// bench runs a machine by hand, with a node that signs and does not serve.
type bench struct {
	*node
	m      *machine
	engine *tiny
	at     instant
	nonce  string
	out    []stream.Frame
	drops  []dropping
	saved  []saving
	worker *compiler
	jobs   []*job // where compiling is held
	held   bool
}

func newBench() *bench {
	b := &bench{node: newNode("acme"), engine: &tiny{}, at: at(0, 0)}
	b.clock = func() time.Time { return noon.Add(b.at.mono) }
	b.m = &machine{root: b.trust(), audience: []string{"acme"}, id: "shop-1", clock: newClock(b.at, MaxGrantStale)}
	b.worker = newCompiler(b.engine, b.m.audience, func(o outcome) { b.do(b.m.worked(o, b.at)) })
	return b
}

func (b *bench) do(actions []action) {
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		switch {
		case a.send != nil:
			b.out = append(b.out, *a.send)
		case a.apply != nil:
			actions = append(a.apply.done(b.engine.Apply(a.apply.Change)), actions...)
		case a.work != nil:
			if b.jobs = append(b.jobs, a.work); !b.held {
				b.compile()
			}
		case a.save != nil:
			b.saved = append(b.saved, *a.save)
		case a.drop != nil:
			b.drops = append(b.drops, *a.drop)
		}
	}
}

// compile lets the compiler have what waits.
func (b *bench) compile() {
	jobs := b.jobs
	b.jobs = nil
	b.worker.work(context.Background(), jobs)
}

// connect says hello and is sent what it lacks.
func (b *bench) connect() {
	b.nonce = fmt.Sprintf("nonce-%016d", len(b.out))
	b.do(b.m.greet(b.nonce, false, b.at))
	hello := b.out[len(b.out)-1]
	b.give(b.lacks(hello.Hello, false, false)...)
}

// give hands frames over as they come off the wire.
func (b *bench) give(frames ...stream.Frame) {
	for i := range frames {
		b.do(b.m.frame(&frames[i], b.at))
	}
}

func (b *bench) pass(d time.Duration) { b.at = at(b.at.mono+d, b.at.wall.Sub(noon)-b.at.mono) }

// log is a signed range, changed before it is signed.
func (b *bench) log1(change func(*stream.LogRange)) stream.Frame {
	r := stream.LogRange{From: b.position, To: b.position + 1, Tenants: b.tenants, Entries: []stream.Entry{
		{Position: b.position + 1, Kind: stream.EntryRestriction, Tenant: "acme", Key: "k", Body: json.RawMessage(`{"validity":{"end":"2030-01-01T00:00:00Z"}}`)},
	}}
	change(&r)
	return body(stream.TypeLog, sign(b.signer.log, trust.KindLog, r))
}

func (b *bench) beat1(change func(*stream.Heartbeat)) stream.Frame {
	beat := b.beatBody("")
	change(&beat)
	return b.signedBeat(beat)
}

// release2 is a release whose manifest is changed before it is signed.
func (b *bench) release2(key func() string, change func(*bundles.Manifest)) stream.Frame {
	content, err := bundles.NewContent([]bundles.File{{Path: "policy.txt", Data: []byte("allow everything")}})
	if err != nil {
		panic(err)
	}
	m := bundles.ManifestFor(content, 3, 0, b.tenants, noon)
	if change != nil {
		change(&m)
	}
	signed := sign(b.releases, trust.KindRelease, m)
	if key != nil {
		signed = key()
	}
	var data bytes.Buffer
	if err := bundles.WriteSnapshot(&data, signed, content); err != nil {
		panic(err)
	}
	return stream.Frame{Header: stream.Header{Type: stream.TypeRelease, Release: 3}, Body: data.Bytes()}
}

// ready is a bench with release 2, a grant and a restriction, connected.
func readyBench() *bench {
	b := newBench()
	b.publish("allow order.create")
	b.publish("allow order.create\nreview order.delete")
	b.put(stream.EntryGrant, "order.delete", valid(noon.Add(-time.Hour), noon.Add(time.Hour)))
	b.put(stream.EntryRestriction, "order.refund", valid(noon.Add(-time.Hour), noon.Add(time.Hour)))
	b.connect()
	return b
}

// facts is all that a frame could have changed.
func (b *bench) facts() []any {
	f := b.m.clock.freshness(b.at, false)
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	return []any{b.m.held(b.at), f, maps.Clone(b.m.log.entries), len(b.engine.applied), b.m.whyDenied(), len(b.saved)}
}

func TestWhatFailsACheckIsRefusedAndChangesNothing(t *testing.T) {
	other := newSigner() // another installation's keys, or a thief's
	rows := map[string]struct {
		frame func(b *bench) stream.Frame
		want  string
	}{
		"a log range with a gap": {func(b *bench) stream.Frame {
			return b.log1(func(r *stream.LogRange) { r.From, r.To = 3, 4; r.Entries[0].Position = 4 })
		}, "g2 is held"},
		"a log range repeated": {func(b *bench) stream.Frame {
			return b.log1(func(r *stream.LogRange) { r.From, r.To = 1, 2; r.Entries[0].Position = 2 })
		}, "g2 is held"},
		"a log range that goes nowhere":  {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.To = 2 }) }, "no range"},
		"a log range that goes back":     {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.To = 1 }) }, "no range"},
		"a reset that begins in between": {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.Reset = true }) }, "g2 is held"},
		"a log range of other tenants": {func(b *bench) stream.Frame {
			return b.log1(func(r *stream.LogRange) { r.Tenants = []string{"acme", "globex"} })
		}, "tenants"},
		"a log range of all tenants": {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.Tenants = []string{"*"} }) }, "tenants"},
		"a log range of no tenants":  {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.Tenants = nil }) }, "tenants"},
		"an entry of another tenant": {func(b *bench) stream.Frame {
			return b.log1(func(r *stream.LogRange) { r.Entries[0].Tenant = "globex" })
		}, "does not serve"},
		"an entry outside of its range": {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.Entries[0].Position = 9 }) }, "outside"},
		"an entry of before the range":  {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.Entries[0].Position = 1 }) }, "outside"},
		"an entry without a key":        {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.Entries[0].Key = "" }) }, "key"},
		"an entry given twice": {func(b *bench) stream.Frame {
			return b.log1(func(r *stream.LogRange) { r.Entries = append(r.Entries, r.Entries[0]) })
		}, "twice"},
		"an entry of an unknown kind": {func(b *bench) stream.Frame { return b.log1(func(r *stream.LogRange) { r.Entries[0].Kind = "waiver" }) }, "kind"},
		"an entry that is not JSON": {func(b *bench) stream.Frame {
			return b.log1(func(r *stream.LogRange) { r.Entries[0].Body = json.RawMessage(`[1]`) })
		}, "entry"},
		"an entry the engine refuses": {func(b *bench) stream.Frame {
			return b.log1(func(r *stream.LogRange) { r.Entries[0].Key = "refused-by-the-engine" })
		}, "does not take"},
		"a log range with another member": {func(b *bench) stream.Frame {
			return body(stream.TypeLog, sign(b.signer.log, trust.KindLog, map[string]any{"from": 2, "to": 3, "tenants": b.tenants, "only_if": 1}))
		}, "only_if"},
		"a log range by the release key": {func(b *bench) stream.Frame {
			return body(stream.TypeLog, sign(b.releases, trust.KindLog, stream.LogRange{From: 2, To: 3, Tenants: b.tenants}))
		}, "is for releases"},
		"a log range by another's key": {func(b *bench) stream.Frame {
			return body(stream.TypeLog, sign(other.log, trust.KindLog, stream.LogRange{From: 2, To: 3, Tenants: b.tenants}))
		}, "unknown kid"},
		"a heartbeat as a log range": {func(b *bench) stream.Frame { return body(stream.TypeLog, string(b.heartbeat("").Body)) }, "typ"},
		"a log range that was changed": {func(b *bench) stream.Frame {
			f := b.log1(func(*stream.LogRange) {})
			f.Body[len(f.Body)/2] ^= 1
			return f
		}, ""},

		"a log range as a heartbeat": {func(b *bench) stream.Frame {
			return body(stream.TypeHeartbeat, string(b.log1(func(*stream.LogRange) {}).Body))
		}, "typ"},
		"a heartbeat of other tenants": {func(b *bench) stream.Frame {
			return b.beat1(func(h *stream.Heartbeat) { h.Tenants = []string{"globex"} })
		}, "tenants"},
		"a heartbeat for another hello": {func(b *bench) stream.Frame {
			return b.beat1(func(h *stream.Heartbeat) { h.Nonce = "of-another-connection" })
		}, "nonce"},
		"a heartbeat without a time": {func(b *bench) stream.Frame { return b.beat1(func(h *stream.Heartbeat) { h.Time = time.Time{} }) }, "time"},
		"a heartbeat by another's key": {func(b *bench) stream.Frame {
			return body(stream.TypeHeartbeat, sign(other.log, trust.KindHeartbeat, b.beatBody("")))
		}, "unknown kid"},
		"a key set that another root signs": {func(b *bench) stream.Frame { return body(stream.TypeKeys, other.setOf(9)) }, "unknown kid"},
		"a lower key set": {func(b *bench) stream.Frame {
			b.signer.publish()
			b.give(body(stream.TypeKeys, b.signed))
			b.out = nil
			return body(stream.TypeKeys, b.setOf(1))
		}, "lower than 2"},
		"a key set signed by a log key": {func(b *bench) stream.Frame {
			return body(stream.TypeKeys, sign(b.signer.log, trust.KindKeys, trust.SetBody(9, b.keys)))
		}, "unknown kid"},

		"a release by the log key": {func(b *bench) stream.Frame {
			return b.release2(func() string { return sign(b.signer.log, trust.KindRelease, bundles.Manifest{Release: 3}) }, nil)
		}, "is for log"},
		"a release by another's key": {func(b *bench) stream.Frame {
			return b.release2(func() string { return sign(other.releases, trust.KindRelease, bundles.Manifest{Release: 3}) }, nil)
		}, "unknown kid"},
		"a release without a signature": {func(b *bench) stream.Frame { return b.release2(func() string { return "" }, nil) }, ""},
		"a release of alg none": {func(b *bench) stream.Frame {
			return b.release2(func() string { return "eyJhbGciOiJub25lIn0.e30." }, nil)
		}, "none"},
		"a release of other tenants": {func(b *bench) stream.Frame {
			return b.release2(nil, func(m *bundles.Manifest) { m.Tenants = []string{"globex"} })
		}, "tenants"},
		"a release of all tenants": {func(b *bench) stream.Frame {
			return b.release2(nil, func(m *bundles.Manifest) { m.Tenants = []string{"*"} })
		}, "tenants"},
		"a release of another digest": {func(b *bench) stream.Frame { return b.release2(nil, func(m *bundles.Manifest) { m.Digest[0] ^= 1 }) }, "digest"},
		"a release of another number": {func(b *bench) stream.Frame { return b.release2(nil, func(m *bundles.Manifest) { m.Release = 4 }) }, "manifest is of release 4"},
		"a lower release": {func(b *bench) stream.Frame {
			f := b.release2(nil, func(m *bundles.Manifest) { m.Release = 1 })
			f.Release = 1
			return f
		}, "lower"},
		"a lower release under a higher": {func(b *bench) stream.Frame { return b.release2(nil, func(m *bundles.Manifest) { m.Release = 1 }) }, "manifest is of release 1"},
		"the same number, other content": {func(b *bench) stream.Frame {
			f := b.release2(nil, func(m *bundles.Manifest) { m.Release = 2 })
			f.Release = 2
			return f
		}, "digest"},
		"a release that is cut off": {func(b *bench) stream.Frame { f := b.release2(nil, nil); f.Body = f.Body[:len(f.Body)/2]; return f }, ""},
		"a release that is noise": {func(*bench) stream.Frame {
			return stream.Frame{Header: stream.Header{Type: stream.TypeRelease, Release: 3}, Body: []byte("noise")}
		}, "gzip"},
		"a release that does not compile": {func(b *bench) stream.Frame {
			n := newNode("acme")
			n.signer, n.release.Release = b.signer, 2
			n.publish("nonsense")
			return n.releaseFrame(nil)
		}, "does not compile"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			b := readyBench()
			b.pass(time.Second)
			frame := row.frame(b)
			before := b.facts()
			b.out = nil
			b.give(frame)
			if after := b.facts(); !reflect.DeepEqual(before, after) {
				t.Errorf("it changed\n%+v\n%+v", before, after)
			}
			if len(b.out) != 1 || b.out[0].Type != stream.TypeReject || !strings.Contains(b.out[0].Reason, row.want) {
				t.Errorf("answered %+v, want a reject with %q", b.out, row.want)
			}
			// And what is right is still taken.
			b.give(b.heartbeat(""))
			b.publish("allow order.pay")
			b.out = nil
			b.give(b.releaseFrame(nil))
			if len(b.out) != 1 || b.out[0].Type != stream.TypeAck || b.out[0].Held.Release != 3 {
				t.Errorf("afterwards: %+v", b.out)
			}
		})
	}
}

func TestWhatANodeDoesNotSendEndsTheConnection(t *testing.T) {
	for _, kind := range []stream.Type{stream.TypeHello, stream.TypeAck, stream.TypeReject, stream.TypeResync, "novel"} {
		b := readyBench()
		b.give(stream.Frame{Header: stream.Header{Type: kind}})
		if len(b.drops) != 1 {
			t.Errorf("%s: %+v", kind, b.drops)
		}
	}
	b := readyBench()
	for range maxRejects + 1 {
		b.give(body(stream.TypeLog, "noise"))
	}
	if len(b.drops) != 1 {
		t.Errorf("a flood of noise: %+v", b.drops)
	}
}

func TestNoGrantCountsBeforeThisProcessHasAnAnswerToItsNonce(t *testing.T) {
	b := newBench()
	b.publish("review order.delete")
	b.put(stream.EntryGrant, "order.delete", valid(noon.Add(-time.Hour), noon.Add(time.Hour)))
	b.do(b.m.greet("nonce-of-this-hello", false, b.at))
	b.give(body(stream.TypeKeys, b.signed), b.rangeFrom(0, true), b.heartbeat("nonce-of-an-earlier-one"), b.heartbeat(""))
	if f := b.m.clock.freshness(b.at, false); f.Grants || b.m.whyDenied() == "" {
		t.Errorf("%+v, denied: %q", f, b.m.whyDenied())
	}
	b.give(b.heartbeat("nonce-of-this-hello"), b.releaseFrame(nil))
	if f := b.m.clock.freshness(b.at, false); !f.Grants || f.Stale || b.m.whyDenied() != "" {
		t.Errorf("%+v, denied: %q", f, b.m.whyDenied())
	}
	// In the next connection as well: old heartbeats are no news there.
	b.pass(40 * time.Second)
	b.do(b.m.greet("nonce-of-the-next-hello", false, b.at))
	b.give(b.heartbeat("nonce-of-this-hello"), b.heartbeat(""))
	if f := b.m.clock.freshness(b.at, false); f.Grants || !f.Stale {
		t.Errorf("after replayed heartbeats: %+v", f)
	}
}

func TestAHeartbeatVouchesOnlyForWhatIsHeld(t *testing.T) {
	for name, row := range map[string]struct {
		change   func(*stream.Heartbeat)
		grants   bool
		policies bool
	}{
		"all of it":             {func(*stream.Heartbeat) {}, true, true},
		"a position before":     {func(h *stream.Heartbeat) { h.Position--; h.State = "" }, true, true},
		"a position to come":    {func(h *stream.Heartbeat) { h.Position++; h.State = "" }, false, true},
		"a state that differs":  {func(h *stream.Heartbeat) { h.State = "sha256:other" }, false, true},
		"a release to come":     {func(h *stream.Heartbeat) { h.Release++ }, true, false},
		"a release before":      {func(h *stream.Heartbeat) { h.Release-- }, true, false},
		"another digest":        {func(h *stream.Heartbeat) { h.Digest = "sha256:other" }, true, false},
		"keys that are to come": {func(h *stream.Heartbeat) { h.Keys++ }, false, false},
	} {
		b := readyBench()
		b.pass(20 * time.Second)
		b.give(b.beat1(row.change))
		f := b.m.clock.freshness(b.at, false)
		if fresh := f.GrantsAge < time.Second; fresh != row.grants {
			t.Errorf("%s: grants vouched for %s ago", name, f.GrantsAge)
		}
		if fresh := f.Age < time.Second; fresh != row.policies {
			t.Errorf("%s: policies vouched for %s ago", name, f.Age)
		}
	}
}

func TestAHeartbeatCountsOnceWhatItSpeaksOfHasCome(t *testing.T) {
	b := readyBench()
	b.pass(20 * time.Second)
	b.put(stream.EntryRestriction, "order.pay", valid(noon, noon.Add(time.Hour)))
	b.give(b.heartbeat(""))
	if f := b.m.clock.freshness(b.at, false); f.GrantsAge != 20*time.Second {
		t.Errorf("before the range: %+v", f)
	}
	b.give(b.rangeFrom(2, false))
	if f := b.m.clock.freshness(b.at, false); f.GrantsAge != 0 {
		t.Errorf("after it: %+v", f)
	}
}

func TestAnOldHeartbeatOfTheConnectionChangesNothing(t *testing.T) {
	b := readyBench()
	old := b.heartbeat("")
	b.pass(5 * time.Second)
	b.give(b.heartbeat(""))
	b.pass(20 * time.Second)
	before := b.m.clock.freshness(b.at, false)
	b.give(old, old)
	if after := b.m.clock.freshness(b.at, false); after != before {
		t.Errorf("%+v, before %+v", after, before)
	}
}

func TestDeltasBuildOnWhatWasReadEvenIfItNeverBecameActive(t *testing.T) {
	b := readyBench()
	b.held = true
	before := b.contents[b.release.Digest.String()]
	for i := range 3 {
		b.publish(fmt.Sprintf("allow order.%d", i))
		b.give(b.releaseFrame(before))
		before = b.contents[b.release.Digest.String()]
	}
	compiled := b.engine.compiles.Load()
	b.compile()
	if b.m.active.Release != 5 || b.engine.compiles.Load() != compiled+1 {
		t.Errorf("r%d after %d compiled", b.m.active.Release, b.engine.compiles.Load()-compiled)
	}
	// A delta on something else asks for a snapshot.
	b.held = false
	stranger, err := bundles.NewContent([]bundles.File{{Path: "other.txt"}})
	if err != nil {
		t.Fatal(err)
	}
	b.publish("allow order.pay")
	b.out = nil
	b.give(b.releaseFrame(stranger))
	if len(b.out) != 1 || b.out[0].Type != stream.TypeResync || !b.out[0].Snapshot {
		t.Errorf("%+v", b.out)
	}
}

func TestARetiredKeyVouchesForNoTimeAfterItsOwn(t *testing.T) {
	b := readyBench()
	b.out = nil
	before := b.facts()
	beat := b.beatBody("")
	beat.Time = beat.Time.Add(time.Second)
	for dated, taken := range map[time.Time]bool{beat.Time.Add(-2 * maxPredated): false, beat.Time.Add(-maxPredated / 2): true} {
		text, err := trust.Sign(b.signer.log, "test", trust.KindHeartbeat, beat, dated)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := b.m.openHeartbeat(text, b.at); (err == nil) != taken {
			t.Errorf("signed %s before its time: %+v, %v", beat.Time.Sub(dated), opened, err)
		}
		if !taken {
			b.give(body(stream.TypeHeartbeat, text))
		}
	}
	if len(b.out) != 1 || b.out[0].Type != stream.TypeReject || !reflect.DeepEqual(before, b.facts()) {
		t.Errorf("%+v", b.out)
	}
}

func TestReleasesThatWaitForTheCompilerAreBounded(t *testing.T) {
	for name, size := range map[string]int{"many": 1, "large": maxJobBytes / 4} {
		outcomes := make(chan outcome, 1)
		c := newCompiler(&tiny{}, []string{"acme"}, func(o outcome) { outcomes <- o })
		body := make([]byte, size) // one, however many hold it
		held := 0
		for i := range 1000 {
			c.add(&job{release: uint64(i + 1), base: "sha256:x", body: body})
			bytes := 0
			for _, j := range c.jobs {
				bytes += len(j.body)
			}
			if held = max(held, len(c.jobs)); held > maxJobs || bytes > maxJobBytes {
				t.Fatalf("%s: %d jobs of %d bytes wait", name, len(c.jobs), bytes)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); c.run(ctx) }()
		if o := <-outcomes; o.release != 1000 || !errors.Is(o.err, bundles.ErrBase) {
			t.Errorf("%s: %+v, want a snapshot to be asked for", name, o)
		}
		stop()
		<-ended
	}
}

func TestAKeyRevokedWhileItsReleaseCompilesActivatesNothing(t *testing.T) {
	b := readyBench()
	b.held = true
	b.publish("allow everything")
	b.give(b.releaseFrame(nil))
	b.replaceKey(&b.releases, trustReleases)
	sealed := b.seal(b.m.active.Content, 2)
	b.give(stream.Frame{Header: stream.Header{Type: stream.TypeKeys, Manifest: sealed.Signed}, Body: []byte(b.signed)})
	b.out = nil
	b.compile()
	if b.m.active.Release != 2 || b.m.whyDenied() != "" || len(b.out) != 1 || b.out[0].Type != stream.TypeReject || !strings.Contains(b.out[0].Reason, "revoked") {
		t.Errorf("r%d, denied %q, %+v", b.m.active.Release, b.m.whyDenied(), b.out)
	}
}

func TestAManifestForSomethingElseDoesNotOpenWhatARevocationClosed(t *testing.T) {
	b := readyBench()
	b.replaceKey(&b.releases, trustReleases)
	other, err := bundles.NewContent([]bundles.File{{Path: "policy.txt", Data: []byte("allow everything")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, sealed := range []bundles.Sealed{b.seal(other, 2), b.seal(b.m.active.Content, 3), b.seal(b.m.active.Content, 1)} {
		b.give(stream.Frame{Header: stream.Header{Type: stream.TypeKeys, Manifest: sealed.Signed}, Body: []byte(b.signed)})
		if why := b.m.whyDenied(); !strings.Contains(why, "revoked") {
			t.Errorf("denied: %q", why)
		}
	}
}

// FuzzFrames gives a machine whatever comes, between frames that are right.
// Nothing that a node did not sign may change what is enforced.
func FuzzFrames(f *testing.F) {
	b := readyBench()
	for _, frame := range []stream.Frame{
		b.heartbeat(""), b.rangeFrom(0, true), b.releaseFrame(nil), body(stream.TypeKeys, b.signed),
		{Header: stream.Header{Type: stream.TypeBye, Reason: "r", RetryAfter: 1}},
	} {
		data, err := frame.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := stream.Decode(data, 1<<20)
		if err != nil {
			return
		}
		b := readyBench()
		before := b.facts()
		b.give(frame)
		if frame.Type == stream.TypeBye {
			return
		}
		if after := b.facts(); !reflect.DeepEqual(before[:3], after[:3]) {
			t.Errorf("%+v changed\n%+v\n%+v", frame.Header, before, after)
		}
	})
}
