package stream

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

func TestThoseWhoSayNoHelloKeepNobodyElseFromIt(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t, "one")
	s.config.Greeting = 2 * greetingShare
	s.config.HelloWithin = time.Minute
	s.sync()
	silent := map[string][]*websocket.Conn{}
	open := func(tenant string) {
		t.Helper()
		ws, err := s.dialAs(tenant + " shop")
		if err != nil {
			t.Fatal(err)
		}
		silent[tenant] = append(silent[tenant], ws)
	}
	isFull := func(what, token string) {
		t.Helper()
		if _, err := s.dialAs(token); err == nil || !strings.Contains(err.Error(), "status 503, retry after 5") {
			t.Errorf("%s: %v", what, err)
		}
	}
	open("acme")
	open("acme")
	isFull("a tenant's third", "acme another")
	if status, err := s.pollAs("acme another", w.model("poller", nil, "acme"), "0s"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("a tenant's third, that polls: status %d, %v", status, err)
	}
	for _, tenant := range []string{"globex", "initech", "umbrella"} {
		open(tenant)
		open(tenant)
	}
	isFull("one more than all", "hooli shop")
	s.hello(silent["acme"][0], w.model("one", nil, "acme")).until("its greeting", at(0, 0)) // makes room
	free := func(token string) {
		t.Helper()
		eventually(t, "a place is free for "+token, func() bool {
			_, err := s.dialAs(token)
			return err == nil
		})
	}
	free("hooli shop")
	if err := silent["globex"][0].CloseNow(); err != nil { // so does who leaves
		t.Fatal(err)
	}
	free("globex another")
}

// frames is a frame so many times.
func frames(n int, header wire.Header) [][]byte {
	return slices.Repeat([][]byte{mustFrame(header, nil)}, n)
}

func TestWhoPollsMaySayNoMoreThanOnASocket(t *testing.T) {
	w := newWorld(t)
	w.grant("acme", "grt-1", time.Hour)
	s := w.serve(t, "one")
	s.sync()
	reject := wire.Header{Type: wire.TypeReject, Release: 7, Reason: "x"}
	resync := wire.Header{Type: wire.TypeResync, Log: true}
	polls := func(id string, want int, says ...[]byte) {
		t.Helper()
		if status, err := s.poll(w.model(id, nil, "acme"), "0s", says...); err != nil || status != want {
			t.Errorf("%s: status %d, %v, want %d", id, status, err, want)
		}
	}
	polls("rejects", http.StatusOK, frames(unasked-1, reject)...)
	polls("rejects", http.StatusTooManyRequests, frames(unasked-1, reject)...)
	for range 3 { // each is sent keys, the log and a heartbeat
		polls("rejects", http.StatusOK)
	}
	polls("rejects", http.StatusTooManyRequests, frames(1, reject)...)
	if n := s.Stats().Rejects; n > 2*unasked {
		t.Errorf("%d rejects are taken of one that polls", n)
	}
	polls("garbage", http.StatusBadRequest, append(frames(unasked-2, reject), []byte("x"))...)
	polls("garbage", http.StatusTooManyRequests, frames(3, reject)...)
	for range maxResyncs {
		polls("resyncs", http.StatusOK, frames(1, resync)...)
	}
	polls("resyncs", http.StatusTooManyRequests, frames(1, resync)...)
	polls("resyncs", http.StatusOK)
	polls("another", http.StatusOK, frames(1, resync)...)
	w.pass(time.Minute + time.Second)
	s.sync()
	polls("resyncs", http.StatusOK, frames(1, resync)...)
	polls("rejects", http.StatusOK, frames(1, reject)...)
}

func TestALogThatIsRefusedInAPollIsNotSentAgainAtOnce(t *testing.T) {
	w := newWorld(t)
	w.grant("acme", "grt-1", time.Hour)
	s := w.serve(t, "one")
	s.sync()
	m := w.model("poller", nil, "acme")
	polls := func(says ...[]byte) bool {
		t.Helper()
		m.kinds, m.held.Position = nil, 0
		if status, err := s.poll(m, "0s", says...); err != nil || status != http.StatusOK {
			t.Fatalf("status %d, %v", status, err)
		}
		return slices.Contains(m.kinds, wire.TypeLog)
	}
	if !polls() || polls(mustFrame(wire.Header{Type: wire.TypeReject, Position: 1, Reason: "x"}, nil)) || polls() {
		t.Errorf("it is sent %v", m.kinds)
	}
	w.pass(wire.HeartbeatEvery)
	s.sync()
	if !polls() {
		t.Error("it is not sent again later either")
	}
}

// member is a text of a record's body.
func member(r authz.AuditRecord, name string) string {
	v, _ := r.Body.Get(name)
	return v.Text()
}

func count(r authz.AuditRecord) string {
	v, _ := r.Body.Get("count")
	return string(v.AppendJSON(nil))
}

func TestWhoIsRefusedIsWrittenDownOnceAMinute(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t, "one")
	s.sync()
	written := func(what string, n int) authz.AuditRecord {
		t.Helper()
		eventually(t, what, func() bool { return len(s.audit.records()) == n })
		r := s.audit.records()[n-1]
		if r.Kind != authz.AuditAccess || r.Effect != "DENY" || r.Action != Right || r.ID == "" || !r.Time.Equal(w.Now()) ||
			member(r, "address") != "127.0.0.1" || member(r, "why") == "" {
			t.Errorf("%s: %+v", what, r)
		}
		if strings.Contains(string(r.AppendJSON(nil)), "hunter2") {
			t.Errorf("%s tells the credential: %s", what, r.AppendJSON(nil))
		}
		return r
	}
	for range 3 {
		if _, err := s.dialAs("hunter2"); err == nil {
			t.Fatal("a bad token is taken")
		}
	}
	if r := written("a bad token", 1); r.Actor != "" || r.Tenant != "" || count(r) != "1" {
		t.Errorf("%+v", r)
	}
	s.connect(w.model("neighbour", nil, "globex")).ends()
	if r := written("a tenant that is not served", 2); r.Actor != "service:shop" || r.Tenant != "acme" || member(r, "token") != "acme shop" || member(r, "tenant") != "globex" {
		t.Errorf("%+v", r)
	}
	if _, err := s.poll(w.model("neighbour", nil, "globex"), "0s"); err != nil {
		t.Fatal(err)
	}
	w.pass(refusedEvery)
	eventually(t, "the rest of the minute", func() bool { return len(s.audit.records()) == 4 })
	counts := []string{count(s.audit.records()[2]), count(s.audit.records()[3])}
	slices.Sort(counts)
	if !slices.Equal(counts, []string{"1", "2"}) {
		t.Errorf("of the rest, so many: %v", counts)
	}
	ws, err := s.dialAs("acme garbler")
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if r := written("no hello", 5); r.Actor != "service:garbler" || member(r, "operation") != "pepStream" {
		t.Errorf("%+v", r)
	}
	old, _, err := websocket.Dial(t.Context(), s.url+Path, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer acme old"}}, Subprotocols: []string{"xiezhi.v0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.CloseNow() }()
	if r := written("another protocol", 6); r.Actor != "service:old" {
		t.Errorf("%+v", r)
	}
	for range 2 {
		if _, err := s.poll(w.model("neighbour", nil, "globex"), "0s"); err != nil {
			t.Fatal(err)
		}
	}
	s.stop()
	if r := written("what is left when the node stops", 7); count(r) != "2" || member(r, "operation") != "pepPoll" {
		t.Errorf("%+v", r)
	}
}

func TestRefusalsOfManyAddressesAreAFewRecords(t *testing.T) {
	var r refusals
	now := time.Now()
	written := 0
	for i := range 4 * maxRefused {
		written += len(r.note(&visitor{address: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), kind: "stream"}, access.ErrUnauthenticated, now))
	}
	if written > maxRefused+1 || len(r.of) > maxRefused+1 {
		t.Errorf("%d records, %d kept", written, len(r.of))
	}
	due := r.due(now.Add(refusedEvery))
	if len(due) != 1 || due[0].count != 3*maxRefused-1 || due[0].who.address != "others" {
		t.Errorf("%d are due: %+v", len(due), due)
	}
	if r.due(now.Add(2 * refusedEvery)); len(r.of) != 0 {
		t.Errorf("%d are kept when all is quiet", len(r.of))
	}
	for i, why := range []string{strings.Repeat("x", 10_000), "a\x00b", "a\xffb"} {
		all := r.note(&visitor{address: fmt.Sprint(i)}, errors.New(why), now)
		if len(all) != 1 || len(all[0].why) > 5000 || strings.Contains(all[0].why, "\x00") || !utf8.ValidString(all[0].why) {
			t.Errorf("%.10q is written as %.20q", why, all[0].why)
		}
	}
}
