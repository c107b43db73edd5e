package pep

import (
	"maps"
	"testing"

	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// A store that was restored from a backup has a log that ends lower. An old
// range that somebody replays looks the same, so nothing counts until a
// heartbeat speaks of what is held then.
func TestALogThatBeginsAnewLowerCountsOnceAHeartbeatSpeaksOfIt(t *testing.T) {
	b := readyBench()
	restored := b.position
	old := b.rangeFrom(0, true)
	entries := maps.Clone(b.entries)
	b.put(stream.EntryRestriction, "order.pay", valid(noon, noon.AddDate(1, 0, 0)))
	b.pass(stream.HeartbeatEvery)
	b.give(b.rangeFrom(restored, false), b.heartbeat(""))
	if f := b.m.clock.freshness(b.at, false); !f.Grants || b.m.log.position != restored+1 {
		t.Fatalf("at g%d: %+v", b.m.log.position, f)
	}

	b.give(old)
	if f := b.m.clock.freshness(b.at, false); f.Grants || b.m.whyDenied() == "" {
		t.Errorf("after an old range: %+v, and decisions are made", f)
	}
	b.pass(stream.HeartbeatEvery)
	b.give(b.heartbeat("")) // of a log that goes on: the range was replayed
	if f := b.m.clock.freshness(b.at, false); f.Grants || b.m.whyDenied() == "" {
		t.Errorf("after a heartbeat above what is held: %+v, and decisions are made", f)
	}
	b.entries, b.position = entries, restored
	b.pass(stream.HeartbeatEvery)
	b.give(b.heartbeat("")) // of a log that was restored
	if f := b.m.clock.freshness(b.at, false); !f.Grants || b.m.whyDenied() != "" || b.m.log.position != restored {
		t.Errorf("at g%d after its heartbeat: %+v, %s", b.m.log.position, f, b.m.whyDenied())
	}
}
