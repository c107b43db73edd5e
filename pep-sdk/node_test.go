package pep

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// signer is an installation's keys, written from the format alone.
type signer struct {
	root, releases, log ed25519.PrivateKey
	version             uint64
	keys                []trust.Key
	signed              string
	set                 *trust.Set
}

var signedFrom = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	return key
}

func listed(key ed25519.PrivateKey, purpose trust.Purpose) trust.Key {
	public := key.Public().(ed25519.PublicKey)
	return trust.Key{ID: trust.KeyID(public), Purpose: purpose, Algorithm: trust.EdDSA, Public: public, SignFrom: signedFrom}
}

func newSigner() *signer {
	s := &signer{root: newKey(), releases: newKey(), log: newKey()}
	s.keys = []trust.Key{listed(s.releases, trust.PurposeReleases), listed(s.log, trust.PurposeLog)}
	s.publish()
	return s
}

// publish signs a set of one version more.
func (s *signer) publish() {
	s.version++
	s.signed = s.setOf(s.version)
	var err error
	if s.set, err = s.trust().Open(s.signed, time.Time{}); err != nil {
		panic(err)
	}
}

func (s *signer) setOf(version uint64) string {
	return sign(s.root, trust.KindKeys, trust.SetBody(version, s.keys))
}

func (s *signer) trust() trust.Root {
	public := s.root.Public().(ed25519.PublicKey)
	return trust.Root{Installation: "test", Keys: []trust.RootKey{{ID: trust.KeyID(public), Public: public}}}
}

// replaceKey rotates a key, and revokes the one before it.
func (s *signer) replaceKey(key *ed25519.PrivateKey, purpose trust.Purpose) {
	old := trust.KeyID((*key).Public().(ed25519.PublicKey))
	for i := range s.keys {
		if s.keys[i].ID == old {
			s.keys[i].RevokedAt, s.keys[i].RevokedReason = time.Now(), "stolen"
		}
	}
	*key = newKey()
	s.keys = append(s.keys, listed(*key, purpose))
	s.publish()
}

func sign(key ed25519.PrivateKey, kind trust.Kind, body any) string {
	text, err := trust.Sign(key, "test", kind, body, time.Now())
	if err != nil {
		panic(err)
	}
	return text
}

// node is the other side of the protocol, in as few lines as the PEP's tests
// need, written from package stream's documentation. It can misbehave.
type node struct {
	*signer
	tenants []string
	url     string
	server  *http.Server
	accept  net.Listener

	mu       sync.Mutex
	contents map[string]*bundles.Content // by digest
	release  bundles.Sealed
	entries  map[string]stream.Entry
	position uint64
	conns    []*nodeConn
	frames   []stream.Frame // from PEPs, in order
	changed  chan struct{}
	beating  bool // answers hellos with a heartbeat, and beats
	sockets  bool // takes WebSockets
	polls    int
	clock    func() time.Time
	decide   http.HandlerFunc
	audit    http.HandlerFunc
	records  map[string]int // times that a record came, by id
	stopped  context.Context
	stop     context.CancelFunc
	serving  sync.WaitGroup
}

// nodeConn is one PEP's connection.
type nodeConn struct {
	hello stream.Hello
	conn  *websocket.Conn
	mu    sync.Mutex
}

func newNode(tenants ...string) *node {
	n := &node{
		signer: newSigner(), tenants: bundles.Audience(tenants), contents: map[string]*bundles.Content{}, entries: map[string]stream.Entry{},
		changed: make(chan struct{}), beating: true, sockets: true, clock: time.Now, records: map[string]int{},
	}
	n.decide = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "{}", http.StatusServiceUnavailable) }
	n.audit = n.takeRecords
	return n
}

// startNode starts a node on loopback.
func startNode(t testing.TB, tenants ...string) *node {
	n := newNode(tenants...)
	n.listen(t, "127.0.0.1:0")
	t.Cleanup(n.kill)
	return n
}

func (n *node) listen(t testing.TB, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	n.serve(listener, "http://"+listener.Addr().String())
}

func (n *node) serve(listener net.Listener, url string) {
	n.accept, n.url = listener, url
	n.stopped, n.stop = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/xiezhi", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"api":%q,"stream_url":%q}`, url, "ws"+url[len("http"):]+"/stream")
	})
	mux.HandleFunc("GET /stream", n.stream)
	mux.HandleFunc("POST /stream/poll", n.poll)
	mux.HandleFunc("POST /api/v1/decide", func(w http.ResponseWriter, r *http.Request) { n.decide(w, r) })
	mux.HandleFunc("POST /api/v1/audit/decisions", func(w http.ResponseWriter, r *http.Request) { n.audit(w, r) })
	n.server = &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return n.stopped }}
	n.serving.Go(func() { n.server.Serve(listener) })
	n.serving.Go(n.beats)
}

// kill ends the node as SIGKILL would: sockets break.
func (n *node) kill() {
	n.stop()
	n.server.Close()
	n.mu.Lock()
	for _, c := range n.conns {
		c.conn.CloseNow()
	}
	n.conns = nil
	n.mu.Unlock()
	n.serving.Wait()
}

func (n *node) beats() {
	ticker := time.NewTicker(stream.HeartbeatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			n.beat()
		case <-n.stopped.Done():
			return
		}
	}
}

// beat sends a heartbeat to all.
func (n *node) beat() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.beating {
		return
	}
	for _, c := range n.conns {
		c.write(n.heartbeat(""))
	}
}

func (n *node) heartbeat(nonce string) stream.Frame {
	return n.signedBeat(n.beatBody(nonce))
}

func (n *node) beatBody(nonce string) stream.Heartbeat {
	at := n.clock()
	b := stream.Heartbeat{Time: at, Node: "n1", Position: n.position, Keys: n.version, Tenants: n.tenants, Nonce: nonce}
	b.State, _ = stream.StateDigest(func(yield func(*stream.Entry) bool) {
		for _, e := range n.entries {
			if !yield(&e) {
				return
			}
		}
	}, at)
	if n.release.Release > 0 {
		b.Release, b.Digest = n.release.Release, n.release.Digest.String()
	}
	return b
}

func (n *node) signedBeat(b stream.Heartbeat) stream.Frame {
	dated := time.Now()
	if b.Time.After(dated) { // the node's clock is the test's
		dated = b.Time
	}
	text, err := trust.Sign(n.log, "test", trust.KindHeartbeat, b, dated)
	if err != nil {
		panic(err)
	}
	return body(stream.TypeHeartbeat, text)
}

func body(kind stream.Type, text string) stream.Frame {
	return stream.Frame{Header: stream.Header{Type: kind}, Body: []byte(text)}
}

func (c *nodeConn) write(f stream.Frame) {
	data, err := f.Append(nil)
	if err != nil {
		panic(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.Write(context.Background(), websocket.MessageBinary, data)
}

// lacks is what a PEP that said hello is to be sent.
func (n *node) lacks(h *stream.Hello, reset, snapshot bool) []stream.Frame {
	var frames []stream.Frame
	if h.Keys < n.version {
		frames = append(frames, body(stream.TypeKeys, n.signed))
	}
	if h.Position < n.position || reset {
		frames = append(frames, n.rangeFrom(h.Position, reset || h.Position == 0))
	}
	if n.beating {
		frames = append(frames, n.heartbeat(h.Nonce))
	}
	if h.Release < n.release.Release || snapshot {
		base := n.contents[h.Digest]
		if snapshot {
			base = nil
		}
		frames = append(frames, n.releaseFrame(base))
	}
	return frames
}

func (n *node) rangeFrom(from uint64, reset bool) stream.Frame {
	r := stream.LogRange{From: from, To: n.position, Tenants: n.tenants, Reset: reset}
	if reset {
		r.From = 0
	}
	for _, e := range n.entries {
		if e.Position > r.From {
			r.Entries = append(r.Entries, e)
		}
	}
	return body(stream.TypeLog, sign(n.log, trust.KindLog, r))
}

func (n *node) releaseFrame(base *bundles.Content) stream.Frame {
	var data bytes.Buffer
	f := stream.Frame{Header: stream.Header{Type: stream.TypeRelease, Release: n.release.Release}}
	content := n.contents[n.release.Digest.String()]
	var err error
	if base != nil {
		f.Base = base.Digest().String()
		err = bundles.WriteDelta(&data, n.release.Signed, base, content)
	} else {
		err = bundles.WriteSnapshot(&data, n.release.Signed, content)
	}
	if err != nil {
		panic(err)
	}
	f.Body = data.Bytes()
	return f
}

func (n *node) stream(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	sockets := n.sockets
	n.mu.Unlock()
	if !sockets {
		http.Error(w, "no sockets here", http.StatusNotFound)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{stream.Subprotocol}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	_, data, err := conn.Read(n.stopped)
	if err != nil {
		return
	}
	f, err := stream.Decode(data, stream.MaxPEPFrame)
	if err != nil || f.Hello == nil {
		return
	}
	c := &nodeConn{hello: *f.Hello, conn: conn}
	n.mu.Lock()
	n.saw(f)
	for _, f := range n.lacks(f.Hello, false, false) {
		c.write(f)
	}
	n.conns = append(n.conns, c)
	n.mu.Unlock()
	for {
		_, data, err := conn.Read(n.stopped)
		if err != nil {
			break
		}
		f, err := stream.Decode(data, stream.MaxPEPFrame)
		if err != nil {
			break
		}
		n.mu.Lock()
		n.saw(f)
		if f.Type == stream.TypeResync {
			n.resync(c, &f)
		}
		n.mu.Unlock()
	}
	n.mu.Lock()
	n.conns = slices.DeleteFunc(n.conns, func(other *nodeConn) bool { return other == c })
	n.mu.Unlock()
}

func (n *node) resync(c *nodeConn, f *stream.Frame) {
	if f.Log {
		c.write(n.rangeFrom(0, true))
		c.write(n.heartbeat(""))
	}
	if f.Snapshot {
		c.write(n.releaseFrame(nil))
	}
}

func (n *node) poll(w http.ResponseWriter, r *http.Request) {
	part, err := stream.ReadPart(r.Body, stream.MaxPEPFrame)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f, err := stream.Decode(part, stream.MaxPEPFrame)
	if err != nil || f.Hello == nil {
		http.Error(w, "want a hello", http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	n.polls++
	n.saw(f)
	current := f.Hello.Position == n.position && f.Hello.Release == n.release.Release
	changed := n.changed
	n.mu.Unlock()
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil && current {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		for held := true; held; {
			select {
			case <-timer.C:
				held = false
			case <-r.Context().Done():
				return
			case <-changed:
				n.mu.Lock()
				changed = n.changed
				held = f.Hello.Position == n.position && f.Hello.Release == n.release.Release
				n.mu.Unlock()
			}
		}
	}
	n.mu.Lock()
	var answer []byte
	for _, f := range n.lacks(f.Hello, false, false) {
		data, err := f.Append(nil)
		if err != nil {
			panic(err)
		}
		answer = stream.AppendPart(answer, data)
	}
	n.mu.Unlock()
	w.Write(answer)
}

// saw notes a frame of a PEP. The lock is held.
func (n *node) saw(f stream.Frame) {
	n.frames = append(n.frames, f)
	n.wake()
}

func (n *node) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// send sends a frame to all.
func (n *node) send(frames ...stream.Frame) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range frames {
		for _, c := range n.conns {
			c.write(f)
		}
	}
}

// cut breaks all sockets.
func (n *node) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.conn.CloseNow()
	}
}

// publish makes a release of one file's lines and sends it: as a delta to who
// holds the one before.
func (n *node) publish(policy string) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	content, err := bundles.NewContent([]bundles.File{{Path: "policy.txt", Data: []byte(policy)}})
	if err != nil {
		panic(err)
	}
	before := n.contents[n.release.Digest.String()]
	n.contents[content.Digest().String()] = content
	n.release = n.seal(content, n.release.Release+1)
	for _, c := range n.conns {
		c.write(n.releaseFrame(before))
		if n.beating {
			c.write(n.heartbeat(""))
		}
	}
	n.wake()
	return n.release.Release
}

func (n *node) seal(content *bundles.Content, release uint64) bundles.Sealed {
	m := bundles.ManifestFor(content, release, 0, n.tenants, time.Now())
	signed := sign(n.releases, trust.KindRelease, m)
	sealed, err := bundles.OpenManifest(n.set, signed, time.Time{})
	if err != nil {
		panic(err)
	}
	return sealed
}

// put writes an entry to the log and sends it. It returns its position.
func (n *node) put(kind stream.EntryKind, key string, body any) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	before := n.position
	n.position++
	n.entries[string(kind)+key] = stream.Entry{Position: n.position, Kind: kind, Tenant: n.tenants[0], Key: key, Body: text}
	for _, c := range n.conns {
		c.write(n.rangeFrom(before, before == 0))
		if n.beating {
			c.write(n.heartbeat(""))
		}
	}
	n.wake()
	return n.position
}

type validity struct {
	Validity struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	} `json:"validity"`
	Ended *time.Time `json:"ended,omitempty"`
}

func valid(from, to time.Time) (v validity) {
	v.Validity.Start, v.Validity.End = from, to
	return v
}

func (n *node) grant(action string, lasts time.Duration) uint64 {
	return n.put(stream.EntryGrant, action, valid(signedFrom, n.clock().Add(lasts)))
}

func (n *node) revoke(action string) uint64 {
	v := valid(signedFrom, n.clock().Add(time.Hour))
	ended := n.clock()
	v.Ended = &ended
	return n.put(stream.EntryGrant, action, v)
}

func (n *node) restrict(action string, lasts time.Duration) uint64 {
	return n.put(stream.EntryRestriction, action, valid(signedFrom, n.clock().Add(lasts)))
}

// wait returns the first frame from a PEP that is as wanted, from a place on.
func (n *node) wait(t testing.TB, from int, want func(*stream.Frame) bool) stream.Frame {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		n.mu.Lock()
		changed, frames := n.changed, n.frames
		n.mu.Unlock()
		for ; from < len(frames); from++ {
			if want(&frames[from]) {
				return frames[from]
			}
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("it did not come; what came is %+v", frames)
		}
	}
}

func (n *node) seen() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.frames)
}

func acked(release, position uint64) func(*stream.Frame) bool {
	return func(f *stream.Frame) bool {
		return f.Type == stream.TypeAck && f.Held.Release >= release && f.Held.Position >= position
	}
}

func ofType(kind stream.Type) func(*stream.Frame) bool {
	return func(f *stream.Frame) bool { return f.Type == kind }
}

// takeRecords is the door for decision records.
func (n *node) takeRecords(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	var batch struct {
		Records []struct {
			ID string `json:"id"`
		} `json:"records"`
	}
	if err == nil {
		err = json.Unmarshal(data, &batch)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	accepted, duplicates := 0, 0
	for _, record := range batch.Records {
		if n.records[record.ID]++; n.records[record.ID] > 1 {
			duplicates++
		} else {
			accepted++
		}
	}
	n.wake()
	fmt.Fprintf(w, `{"accepted":%d,"duplicates":%d,"refused":[]}`, accepted, duplicates)
}
