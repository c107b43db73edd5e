package pep

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

func TestAStateThatDiffersIsAskedForFromZero(t *testing.T) {
	b := readyBench()
	delete(b.m.log.entries, entryKey{stream.EntryRestriction, "acme", "order.refund"}) // lost, somehow
	b.pass(5 * time.Second)
	b.out = nil
	b.give(b.heartbeat(""), b.heartbeat(""))
	if len(b.out) != 1 || b.out[0].Type != stream.TypeResync || !b.out[0].Log {
		t.Fatalf("%+v", b.out)
	}
	b.give(b.rangeFrom(0, true))
	b.pass(time.Second)
	b.give(b.heartbeat(""))
	if f := b.m.clock.freshness(b.at, false); f.GrantsAge != 0 || len(b.m.log.entries) != 2 {
		t.Errorf("%+v, %v", f, b.m.log.entries)
	}
	if last := b.engine.applied[len(b.engine.applied)-1]; !last.Reset || len(last.Entries) != 2 {
		t.Errorf("%+v", last)
	}
}

func TestRangesThatBelongTogetherTakeEffectTogether(t *testing.T) {
	b := newBench()
	b.publish("allow order.create")
	b.position = 6
	part := func(from, to uint64, more, reset bool) stream.Frame {
		r := stream.LogRange{From: from, To: to, Tenants: b.tenants, More: more, Reset: reset}
		r.Entries = []stream.Entry{{Position: to, Kind: stream.EntryRestriction, Tenant: "acme", Key: fmt.Sprint("k", to), Body: json.RawMessage(`{"validity":{"end":"2030-01-01T00:00:00Z"}}`)}}
		return body(stream.TypeLog, sign(b.signer.log, trust.KindLog, r))
	}
	b.do(b.m.greet("nonce-of-this-hello", false, b.at))
	b.give(body(stream.TypeKeys, b.signed), part(0, 2, true, true), part(2, 4, true, true))
	if len(b.engine.applied) != 0 || b.m.log.position != 0 {
		t.Fatalf("half of it took effect: %+v", b.engine.applied)
	}
	b.out = nil
	b.give(part(5, 6, false, true)) // a gap between the parts
	if len(b.out) != 1 || b.out[0].Type != stream.TypeReject {
		t.Fatalf("%+v", b.out)
	}
	b.give(part(4, 6, false, false))
	if len(b.engine.applied) != 1 || len(b.engine.applied[0].Entries) != 3 || !b.engine.applied[0].Reset || b.m.log.position != 6 {
		t.Fatalf("%+v", b.engine.applied)
	}
	// A connection that ends in between leaves nothing.
	b.give(part(6, 7, true, false))
	b.m.lost()
	b.do(b.m.greet("nonce-of-the-next-hello", false, b.at))
	b.out = nil
	b.give(part(7, 8, false, false))
	if len(b.out) != 1 || b.out[0].Type != stream.TypeReject || b.m.log.position != 6 {
		t.Errorf("%+v", b.out)
	}
}

func TestARevokedLogKeyThatIsNotMendedClosesInTime(t *testing.T) {
	b := readyBench()
	b.replaceKey(&b.signer.log, trustLog)
	b.out = nil
	b.give(body(stream.TypeKeys, b.signed))
	if f := b.m.clock.freshness(b.at, false); f.Grants || b.m.whyDenied() != "" {
		t.Errorf("%+v, denied %q", f, b.m.whyDenied())
	}
	if !slices.ContainsFunc(b.out, func(f stream.Frame) bool { return f.Type == stream.TypeResync && f.Log }) {
		t.Errorf("%+v", b.out)
	}
	b.m.lost()
	b.pass(suspectFor)
	b.do(b.m.tick(b.at))
	if b.m.whyDenied() == "" {
		t.Error("entries of a stolen key count on")
	}
	b.connect()
	b.give(b.rangeFrom(0, true), b.heartbeat(""))
	if f := b.m.clock.freshness(b.at, false); !f.Grants || b.m.whyDenied() != "" {
		t.Errorf("%+v, denied %q", f, b.m.whyDenied())
	}
}

func TestWhatAChannelLosesIsAskedFor(t *testing.T) {
	b := readyBench()
	b.publish("allow order.pay")
	b.put(stream.EntryRestriction, "order.pay", valid(noon, noon.Add(time.Hour)))
	b.out = nil
	for range 4 { // neither the range nor the release ever comes
		b.pass(stream.HeartbeatEvery)
		b.give(b.heartbeat(""))
		b.do(b.m.tick(b.at))
	}
	i := slices.IndexFunc(b.out, func(f stream.Frame) bool { return f.Type == stream.TypeResync })
	if i < 0 || !b.out[i].Log || !b.out[i].Snapshot {
		t.Fatalf("%+v", b.out)
	}
	b.resyncs()
	if b.m.active.Release != 3 || b.m.log.position != 3 || b.m.clock.freshness(b.at, false).Stale {
		t.Errorf("%+v", b.m.held(b.at))
	}
}

// resyncs sends what was asked for.
func (b *bench) resyncs() { b.give(b.rangeFrom(0, true), b.heartbeat(""), b.releaseFrame(nil)) }

func TestSilenceAndSuspensionEndTheConnection(t *testing.T) {
	b := readyBench()
	b.pass(stream.SilentAfter - time.Second)
	b.do(b.m.tick(b.at))
	if len(b.drops) != 0 {
		t.Fatalf("%+v", b.drops)
	}
	b.pass(time.Second)
	b.do(b.m.tick(b.at))
	if len(b.drops) != 1 || !strings.Contains(b.drops[0].reason, "nothing was heard") {
		t.Errorf("%+v", b.drops)
	}
	b = readyBench()
	b.at.wall = b.at.wall.Add(time.Hour)
	b.give(b.heartbeat(""))
	if len(b.drops) != 1 || b.m.clock.freshness(b.at, false).Grants {
		t.Errorf("%+v, %+v", b.drops, b.m.clock.freshness(b.at, false))
	}
	b.m.lost()
	b.connect()
	if f := b.m.clock.freshness(b.at, false); !f.Grants || f.Stale {
		t.Errorf("connected anew: %+v", f)
	}
}

func TestByeSaysHowLongToStayAway(t *testing.T) {
	b := readyBench()
	b.give(stream.Frame{Header: stream.Header{Type: stream.TypeBye, Reason: "stopping", RetryAfter: time.Minute}})
	if len(b.drops) != 1 || b.drops[0].retryAfter != time.Minute {
		t.Errorf("%+v", b.drops)
	}
}

func TestAnOldRangeIsNotVouchedForByAHeartbeatOfBefore(t *testing.T) {
	b := readyBench()
	old := b.rangeFrom(0, true) // g2: a grant is live
	b.pass(time.Second)
	b.give(b.heartbeat("")) // of g2
	b.put(stream.EntryGrant, "order.delete", map[string]any{"ended": noon, "validity": map[string]any{"end": noon.Add(time.Hour)}})
	b.give(b.rangeFrom(2, false)) // g3: it was revoked, and this is acknowledged
	b.give(old)
	if f := b.m.clock.freshness(b.at, false); f.Grants || b.m.whyDenied() == "" {
		t.Errorf("at g%d: %+v, and decisions are made", b.m.log.position, f)
	}
	b.pass(time.Second)
	b.give(b.heartbeat(""))
	if f := b.m.clock.freshness(b.at, false); f.Grants || b.m.whyDenied() == "" {
		t.Errorf("after a heartbeat of g3: %+v, and decisions are made", f)
	}
	b.give(b.rangeFrom(0, true))
	if f := b.m.clock.freshness(b.at, false); !f.Grants || b.m.whyDenied() != "" {
		t.Errorf("mended: %+v, denied: %q", f, b.m.whyDenied())
	}
}

// A snapshot makes what waits for the compiler needless, before anybody has
// verified it. One of garbage takes a good release with it, which must then be
// asked for, whatever number the garbage bears.
func TestGarbageThatTakesAReleaseWithItDoesNotKeepItAway(t *testing.T) {
	for _, number := range []uint64{2, 3, 1 << 60} {
		b := readyBench()
		b.held = true
		b.publish("allow order.pay") // release 3
		b.give(b.releaseFrame(nil), stream.Frame{Header: stream.Header{Type: stream.TypeRelease, Release: number}, Body: []byte("garbage")})
		for _, j := range b.jobs {
			b.worker.add(j)
		}
		b.jobs = b.worker.jobs
		b.compile()
		b.held = false
		b.out = nil
		for range 4 {
			b.pass(stream.HeartbeatEvery)
			b.give(b.heartbeat(""))
			b.do(b.m.tick(b.at))
		}
		asked := slices.ContainsFunc(b.out, func(f stream.Frame) bool { return f.Type == stream.TypeResync && f.Snapshot })
		if want := number != 3; asked != want { // what bears its own number was refused as itself
			t.Errorf("garbage as release %d: asked for release 3: %t", number, asked)
		}
	}
}
