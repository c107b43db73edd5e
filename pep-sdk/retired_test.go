package pep

import (
	"crypto/ed25519"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// rotating is a bench whose log key is to be replaced a minute after noon. Both
// keys are in the set from the start.
func rotating() (b *bench, before, after ed25519.PrivateKey) {
	b = newBench()
	before, after = b.signer.log, newKey()
	at := noon.Add(time.Minute)
	for i := range b.keys {
		if b.keys[i].Purpose == trust.PurposeLog {
			b.keys[i].SignUntil, b.keys[i].VerifyUntil = at, at.Add(30*24*time.Hour)
		}
	}
	next := listed(after, trust.PurposeLog)
	next.SignFrom = at
	b.keys = append(b.keys, next)
	b.signer.publish()
	b.publish("review order.delete")
	return b, before, after
}

// dated signs something as a node would that has the key, and says when.
func dated(key ed25519.PrivateKey, kind trust.Kind, typ stream.Type, what any, when time.Time) stream.Frame {
	text, err := trust.Sign(key, "test", kind, what, when)
	if err != nil {
		panic(err)
	}
	return body(typ, text)
}

// grants is a range that grants order.delete.
func (b *bench) grants(from uint64, key ed25519.PrivateKey, when time.Time) stream.Frame {
	text, err := json.Marshal(valid(noon.Add(-time.Hour), noon.Add(24*time.Hour)))
	if err != nil {
		panic(err)
	}
	return dated(key, trust.KindLog, stream.TypeLog, stream.LogRange{
		From: from, To: from + 1, Tenants: b.tenants, Reset: from == 0,
		Entries: []stream.Entry{{Position: from + 1, Kind: stream.EntryGrant, Tenant: "acme", Key: "order.delete", Body: text}},
	}, when)
}

func (b *bench) beatOf(key ed25519.PrivateKey, position uint64, nonce string) stream.Frame {
	beat := b.beatBody(nonce)
	beat.Position, beat.State = position, ""
	return dated(key, trust.KindHeartbeat, stream.TypeHeartbeat, beat, beat.Time)
}

func (b *bench) says(typ stream.Type) bool {
	return slices.ContainsFunc(b.out, func(f stream.Frame) bool { return f.Type == typ })
}

func TestARetiredLogKeySignsNothingNewOnTheWire(t *testing.T) {
	b, before, after := rotating()
	b.pass(50 * time.Second)
	b.do(b.m.greet("nonce-of-this-hello", false, b.at))
	b.give(body(stream.TypeKeys, b.signed), b.beatOf(before, 0, "nonce-of-this-hello"))

	b.pass(30 * time.Second) // it was signed before the rotation and is read after it
	b.out = nil
	b.give(b.grants(0, before, noon.Add(59*time.Second)))
	if b.m.log.position != 1 || b.says(stream.TypeReject) {
		t.Fatalf("on its way during the rotation: g%d, %+v", b.m.log.position, b.out)
	}
	for range 12 { // heartbeats go on
		b.pass(stream.HeartbeatEvery)
		b.give(b.beatOf(after, 1, ""))
	}
	b.pass(onTheWay)
	b.give(b.beatOf(after, 1, ""))
	b.out = nil
	b.give(b.grants(1, before, noon.Add(59*time.Second)))
	if b.m.log.position != 1 || !b.says(stream.TypeReject) || !strings.Contains(b.m.lastError, "retired") {
		t.Errorf("what a thief dates back: g%d, %+v", b.m.log.position, b.out)
	}
	if b.give(b.beatOf(after, 1, "")); len(b.drops) != 0 || !b.m.clock.freshness(b.at, false).Grants {
		t.Errorf("the connection does not go on: %+v", b.drops)
	}
	b.give(b.grants(1, after, noon.Add(b.at.mono)))
	if b.m.log.position != 2 {
		t.Errorf("its heir: g%d, %s", b.m.log.position, b.m.lastError)
	}
}

// A connection begins with the log, and what time it is only the heartbeat
// after it says.
func TestARetiredLogKeyIsFoundOutByTheFirstHeartbeat(t *testing.T) {
	b, before, after := rotating()
	b.pass(time.Hour)
	b.do(b.m.greet("nonce-of-this-hello", false, b.at))
	b.give(body(stream.TypeKeys, b.signed), b.releaseFrame(nil), b.grants(0, before, noon))
	b.m.lost() // it may be another connection
	b.do(b.m.greet("nonce-of-the-next-hello", false, b.at))
	b.out = nil
	b.give(b.beatOf(after, 1, "nonce-of-the-next-hello"))
	if f := b.m.clock.freshness(b.at, false); f.Grants || b.m.whyDenied() == "" || !b.says(stream.TypeResync) {
		t.Fatalf("%+v, denied %q, %+v", f, b.m.whyDenied(), b.out)
	}
	b.give(b.grants(0, before, noon)) // it is known now
	if !b.says(stream.TypeReject) {
		t.Errorf("%+v", b.out)
	}
	b.give(b.grants(0, after, noon.Add(time.Hour)), b.beatOf(after, 1, ""))
	b.pass(stream.HeartbeatEvery)
	b.give(b.beatOf(after, 1, ""))
	if f := b.m.clock.freshness(b.at, false); !f.Grants || b.m.whyDenied() != "" {
		t.Errorf("the log has come anew: %+v, denied %q", f, b.m.whyDenied())
	}
}

func TestAHeartbeatOfARetiredKeyVouchesForNothing(t *testing.T) {
	b, before, after := rotating()
	b.pass(50 * time.Second)
	b.do(b.m.greet("nonce-of-this-hello", false, b.at))
	b.give(body(stream.TypeKeys, b.signed), b.grants(0, before, noon), b.beatOf(before, 1, "nonce-of-this-hello"))
	b.pass(onTheWay + time.Minute)
	beat := b.beatBody("")
	beat.Position, beat.State, beat.Time = 1, "", noon.Add(100*time.Second) // the most that its key may say
	b.out = nil
	b.give(dated(before, trust.KindHeartbeat, stream.TypeHeartbeat, beat, noon.Add(59*time.Second)))
	if !b.says(stream.TypeReject) || b.m.clock.freshness(b.at, false).Grants {
		t.Errorf("%+v, %s", b.out, b.m.lastError)
	}
	b.give(b.beatOf(after, 1, ""))
	if f := b.m.clock.freshness(b.at, false); !f.Grants || len(b.drops) != 0 {
		t.Errorf("its heir: %+v, %+v", f, b.drops)
	}
}

func TestRangesOfARetiredKeyCountOnDisk(t *testing.T) {
	b, before, _ := rotating()
	b.pass(time.Hour)
	b.m.keys = b.set
	b.m.clock.highest = noon.Add(time.Hour)
	b.do(b.m.takeLog(string(b.grants(0, before, noon).Body), b.at)) // no connection: as the disk's are
	if b.m.log.position != 1 {
		t.Errorf("g%d: %s", b.m.log.position, b.m.lastError)
	}
}

func TestANodeThatIsFarBehindIsDroppedAndTheReasonStays(t *testing.T) {
	b := readyBench()
	b.m.lost()
	b.clock = func() time.Time { return noon.Add(b.at.mono - time.Hour) }
	b.pass(time.Minute)
	b.connect()
	f := b.m.clock.freshness(b.at, false)
	if len(b.drops) != 1 || !strings.Contains(b.m.lastError, "does not bear the node out") || f.Grants {
		t.Errorf("%+v, %q, %+v", b.drops, b.m.lastError, f)
	}
	b.m.lost()
	b.clock = func() time.Time { return noon.Add(b.at.mono) }
	b.connect()
	if f := b.m.clock.freshness(b.at, false); !f.Grants || b.m.lastError != "" {
		t.Errorf("another node: %+v, %q", f, b.m.lastError)
	}
}
