package pep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// Bounds of releases that wait for the compiler: how many, and their bytes.
// Deltas build on each other, so all are read; only the newest is compiled.
const (
	maxJobs     = 8
	maxJobBytes = stream.MaxNodeFrame
)

// job is a release that came, to be read, verified and compiled.
type job struct {
	serial  uint64 // counts the jobs of a machine
	release uint64
	base    string // digest that the body is a delta on; empty: a snapshot
	body    []byte
	keys    *trust.Set
	now     time.Time
	active  *bundles.Bundle // when it came; may be what a delta starts from
}

// outcome is what became of a job.
type outcome struct {
	release  uint64
	bundle   *bundles.Bundle
	compiled Compiled // nil where the content is the active release's
	err      error    // wraps bundles.ErrBase where a snapshot is needed
	over     uint64   // no job of this serial or a lower one is still to come back
}

// inWork is a job that has not come back. What number it bears is what the
// frame said: nobody has verified it.
type inWork struct{ serial, release uint64 }

// awaits reports whether a job is under way that may bring the release or a
// newer one.
func (m *machine) awaits(release uint64) bool {
	return slices.ContainsFunc(m.working, func(w inWork) bool { return w.release >= release })
}

// takeRelease hands a release to the compiler.
func (m *machine) takeRelease(f *stream.Frame, at instant) []action {
	m.link.releases = append(m.link.releases, f.Release)
	if len(m.link.releases) > 4*maxJobs {
		m.link.releases = m.link.releases[1:]
	}
	if m.keys == nil {
		return m.refuse(f.Release, 0, errors.New("release: no key set came before it"))
	}
	if m.active != nil && f.Release < m.active.Release {
		return m.refuse(f.Release, 0, fmt.Errorf("%w: release %d is lower than %d", bundles.ErrLower, f.Release, m.active.Release))
	}
	m.jobs++
	m.working = append(m.working, inWork{m.jobs, f.Release})
	if len(m.working) > 4*maxJobs { // the compiler has let go of the oldest, or is about to
		m.working = m.working[1:]
	}
	return []action{{work: &job{
		serial: m.jobs, release: f.Release, base: f.Base, body: f.Body, keys: m.keys, now: m.clock.signedNow(at), active: m.active,
	}}}
}

// worked takes the compiler's answer. The keys, and what is active, may be
// others than when the job was given.
func (m *machine) worked(o outcome, at instant) []action {
	m.working = slices.DeleteFunc(m.working, func(w inWork) bool { return w.serial <= o.over })
	if o.err == nil {
		o.err = m.mayActivate(&o.bundle.Sealed, at)
	}
	switch {
	case errors.Is(o.err, bundles.ErrBase):
		m.lastError = o.err.Error()
		if !m.link.up {
			return nil
		}
		return []action{send(stream.Header{Type: stream.TypeResync, Snapshot: true, Reason: stream.ClipReason(o.err.Error())})}
	case o.err != nil:
		return m.refuse(o.release, 0, o.err)
	case m.active != nil && m.active.Release == o.bundle.Release: // signed anew
		return m.activated(o.bundle, at)
	}
	return []action{{apply: &change{
		Change: Change{Release: o.compiled, Position: m.log.position, Now: m.clock.signedNow(at)},
		done: func(err error) []action {
			if err != nil {
				return m.refuse(o.release, 0, fmt.Errorf("release %d: %w", o.release, err))
			}
			return m.activated(o.bundle, at)
		},
	}}}
}

func (m *machine) mayActivate(sealed *bundles.Sealed, at instant) error {
	if _, err := bundles.OpenManifest(m.keys, sealed.Signed, m.clock.signedNow(at)); err != nil {
		return err
	}
	if m.active == nil {
		return nil
	}
	return bundles.CheckNext(&m.active.Sealed, sealed)
}

// activated notes what is active now.
func (m *machine) activated(b *bundles.Bundle, at instant) []action {
	m.active = b
	m.refused, m.rejected = 0, ""
	actions := []action{{save: &saving{release: b}}}
	m.judgeActive(at)
	m.vouch(&actions)
	if !slices.Contains(m.link.releases, b.Release) {
		return actions // the node of this connection did not send it, and is still to
	}
	return append(actions, m.ack(at))
}

// compiler reads, verifies and compiles releases on a goroutine of its own,
// so that heartbeats and grants go on meanwhile.
type compiler struct {
	engine   Engine
	audience []string
	done     func(outcome)

	mu    sync.Mutex
	jobs  []*job
	bytes int  // of jobs
	many  bool // jobs is the newest of more than may wait, without its body
	wake  chan struct{}

	// Of the goroutine alone: the newest content that was read, which the next
	// delta may start from although it never became active.
	read *bundles.Content
}

func newCompiler(engine Engine, audience []string, done func(outcome)) *compiler {
	return &compiler{engine: engine, audience: audience, done: done, wake: make(chan struct{}, 1)}
}

// add hands over a job; it never blocks. A snapshot makes those before it
// needless. Deltas beyond the bounds are let go at once, whoever sent them:
// nothing of them was verified. A snapshot is asked for instead.
func (c *compiler) add(j *job) {
	c.mu.Lock()
	if j.base == "" {
		c.jobs, c.bytes, c.many = nil, 0, false
	}
	c.jobs, c.bytes = append(c.jobs, j), c.bytes+len(j.body)
	if c.many || len(c.jobs) > maxJobs || len(c.jobs) > 1 && c.bytes > maxJobBytes {
		c.jobs, c.bytes, c.many = []*job{{serial: j.serial, release: j.release, base: j.base}}, 0, true
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *compiler) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.mu.Lock()
		jobs, many := c.jobs, c.many
		c.jobs, c.bytes, c.many = nil, 0, false
		c.mu.Unlock()
		if many {
			c.done(outcome{release: jobs[0].release, over: jobs[0].serial, err: fmt.Errorf("%w: too many releases came at once", bundles.ErrBase)})
			continue
		}
		c.work(ctx, jobs)
	}
}

// work reads all jobs in order and compiles the newest that is good.
func (c *compiler) work(ctx context.Context, jobs []*job) {
	var newest *bundles.Bundle
	var active *bundles.Bundle
	for _, j := range jobs {
		bundle, err := c.readBundle(j)
		if err != nil {
			bad := outcome{release: j.release, err: err}
			if newest == nil {
				bad.over = j.serial
			}
			c.done(bad)
			continue
		}
		c.read, newest, active = bundle.Content, bundle, j.active
	}
	if newest == nil {
		return
	}
	over := jobs[len(jobs)-1].serial
	if active != nil && active.Release == newest.Release { // the same content, or worked refuses it
		c.done(outcome{release: newest.Release, bundle: newest, over: over})
		return
	}
	compiled, err := compile(ctx, c.engine, newest)
	if ctx.Err() != nil {
		return
	}
	c.done(outcome{release: newest.Release, bundle: newest, compiled: compiled, err: err, over: over})
}

func (c *compiler) readBundle(j *job) (*bundles.Bundle, error) {
	var base *bundles.Content
	switch {
	case j.base == "":
	case c.read != nil && c.read.Digest().String() == j.base:
		base = c.read
	case j.active != nil && j.active.Digest.String() == j.base:
		base = j.active.Content
	default:
		return nil, fmt.Errorf("release %d: %w: %s", j.release, bundles.ErrBase, j.base)
	}
	bundle, err := openBundle(j.body, j.keys, j.now, base, c.audience)
	if err == nil && bundle.Release != j.release {
		err = fmt.Errorf("the manifest is of release %d", bundle.Release)
	}
	if err != nil {
		return nil, fmt.Errorf("release %d: %w", j.release, err)
	}
	return bundle, nil
}

// openBundle reads and verifies a bundle for exactly one audience.
func openBundle(data []byte, keys *trust.Set, now time.Time, base *bundles.Content, audience []string) (*bundles.Bundle, error) {
	bundle, err := bundles.Read(bytes.NewReader(data), keys, now, base)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(bundle.Tenants, audience) {
		return nil, fmt.Errorf("signed for the tenants %q, this PEP serves %q", bundle.Tenants, audience)
	}
	return bundle, nil
}

// compile is the engine's Compile; an engine that panics has not compiled.
func compile(ctx context.Context, engine Engine, b *bundles.Bundle) (compiled Compiled, err error) {
	defer func() {
		if r := recover(); r != nil {
			compiled, err = nil, fmt.Errorf("release %d does not compile: panic: %v", b.Release, r)
		}
	}()
	compiled, err = engine.Compile(ctx, b.Release, b.Content)
	if err == nil && compiled == nil {
		err = errors.New("the engine returned nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("release %d does not compile: %w", b.Release, err)
	}
	return compiled, nil
}
