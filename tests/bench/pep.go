//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/local"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool"
)

// sdk measures one service that embeds the SDK: how soon it decides by a small
// change, beside a stock OPA with long polling; what the SDK adds to the
// decision core; and what decisions take while releases activate.
func (b *bench) sdk(ctx context.Context) (err error) {
	server, err := b.startPushServer(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := introduce(ctx, server.url, server.admin); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pep-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	held := &holdback{next: http.DefaultTransport}
	server.client.Transport = held
	p, err := connectPEP(ctx, server, dir, tenant)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()

	change, err := b.smallChange(ctx, server, p)
	if err != nil {
		return err
	}
	over, err := b.overCore(ctx, server, p, dir, held)
	if err != nil {
		return err
	}
	activating, err := b.whileActivating(ctx, server, p)
	if err != nil {
		return err
	}
	b.compared(change, atMost(2, change))
	b.compared(over, atMost(1.1, over))
	b.compared(activating) // reported, no gate
	return nil
}

func connectPEP(ctx context.Context, server *pushServer, dir, tenant string) (*pep.PEP, error) {
	text, err := os.ReadFile(server.trust)
	if err != nil {
		return nil, err
	}
	root, err := trust.ParseRoot(text)
	if err != nil {
		return nil, err
	}
	p, err := pep.New(ctx, pep.Config{
		Server: server.url, Token: func() (string, error) { return server.pep, nil }, Tenants: []string{tenant},
		Trust: root, Dir: filepath.Join(dir, "pep"), Engine: local.New(local.Options{}), HTTP: server.client,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p, p.WaitReady(ctx)
}

// smallChange changes one value of a tenant's table, and counts from when the
// server has it until a decision, or OPA's answer, rests on it.
func (b *bench) smallChange(ctx context.Context, server *pushServer, p *pep.PEP) (comparison, error) {
	peer, err := startPolling(ctx, filepath.Join(b.bin, "opa"), b.content)
	if err != nil {
		return comparison{}, err
	}
	c, err := contest(ctx, "a small change until one PEP decides by it", b.rounds, 0, [2]side{
		{"xiezhi, push", func(time.Duration) (sample, error) {
			stored, err := server.publish(ctx, 8)
			if err != nil {
				return sample{}, err
			}
			next := authz.Revision{Release: uint64(server.version) + 1}
			d, err := p.Decide(ctx, b.inputs[0].request, pep.AtLeast(next))
			ended := time.Now()
			if err == nil && (d.Remote || !d.Revision.Includes(next)) {
				err = fmt.Errorf("decided by %s, remotely %v; want in-process by %s", d.Revision, d.Remote, next)
			}
			return sample{ops: 1, wall: ended.Sub(stored)}, err
		}},
		{"opa, long polling", func(time.Duration) (sample, error) { return peer.publish(ctx) }},
	})
	return c, errors.Join(err, peer.stop())
}

// overCore compares deciding through the SDK with the decision core of the
// server on the same release, both with their records going to disk. What is
// measured ends there: records are shipped between the turns, since the server
// that takes them works on the same processors.
func (b *bench) overCore(ctx context.Context, server *pushServer, p *pep.PEP, dir string, held *holdback) (c comparison, err error) {
	content, err := bundles.ReadFS(os.DirFS(b.policies), func(p string) bool { return filepath.Ext(p) != ".go" })
	if err != nil {
		return c, err
	}
	core, err := newCore(ctx, server, content, filepath.Join(dir, "core"))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, core.stop(ctx)) }()
	inputs, err := core.agrees(ctx, p, b.inputs)
	if err != nil {
		return c, err
	}
	turn := func(decide func(authz.Request) error, waiting func() int64) func(d time.Duration) (sample, error) {
		return func(d time.Duration) (sample, error) {
			held.mu.Lock()
			s, err := passes(d, len(inputs), func() error {
				for i := range inputs {
					if err := decide(inputs[i].request); err != nil {
						return err
					}
				}
				return nil
			})
			held.mu.Unlock()
			return s, errors.Join(err, drained(ctx, waiting))
		}
	}
	return contest(ctx, "decide through the SDK", b.rounds, b.roundTime, [2]side{
		{"pep.Decide", turn(func(req authz.Request) error {
			_, err := p.Decide(ctx, req)
			return err
		}, func() int64 { return p.Status().Records.Waiting })},
		{"server core", turn(func(req authz.Request) error {
			_, err := core.pdp.Decide(ctx, req, pdp.Caller{Name: "service:bench"})
			return err
		}, func() int64 { return core.spool.Stats().UnshippedBytes })},
	})
}

// holdback lets decision records wait in their spool while mu is held.
type holdback struct {
	next http.RoundTripper
	mu   sync.RWMutex
}

// RoundTrip implements http.RoundTripper.
func (h *holdback) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/api/v1/audit/decisions" {
		h.mu.RLock()
		defer h.mu.RUnlock()
	}
	return h.next.RoundTrip(r)
}

// drained returns when a spool has nothing left to ship.
func drained(ctx context.Context, waiting func() int64) error {
	tick := time.NewTicker(spoolSync)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C: // at first too: until then the last records are in memory
		}
		if waiting() == 0 {
			return nil
		}
	}
}

// spoolSync is longer than a spool keeps a record in memory.
const spoolSync = 100 * time.Millisecond

// whileActivating compares what decisions take while one release after the
// other arrives and compiles with what they take when nothing changes.
func (b *bench) whileActivating(ctx context.Context, server *pushServer, p *pep.PEP) (comparison, error) {
	decide := func(d time.Duration) (sample, error) {
		var took []time.Duration
		s, err := passes(d, len(b.inputs), func() error {
			for i := range b.inputs {
				began := time.Now()
				if _, err := p.Decide(ctx, b.inputs[i].request); err != nil {
					return err
				}
				took = append(took, time.Since(began))
			}
			return nil
		})
		slices.Sort(took)
		if len(took) > 0 {
			s.p99 = took[len(took)*99/100]
		}
		return s, err
	}
	return contest(ctx, "decide through the SDK while releases activate", b.rounds, b.roundTime, [2]side{
		{"activating", func(d time.Duration) (sample, error) {
			publishing, stop := context.WithCancel(ctx)
			var failed error
			var publisher sync.WaitGroup
			publisher.Go(func() {
				for publishing.Err() == nil {
					if _, err := server.publish(ctx, 8); err != nil {
						failed = err
						return
					}
				}
			})
			s, err := decide(d)
			stop()
			publisher.Wait()
			return s, errors.Join(err, failed)
		}},
		{"calm", decide},
	})
}

// core is the server's decision core with its records in a spool.
type core struct {
	pdp   *pdp.PDP
	spool *spool.Spool
}

func newCore(ctx context.Context, server *pushServer, content *bundles.Content, dir string) (*core, error) {
	release, err := local.NewCompiler().Compile(ctx, content)
	if err != nil {
		return nil, err
	}
	records, err := spool.Open(dir, spool.Options{}, server.keep)
	if err != nil {
		return nil, err
	}
	c := &core{spool: records}
	c.pdp = pdp.New(pdp.Config{Recorder: c, Now: time.Now, NewID: func() string { return ulid.Make().String() }})
	c.pdp.Activate(&pdp.Snapshot{Release: release.Numbered(1), Dynamic: &pdp.Dynamic{}, Directory: newDirectory()})
	return c, nil
}

// Record implements pdp.Recorder as the server does.
func (c *core) Record(ctx context.Context, r *pdp.Record) error {
	record, err := r.Audit()
	if err != nil {
		return err
	}
	return c.spool.Append(ctx, &record, r.Durability == pdp.Strict)
}

func (c *core) stop(ctx context.Context) error { return c.spool.Close(ctx) }

// agrees makes sure that both sides do the same work, and returns the inputs
// that the SDK decides in-process: it asks the server about a REVIEW.
func (c *core) agrees(ctx context.Context, p *pep.PEP, inputs []input) (inProcess []input, err error) {
	for i := range inputs {
		ours, err := p.Decide(ctx, inputs[i].request)
		if err != nil {
			return nil, fmt.Errorf("input %d: the SDK: %w", i, err)
		}
		theirs, err := c.pdp.Decide(ctx, inputs[i].request, pdp.Caller{Name: "service:bench"})
		if err != nil {
			return nil, fmt.Errorf("input %d: the core: %w", i, err)
		}
		if ours.Effect != theirs.Effect || len(ours.Reasons) != len(theirs.Reasons) {
			return nil, fmt.Errorf("input %d: the SDK says %s for %d reasons, the core %s for %d", i, ours.Effect, len(ours.Reasons), theirs.Effect, len(theirs.Reasons))
		}
		if !ours.Remote {
			inProcess = append(inProcess, inputs[i])
		}
	}
	if len(inProcess) < len(inputs)/2 {
		return nil, fmt.Errorf("the SDK decides %d of %d inputs in-process: too few to compare", len(inProcess), len(inputs))
	}
	return inProcess, nil
}
