package stream

import (
	"net/http"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// What halts a rollout is a rejection of what was really sent; a PEP may say
// any number in a poll, since another node may have answered the one before.
func TestWhatAPEPWasSentIsWrittenDown(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	s.connect(w.model("socket", nil, "acme")).until("release 1", at(1, 0))
	eventually(t, "the PAP sees what the socket brought", func() bool { return w.pep("acme/service:shop/socket").Offered == 1 })

	poller := w.model("poller", nil, "acme")
	poll := func(more ...[]byte) {
		t.Helper()
		if status, err := s.poll(poller, "0s", more...); err != nil || status != http.StatusOK {
			t.Fatalf("status %d, %v", status, err)
		}
	}
	poll()
	poll(mustFrame(wire.Header{Type: wire.TypeReject, Release: 7, Reason: "guessed"}, nil))
	eventually(t, "the PAP sees the rejection", func() bool {
		p := w.pep("acme/service:shop/poller")
		return p.RejectedRelease() == 7
	})
	if p := w.pep("acme/service:shop/poller"); p.Offered != 1 {
		t.Errorf("it was sent release %d, says the PAP", p.Offered)
	}
}

func TestAPEPThatCannotBeListedIsTurnedAway(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	listed, beyond := s.connect(w.model("listed", nil, "acme")), w.model("beyond", nil, "acme")
	listed.until("release 1", at(1, 0))
	w.breakPEPs(&pap.TooManyPEPsError{Most: 1, Keys: []string{"acme/service:shop/beyond"}})
	bye := s.connect(beyond).ends()
	if bye == nil || !strings.Contains(bye.Reason, "as many connected PEPs") || bye.RetryAfter != unlistedFor {
		t.Fatalf("%+v", bye)
	}
	w.breakPEPs(nil)
	if status, err := s.poll(beyond, "0s"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("it polls: status %d, %v", status, err)
	}
	w.pass(unlistedFor)
	s.sync()
	if status, err := s.poll(beyond, "0s"); err != nil || status != http.StatusOK {
		t.Errorf("a minute later: status %d, %v", status, err)
	}
	w.grant("acme", "grt-1", unlistedFor)
	s.sync()
	listed.until("what comes after", at(1, 1))
}
