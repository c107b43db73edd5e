package stream

import (
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// A rotation may have been planned long before: nobody tells the hub when its
// hour has come, and PEPs believe what the key before signed for two minutes.
func TestWhatARetiredKeySignedIsSignedAnew(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	w.grant("acme", "grt-1", 24*time.Hour)
	n := w.node(t, "one")
	if _, err := trust.Rotate(w.dir, w.dir+"/root.pem", trust.PurposeLog, w.Now().Add(time.Hour), 24*time.Hour, w.Now()); err != nil {
		t.Fatal(err)
	}
	ring, err := trust.OpenRing(w.dir, w.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.ring = ring
	n.keys(t)
	n.sync()
	signedBy := func(id string) string {
		t.Helper()
		m := w.model(id, nil, "acme")
		l := n.dial(t, m)
		defer l.hangUp()
		l.settle(t)
		h := n.Hub
		h.mu.RLock()
		defer h.mu.RUnlock()
		for _, a := range h.audiences {
			frames, err := h.logFrames(a, rangeKey{reset: true})
			if err != nil {
				t.Fatal(err)
			}
			f, err := wire.Decode(frames[0], wire.MaxNodeFrame)
			if err != nil {
				t.Fatal(err)
			}
			kid, err := trust.Unverified(trust.KindLog, string(f.Body), &wire.LogRange{})
			if err != nil {
				t.Fatal(err)
			}
			return kid
		}
		t.Fatal("no audience")
		return ""
	}
	before := signedBy("a")
	w.pass(time.Hour + keepRanges)
	n.sync()
	if after := signedBy("b"); after == before {
		t.Error("a PEP that comes after the rotation is sent what the key before signed")
	}
}
