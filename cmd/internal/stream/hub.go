package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// Right is what a caller needs in every tenant that its PEP serves, and on the
// platform for all tenants.
const Right = "stream.subscribe"

// Guard says who calls and what the caller may do.
type Guard interface {
	access.Authenticator
	Allow(ctx context.Context, c access.Caller, right, tenant string) error
	// Standing asks without its credential whether a caller is still good.
	Standing(c access.Caller) error
	// Ground changes when what Allow answers by does.
	Ground() access.Ground
}

// Signer signs a body with the newest key of the kind's purpose.
type Signer func(kind trust.Kind, body any) (string, error)

// Store keeps what nodes signed for PEPs and what they know of them
// ([pap.PEPStore]).
type Store interface {
	KeepSeal(ctx context.Context, seal pap.Seal) (pap.Seal, error)
	Seals(ctx context.Context, release uint64, audience string) ([]pap.Seal, error)
	PutPEPs(ctx context.Context, peps []pap.PEP) error
}

// Config is what a Hub is handed. The fields up to Log are required.
type Config struct {
	Guard Guard
	// Content reads a release from the store: bases of deltas and of rollouts.
	Content func(ctx context.Context, release uint64) (*bundles.Content, pap.Release, error)
	PEPs    Store
	Node    string // name of this node
	// GrantStale is how long PEPs honour grants after a heartbeat.
	GrantStale time.Duration
	Now        func() time.Time // with a monotonic reading
	Log        *slog.Logger

	// Refused is told of PEPs that are not let in for their credential, its
	// rights or the protocol: at most once a minute for each credential, or
	// address without a good one. nil: nobody is told, and NewID is not needed.
	Refused func(record *authz.AuditRecord)
	NewID   func() string

	// Connections bounds those of all PEPs, polls included; PerTenant those of
	// one tenant's credentials, and of each subject of the platform's own;
	// default 32768 and half of Connections.
	Connections int
	PerTenant   int
	// Greeting bounds those who have not finished their hello; a tenant, or a
	// subject of the platform's, may be a quarter of them: so many of one tenant's
	// PEPs may come back at once. Default a quarter of Connections.
	Greeting int
	// HelloWithin is how long a PEP may take to say hello; default 5 s.
	HelloWithin time.Duration
}

// Times of a node that are no part of the protocol.
const (
	helloWithin = 5 * time.Second // Config.HelloWithin
	// ackWithin is how long a PEP may take over a release, compiling included.
	ackWithin = 2 * time.Minute
	// stallAfter is when a write gives up its place among the writers.
	stallAfter = 100 * time.Millisecond
	// freshRead is how old the last read of the store may be for the heartbeat
	// that answers a hello.
	freshRead = 2 * time.Second
	// phases spread heartbeats: each second one in five connections is due.
	phases = 5
	// stateEvery is how many heartbeats lie between two timed comparisons.
	stateEvery = 12

	tickEvery    = 250 * time.Millisecond
	recheckEvery = tickEvery
	remindEvery  = time.Minute // a failure that stays is logged again
	byeWithin    = 2 * time.Second
	// idleAudience is how long an audience without connections is kept.
	idleAudience = 5 * time.Minute

	writers  = 32
	builders = 2
	// maxStalled bounds writes that stall at one time; beyond it a connection
	// that stalls is dropped at once.
	maxStalled = 1024
)

// Hub pushes to PEPs. It is safe for concurrent use.
type Hub struct {
	config Config
	stats  counters
	queue  queue
	builds buildQueue
	view   view

	greetings greetings
	refusals  refusals
	// buffers are for what PEPs say: *bytes.Buffer.
	buffers sync.Pool

	// mu guards what follows. Writers hold it for reading while they compute
	// what a connection lacks; locks of audiences and connections come after it.
	mu        sync.RWMutex
	set       *trust.Set
	sign      Signer
	keysFrame []byte
	live      live
	head      authz.Revision
	read      time.Time // of the head; zero before the first
	releases  map[uint64]*release
	rollout   *pap.Rollout
	audiences map[string]*audience
	conns     map[*conn]struct{}
	byKey     map[string]*conn // the newest of each PEP
	perShare  map[string]int   // connections, by [shareOf]
	serial    uint64           // of connections and audiences
	closing   bool

	phase   uint64 // of heartbeats, counted up each second of reads
	phaseAt time.Time

	// Of Run's goroutine.
	startedAt   time.Time
	complained  time.Time // when a failure to write was logged last, zero after a success
	recheckedAt time.Time
	ground      access.Ground

	running   sync.WaitGroup // writers, builders, readers
	stalledMu sync.Mutex
	stalled   int
	stopped   bool
	base      context.Context // of connections; it ends with Run
	cancel    context.CancelFunc
}

// release is one that PEPs may have to hold.
type release struct {
	info    pap.Release
	subsets *pap.Subsets
}

// New returns a Hub that refuses PEPs until it has keys and was told of a read
// of the store.
func New(c Config) *Hub {
	if c.Connections == 0 {
		c.Connections = 32_768
	}
	if c.PerTenant == 0 {
		c.PerTenant = max(1, c.Connections/2)
	}
	if c.Greeting == 0 {
		c.Greeting = max(1, c.Connections/4)
	}
	if c.HelloWithin == 0 {
		c.HelloWithin = helloWithin
	}
	h := &Hub{
		config: c, live: newLive(), releases: map[uint64]*release{}, audiences: map[string]*audience{},
		conns: map[*conn]struct{}{}, byKey: map[string]*conn{}, perShare: map[string]int{},
	}
	h.queue.init()
	h.builds.init()
	h.view.init()
	h.base, h.cancel = context.WithCancel(context.Background())
	return h
}

// SetKeys replaces the keys. What a key signed that is revoked now is signed
// anew, and every PEP is sent the set, and a heartbeat with the next read. It
// is called before the first PEP is served, and again when the store's record
// of keys ([pap.KindKeys]) changes.
func (h *Hub) SetKeys(set *trust.Set, sign Signer) error {
	frame, err := encode(wire.Header{Type: wire.TypeKeys}, []byte(set.Signed()))
	if err != nil {
		return fmt.Errorf("key set: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.set != nil && set.Version() < h.set.Version() {
		return fmt.Errorf("key set: version %d: this node has %d already", set.Version(), h.set.Version())
	}
	h.set, h.sign, h.keysFrame = set, sign, frame
	for _, a := range h.audiences {
		h.forgetSigned(a)
	}
	for c := range h.conns {
		c.beatSoon() // grants do not count by the heartbeat of a revoked key
	}
	h.markAll(laneFast)
	h.markAll(laneSlow)
	return nil
}

// Update tells what one read of the store found; the calls come in order, one
// at a time. What cannot be understood, or does not follow what was told
// before, is logged and leaves PEPs as they are, without heartbeats: nothing is
// vouched for that is not known here.
func (h *Hub) Update(u feed.Update) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := h.read.IsZero()
	records, err := h.following(u, first)
	if err == nil {
		err = h.live.apply(records)
	}
	if err != nil {
		h.stats.failures.Add(1)
		h.config.Log.Error("PEPs cannot be told of a change and get no heartbeats", "error", err)
		return
	}
	if u.Release != nil && u.Content != nil {
		h.remember(*u.Release, u.Content)
	}
	moved, released := first || u.Head != h.head, first || u.Head.Release != h.head.Release
	h.head, h.read = u.Head, u.Read
	for i := range records {
		released = h.note(&records[i], first) || released
	}
	if released {
		h.forgetReleases()
	}
	if moved {
		h.markAll(laneFast)
	}
	if released {
		h.markAll(laneSlow)
	}
	h.beat(first)
}

// remember keeps a release at hand, and cuts it from the one before it as far as they
// are alike. The lock is held.
func (h *Hub) remember(info pap.Release, content *bundles.Content) *release {
	before, nearest := &pap.Subsets{}, uint64(0)
	for number, r := range h.releases {
		if nearest < number && number < info.Number {
			before, nearest = r.subsets, number
		}
	}
	r := &release{info: info, subsets: before.Next(content)}
	h.releases[info.Number] = r
	return r
}

// following returns the records that are new, and refuses a gap before them.
func (h *Hub) following(u feed.Update, first bool) ([]pap.Record, error) {
	if first {
		return u.Records, nil
	}
	known := h.head.Position
	records := slices.DeleteFunc(slices.Clone(u.Records), func(r pap.Record) bool { return r.Position <= known })
	for i := range records {
		if records[i].Position != known+uint64(i)+1 {
			return nil, fmt.Errorf("log position %d follows %d", records[i].Position, known+uint64(i))
		}
	}
	if u.Head.Position != known+uint64(len(records)) || u.Head.Release < h.head.Release {
		return nil, fmt.Errorf("the store is at %s, and %s with %d records after it is known here", u.Head, h.head, len(records))
	}
	return records, nil
}

// note takes the records that say who should get what. It reports whether
// targets changed.
func (h *Hub) note(r *pap.Record, first bool) bool {
	switch r.Kind {
	case pap.KindRollout:
		rollout, err := decode[pap.Rollout](r)
		if err != nil {
			h.config.Log.Error("cannot read a rollout", "position", r.Position, "error", err)
			return false
		}
		h.rollout = rollout
		return true
	case pap.KindPush:
		push, err := decode[pap.Push](r)
		if err != nil || first {
			return false // one from before this node is done, or some other's business
		}
		for c := range h.conns {
			if push.Reaches(c.caller.Tenant, c.hello.ID, c.hello.Labels) {
				c.mu.Lock()
				c.again(true, true)
				c.mu.Unlock()
			}
		}
		return true
	default:
		return false
	}
}

// beat marks the connections whose heartbeat is due by this read, and those
// that wait for one to answer their hello.
func (h *Hub) beat(first bool) {
	if h.phaseAt.IsZero() {
		h.phaseAt = h.read
	}
	due := uint64(0)
	for due < phases && h.read.Sub(h.phaseAt) >= wire.HeartbeatEvery/phases {
		h.phaseAt = h.phaseAt.Add(wire.HeartbeatEvery / phases)
		due++
	}
	if h.read.Sub(h.phaseAt) >= wire.HeartbeatEvery/phases {
		h.phaseAt = h.read // after a gap; none is made up for
	}
	h.phase += due
	var marked []*conn
	for c := range h.conns {
		if c.beatDue(h.phase, due) || first {
			marked = append(marked, c)
		}
	}
	h.queue.mark(marked, laneSlow)
}

// target is the release that a PEP should hold, given the one that it does.
func (h *Hub) target(c *conn, held uint64) uint64 {
	number := h.rollout.Target(h.head.Release, c.hello.ID, c.hello.Labels)
	if held > number && held <= h.head.Release {
		return h.head.Release // it was let in before, and goes back for nobody
	}
	return number
}

// forgetReleases keeps the newest ones: what is needed again is read again.
func (h *Hub) forgetReleases() {
	for number := range h.releases {
		if number+keepContents < h.head.Release && !(h.rollout != nil && h.rollout.Base == number) {
			delete(h.releases, number)
		}
	}
}

// markAll marks every connection. The lock is held.
func (h *Hub) markAll(l lane) {
	all := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		all = append(all, c)
	}
	h.queue.mark(all, l)
}

// Run serves until ctx ends, then says bye to every PEP, writes down what it
// knows of them and returns. It is called once.
func (h *Hub) Run(ctx context.Context) error {
	h.startedAt = h.config.Now()
	for range writers {
		h.startWriter()
	}
	for range builders {
		h.running.Go(h.build)
	}
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			h.tick(ctx)
		case <-ctx.Done():
			return h.stop(context.WithoutCancel(ctx))
		}
	}
}

// tick does what is due by time.
func (h *Hub) tick(ctx context.Context) {
	now := h.config.Now()
	h.recheck(ctx, now)
	h.overdue(now)
	h.audit(h.refusals.due(now))
	h.mu.Lock()
	h.expire(now)
	h.mu.Unlock()
	err := h.flush(ctx, now)
	switch {
	case err == nil:
		h.complained = time.Time{}
	case ctx.Err() == nil:
		h.stats.failures.Add(1)
		if now.Sub(h.complained) >= remindEvery {
			h.complained = now
			h.config.Log.Warn("cannot write down the state of PEPs; it is tried again", "error", err)
		}
	}
}

// expire forgets audiences that nobody is of, and entries that are over.
func (h *Hub) expire(now time.Time) {
	for name, a := range h.audiences {
		if len(a.members) == 0 && now.Sub(a.idleSince) > idleAudience {
			delete(h.audiences, name)
		}
	}
	if h.read.IsZero() || now.Sub(h.live.dropped) < time.Minute {
		return
	}
	h.live.dropped = now
	h.live.drop(h.read)
}

func (h *Hub) stop(ctx context.Context) error {
	h.mu.Lock()
	h.closing = true
	all := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		all = append(all, c)
	}
	h.mu.Unlock()
	spread := 100*time.Millisecond + time.Duration(len(all))*100*time.Microsecond
	for _, c := range all {
		c.leave("the node stops", 50*time.Millisecond+rand.N(spread))
	}
	h.queue.mark(all, laneFast)
	deadline := time.NewTimer(byeWithin)
	defer deadline.Stop()
	select {
	case <-h.queue.drained(): // every bye is written
	case <-deadline.C:
	}
	h.stalledMu.Lock()
	h.stopped = true
	h.stalledMu.Unlock()
	h.cancel()
	h.queue.close()
	h.builds.close()
	for _, c := range all {
		c.drop()
	}
	h.running.Wait()
	h.audit(h.refusals.rest())
	ctx, cancel := context.WithTimeout(ctx, byeWithin)
	defer cancel()
	if err := h.flush(ctx, h.config.Now()); err != nil {
		return fmt.Errorf("write down the state of PEPs: %w", err)
	}
	return nil
}

// errNotReady is the answer before the hub has keys and a read of the store.
var errNotReady = errors.New("this node has no keys, or has not read the store yet")
