package stream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// poll is one poll of a PEP of acme's.
func (s *served) poll(m *model, wait string, more ...[]byte) (status int, err error) {
	return s.pollAs("acme shop", m, wait, more...)
}

func (s *served) pollAs(as string, m *model, wait string, more ...[]byte) (status int, err error) {
	body := wire.AppendPart(nil, m.greet())
	for _, part := range more {
		body = wire.AppendPart(body, part)
	}
	req, err := http.NewRequest(http.MethodPost, s.url+PollPath+"?wait="+wait, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+as)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return answer.StatusCode, nil
	}
	for {
		part, err := wire.ReadPart(answer.Body, wire.MaxNodeFrame)
		if err == io.EOF {
			return answer.StatusCode, nil
		}
		if err == nil {
			_, err = m.take(part)
		}
		if err != nil {
			return answer.StatusCode, err
		}
	}
}

func TestPollingGoesThroughTheSameStates(t *testing.T) {
	w := newWorld(t)
	w.grant("acme", "grt-1", time.Hour)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.config.HelloWithin = 200 * time.Millisecond
	s.sync()
	m := w.model("poller", nil, "acme")
	must := func(wait string, more ...[]byte) {
		t.Helper()
		m.kinds = nil
		if status, err := s.poll(m, wait, more...); err != nil || status != http.StatusOK {
			t.Fatalf("status %d, %v", status, err)
		}
		if !m.greeted {
			t.Fatalf("no heartbeat with the nonce among %v", m.kinds)
		}
	}
	must("0s")
	w.mustAgree(t, m)
	if m.held.Release != 1 {
		t.Fatalf("it holds %+v after %v", m.held, m.kinds)
	}
	must("0s")
	if !slices.Equal(m.kinds, []wire.Type{wire.TypeHeartbeat}) {
		t.Errorf("where nothing is new it is sent %v", m.kinds)
	}
	polled := make(chan error, 1)
	go func() {
		_, err := s.poll(m, "30s")
		polled <- err
	}()
	eventually(t, "it waits", func() bool { return s.Stats().Connections == 1 })
	<-time.After(2 * s.config.HelloWithin) // a wait is not bound by what bounds the hello
	w.revoke("acme", "grt-1")
	s.sync()
	if err := <-polled; err != nil {
		t.Fatal(err)
	}
	w.mustAgree(t, m)
	m.refuse = func(*bundles.Bundle) error { return errors.New("does not compile") }
	w.publish(map[string]string{"platform/p": "2"})
	s.sync()
	must("0s")
	releases := len(m.bases)
	must("0s") // it may still be compiling
	must("0s", mustFrame(wire.Header{Type: wire.TypeReject, Release: 2, Reason: "does not compile"}, nil))
	must("0s")
	if len(m.bases) != releases || m.held.Release != 1 {
		t.Errorf("a refused release is sent again: %d times more", len(m.bases)-releases)
	}
	m.refuse = nil
	must("0s", mustFrame(wire.Header{Type: wire.TypeResync, Snapshot: true, Log: true}, nil))
	if m.held.Release != 2 || m.bases[len(m.bases)-1] != "" {
		t.Errorf("after a resync it holds %+v", m.held)
	}
	eventually(t, "the PAP sees it", func() bool {
		p := w.pep("acme/service:shop/poller")
		return p.Kind == "poll" && p.Connected && p.Rejects == 1 && p.Rejected != nil
	})
	w.pass(pollGone + time.Second)
	eventually(t, "the PAP sees that it polls no more", func() bool { return !w.pep("acme/service:shop/poller").Connected })
	for name, part := range map[string][]byte{
		"an ack": m.ack(), "garbage": []byte("x"), "a second hello": m.greet(),
	} {
		if status, err := s.poll(m, "0s", part); err != nil || status != http.StatusBadRequest {
			t.Errorf("%s in a poll: status %d, %v", name, status, err)
		}
	}
	if status, err := s.poll(m, "61s"); err != nil || status != http.StatusBadRequest {
		t.Errorf("a wait over the bound: status %d, %v", status, err)
	}
	if status, err := s.poll(w.model("x", nil, "globex"), "0s"); err != nil || status != http.StatusForbidden {
		t.Errorf("another tenant: status %d, %v", status, err)
	}
}

func TestATenantThatPollsUnderManyNamesKeepsNobodyElseFromPolling(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t, "one")
	s.sync()
	s.config.PerTenant, s.config.Connections = 2, 3
	for id, want := range []int{http.StatusOK, http.StatusOK, http.StatusServiceUnavailable, http.StatusServiceUnavailable} {
		if status, err := s.poll(w.model(strconv.Itoa(id), nil, "acme"), "0s"); status != want || err != nil {
			t.Errorf("the tenant's PEP %d: status %d, %v, want %d", id, status, err, want)
		}
	}
	if status, err := s.poll(w.model("0", nil, "acme"), "0s"); status != http.StatusOK || err != nil {
		t.Errorf("one that polled before: status %d, %v", status, err)
	}
	if status, err := s.pollAs("globex shop", w.model("other", nil, "globex"), "0s"); status != http.StatusOK || err != nil {
		t.Errorf("another tenant's: status %d, %v", status, err)
	}
	w.pass(pollGone + time.Second)
	eventually(t, "those that are gone make room", func() bool {
		status, err := s.poll(w.model("new", nil, "acme"), "0s")
		return status == http.StatusOK && err == nil
	})
}
