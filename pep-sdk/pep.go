package pep

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool/dirlock"
)

// drainWithin bounds how long Close ships decision records where its context
// has no deadline.
const drainWithin = 5 * time.Second

// ErrTenantNotServed means that the request is of a tenant that this PEP has
// no policies of.
var ErrTenantNotServed = errors.New("this PEP does not serve the tenant: see Config.Tenants")

// PEP asks and enforces. It is safe for concurrent use.
type PEP struct {
	config Config
	server *url.URL
	start  time.Time

	enforce *enforcement
	remote  *remote
	observe *observer
	lock    *dirlock.Lock
	records *records  // nil without an Engine
	disk    *disk     // nil without an Engine
	compile *compiler // nil without an Engine

	view  atomic.Pointer[view]
	calls chan func() // to the goroutine that owns what follows

	machine  *machine
	link     *link // nil: no connection
	alarms   alarms
	diskErr  error
	stop     context.CancelFunc
	routines sync.WaitGroup
	writing  sync.WaitGroup     // the disk
	endDisk  context.CancelFunc // nil without an Engine
	closing  sync.Once
	closed   <-chan struct{} // when Close begins
	closeErr error
}

// view is what decisions see of the machine. It is immutable.
type view struct {
	clock     clock
	revision  authz.Revision
	denied    string // why nothing is decided; empty where it is
	connected bool
	polling   bool
	rejected  string
	lastError string
	beat      time.Time
	changed   chan struct{} // closed when another view has another revision, or the connection changed
}

// New checks the configuration, takes the folder, loads the last known good
// state, and begins to connect. It does not wait for the server: see
// [PEP.WaitReady]. ctx bounds New alone; [PEP.Close] ends what it began.
func New(ctx context.Context, config Config) (*PEP, error) {
	config, server, err := config.complete()
	if err != nil {
		return nil, err
	}
	p := &PEP{
		config: config, server: server, start: time.Now(), enforce: newEnforcement(config),
		calls: make(chan func()),
	}
	p.remote = newRemote(&p.config, server)
	p.machine = &machine{root: config.Trust, audience: config.Tenants, id: config.ID, labels: config.Labels}
	p.machine.clock = newClock(p.instant(), config.GrantStale)
	p.view.Store(&view{changed: make(chan struct{})})
	if p.observe, err = newObserver(p); err != nil {
		return nil, fmt.Errorf("pep.Config: Meter: %w", err)
	}
	running, stop := context.WithCancel(context.Background())
	p.stop, p.closed = stop, running.Done()
	if config.Engine != nil {
		if err := p.open(ctx); err != nil {
			stop()
			return nil, errors.Join(err, p.observe.close())
		}
		p.publish()
		p.begin(running)
	}
	return p, nil
}

// open opens the folder and loads what it holds.
func (p *PEP) open(ctx context.Context) (err error) {
	dir := p.config.Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("pep.Config: Dir: %w", err)
	}
	if p.lock, err = dirlock.Acquire(dir, "pep.lock"); err != nil {
		return fmt.Errorf("pep.Config: Dir: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.lock.Release())
		}
	}()
	gap := func() { p.do(func() { p.act(p.machine.askLog("ranges were not kept on disk")) }) }
	if p.disk, err = newDisk(filepath.Join(dir, "state"), p.config.Log, gap, p.diskState); err != nil {
		return fmt.Errorf("pep.Config: Dir: %w", err)
	}
	if err := p.disk.load(ctx, p.machine, p.config.Engine, p.instant()); err != nil {
		return fmt.Errorf("load the last known good state: %w", err)
	}
	p.records, err = openRecords(filepath.Join(dir, "spool"), &p.config, p.server)
	if err != nil {
		return fmt.Errorf("pep.Config: Dir: %w", err)
	}
	return nil
}

// begin starts what goes on in the background.
func (p *PEP) begin(ctx context.Context) {
	p.compile = newCompiler(p.config.Engine, p.config.Tenants, func(o outcome) {
		p.do(func() { p.act(p.machine.worked(o, p.instant())) })
	})
	connector := connector{PEP: p, random: rand.Float64}
	for _, routine := range []func(context.Context){p.run, p.compile.run, connector.run} {
		p.routines.Go(func() { routine(ctx) })
	}
	// The disk goes on until they have ended, so that what they activated last
	// is what the next process begins with.
	writing, end := context.WithCancel(context.WithoutCancel(ctx))
	p.endDisk = end
	p.writing.Go(func() { p.disk.run(writing) })
}

// instant looks at the local clocks.
func (p *PEP) instant() instant {
	now := p.config.Now()
	return instant{mono: time.Since(p.start), wall: now.Round(0)}
}

// run is the goroutine that owns the machine.
func (p *PEP) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case call := <-p.calls:
			call()
		case <-ticker.C:
			p.act(p.machine.tick(p.instant()))
		}
		p.publish()
	}
}

// do runs f on the goroutine that owns the machine, and waits for it. False
// means that the PEP was closed.
func (p *PEP) do(f func()) bool {
	done := make(chan struct{})
	select {
	case p.calls <- func() { defer close(done); f() }:
		<-done
		return true
	case <-p.closed:
		return false
	}
}

// act does what the machine wants.
func (p *PEP) act(actions []action) {
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		switch {
		case a.send != nil && p.link != nil:
			if a.send.Type == "reject" {
				p.observe.rejected(a.send.Release != 0)
				p.config.Log.Warn("what the node sent is not taken", "release", a.send.Release, "position", a.send.Position, "reason", a.send.Reason)
			}
			p.publish() // what is said to be enforced is
			p.link.send(a.send)
		case a.work != nil:
			p.compile.add(a.work)
		case a.apply != nil:
			p.publish() // what ends with the change ends before it
			actions = append(a.apply.done(p.apply(a.apply.Change)), actions...)
		case a.save != nil:
			p.disk.save(a.save)
		case a.drop != nil && p.link != nil:
			p.link.cut(a.drop)
		}
	}
}

// apply is the engine's Apply; an engine that panics has changed nothing that
// can be relied upon, and what it was given is refused.
func (p *PEP) apply(c Change) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the engine panicked: %v", r)
		}
	}()
	return p.config.Engine.Apply(c)
}

// publish lets decisions see what the machine knows.
func (p *PEP) publish() {
	m := p.machine
	old := p.view.Load()
	v := &view{
		clock: m.clock, revision: m.revision(), denied: m.whyDenied(), connected: m.link.up, polling: m.link.polling,
		rejected: m.rejected, lastError: m.lastError, changed: old.changed,
	}
	if m.beat != nil {
		v.beat = m.beat.Time
	}
	same := v.revision == old.revision && v.denied == old.denied && v.connected == old.connected && v.polling == old.polling
	if !same {
		v.changed = make(chan struct{})
	}
	p.view.Store(v)
	if !same {
		close(old.changed)
	}
	p.alarm(v)
}

// diskState notes whether the disk takes the state.
func (p *PEP) diskState(err error) {
	p.do(func() {
		if (err == nil) != (p.diskErr == nil) {
			if err != nil {
				p.config.Log.Error("the last known good state cannot be written; decisions go on, a restart would begin with an older state", "dir", p.config.Dir, "error", err)
			} else {
				p.config.Log.Info("the last known good state is written again", "dir", p.config.Dir)
			}
		}
		p.diskErr = err
	})
}

// alarms are states that are told of when they change.
type alarms struct{ skew, stale, denied bool }

func (p *PEP) alarm(v *view) {
	at := p.instant()
	skew := v.clock.skew(at)
	now := alarms{skew: skew.Abs() > skewAlarm, stale: v.clock.freshness(at, !v.connected).Stale, denied: v.denied != ""}
	was := p.alarms
	p.alarms = now
	log := p.config.Log
	switch {
	case now.skew && !was.skew:
		log.Warn("clock_skew: the local clock is off and ignored", "ahead_by", skew)
	case was.skew && !now.skew:
		log.Info("clock_skew: the local clock is right again")
	}
	switch {
	case now.stale && !was.stale:
		log.Warn("stale: policies are not vouched for by a recent heartbeat", "revision", v.revision, "connected", v.connected, "error", v.lastError)
	case was.stale && !now.stale:
		log.Info("policies are vouched for again", "revision", v.revision)
	}
	switch {
	case now.denied && !was.denied:
		log.Warn("everything is denied", "reason", v.denied)
	case was.denied && !now.denied:
		log.Info("decisions are made again", "revision", v.revision)
	}
}

// WaitReady returns when the PEP can decide: with an Engine, when a release is
// active and a node has vouched for it in this process, or the state on disk
// is one that may decide; without one, at once.
func (p *PEP) WaitReady(ctx context.Context) error {
	if p.config.Engine == nil {
		return nil
	}
	for {
		v := p.view.Load()
		if v.denied == "" {
			return nil
		}
		select {
		case <-v.changed:
		case <-p.closed:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: %s (%s): %w", ErrNoState, v.denied, v.lastError, ctx.Err())
		}
	}
}

// Status says what the PEP knows of itself.
func (p *PEP) Status() Status {
	v, at := p.view.Load(), p.instant()
	s := Status{
		Connected: v.connected && !v.polling, Polling: v.polling, Stale: v.clock.freshness(at, !v.connected).Stale,
		Revision: v.revision, Heartbeat: v.beat, Now: v.clock.now(at), ClockSkew: v.clock.skew(at),
		LastError: v.lastError, Rejected: v.rejected, Enforced: p.enforce.counts(),
	}
	if p.config.Engine == nil {
		s.Stale = false
	}
	if p.records != nil {
		s.Records = p.records.counts()
	}
	return s
}

// Close ends the connection and ships decision records until ctx ends, at most
// 5 s where it has no deadline; what is left goes on at the next New. Decide
// fails with [ErrClosed] from now on.
func (p *PEP) Close(ctx context.Context) error {
	p.closing.Do(func() {
		p.stop()
		p.routines.Wait()
		if p.disk != nil {
			p.endDisk()
			p.writing.Wait()
		}
		if p.records != nil {
			if _, ok := ctx.Deadline(); !ok {
				bounded, cancel := context.WithTimeout(ctx, drainWithin)
				defer cancel()
				ctx = bounded
			}
			p.closeErr = p.records.close(ctx)
		}
		p.closeErr = errors.Join(p.closeErr, p.observe.close())
		if p.lock != nil {
			p.closeErr = errors.Join(p.closeErr, p.lock.Release())
		}
		p.config.HTTP.CloseIdleConnections()
	})
	return p.closeErr
}

// serves reports whether the PEP holds the policies of a tenant.
func (p *PEP) serves(tenant string) bool {
	return p.config.Tenants[0] == bundles.AllTenants || slices.Contains(p.config.Tenants, tenant)
}
