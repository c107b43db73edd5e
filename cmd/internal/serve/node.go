package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/approvals"
	"github.com/xiezhi-project/xiezhi/cmd/internal/changes"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/gitsource"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/cmd/internal/postgres"
	"github.com/xiezhi-project/xiezhi/cmd/internal/preview"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/pip"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool"
)

// Store is what a node keeps its state in.
type Store interface {
	pap.Store
	pap.AuditStore
	pap.PEPStore
}

// Core is the administration of one store: what works without a listener.
type Core struct {
	PAP   *pap.Service
	PDP   *pdp.PDP
	Feed  *feed.Feed
	Store Store

	// Cases are asked of people; what is decided by REVIEW opens them.
	Cases   *cheq.Service
	desk    *approvals.Desk
	waiters *cheq.Waiters

	guard      *access.Guard
	policies   *policies
	distribute *distribution
	static     *staticFile // nil where none is configured
	sources    httpSources
}

// Node is one running server.
type Node struct {
	*Core
	spool *spool.Spool
	push  *push
	// channels are where cases are shown, and answered.
	channels *channels
	changes  *changes.Desk     // where publications wait for people
	source   *gitsource.Source // nil where none is configured
	http     *httpd.Server
	log      *slog.Logger
}

// StreamURL is where PEPs find the stream, TrustFile what they are to be
// configured with.
func (n *Node) StreamURL() string { return n.push.url }

// TrustFile is the file of the root that PEPs trust.
func (n *Node) TrustFile() string { return n.push.keys.trustFile() }

// OpenStore opens the configured database and brings its schema up to date.
// Only one server may own a SQLite folder; PostgreSQL takes any number.
func OpenStore(ctx context.Context, c config.Server, server bool, log *slog.Logger) (Store, error) {
	database, err := c.Database()
	if err != nil {
		return nil, err
	}
	if database != "" {
		return postgres.Open(ctx, database, postgres.Options{Log: log, PEPsPerTenant: c.PEPsPerTenant})
	}
	return sqlite.Open(ctx, c.Data, sqlite.Options{Exclusive: server, PEPsPerTenant: c.PEPsPerTenant})
}

const (
	// pollEvery is how often a node reads the log without being woken, and
	// fresh how old its directory may be before a call reads it first: both
	// within the second in which a revocation must hold everywhere.
	pollEvery = 200 * time.Millisecond
	fresh     = 800 * time.Millisecond
	// staleAfter is how old the view of a failing store is when answers say so.
	staleAfter = 2 * time.Second
)

// OpenCore builds the core over a store and brings it up to date. Decisions are recorded by recorder, if there is one.
func OpenCore(ctx context.Context, c config.Server, store Store, recorder pdp.Recorder, log *slog.Logger) (*Core, error) {
	rego, err := engine.NewWith(engine.Options{RegoEngine: c.RegoEngine, Log: log, Reproducers: filepath.Join(c.Data, "reproducers")})
	if err != nil {
		return nil, err
	}
	core := &Core{Store: store, policies: &policies{Engine: rego}, distribute: &distribution{}, waiters: &cheq.Waiters{}}
	core.desk = &approvals.Desk{Now: time.Now, Failed: func(o *pdp.Obstacles, err error) {
		log.Error("a review cannot be asked of anybody now", "tenant", o.Request.Tenant, "request", o.Digest, "error", err)
	}}
	directory := &pap.Directory{}
	uses := &useCounter{}
	sources := map[string]pdp.AttributeSource{}
	if c.StaticAttributes != "" {
		core.static = &staticFile{path: c.StaticAttributes}
		if err := core.static.load(); err != nil {
			return nil, err
		}
		sources[pip.StaticSource] = core.static
	}
	if core.sources, err = openHTTPSources(c, log); err != nil {
		return nil, err
	}
	core.sources.add(sources)
	core.PDP = pdp.New(pdp.Config{
		Sources: sources, Recorder: recorder, Uses: uses, Approvals: core.desk, Budget: c.Budget, StaleBound: c.StaleBound,
		Freshness: func() authz.Freshness { return freshness(core.Feed, c.GrantStale, time.Now()) }, Now: time.Now, NewID: newID,
	})
	core.Feed = feed.New(feed.Config{
		Store: store, PDP: core.PDP, Directory: directory, Compile: core.policies.compile,
		CompileRestriction: core.policies.Restriction, Distribute: core.distribute.update, Poll: pollEvery, Now: time.Now, Log: log,
	})
	core.guard = access.New(access.Config{PDP: core.PDP, Directory: directory, Feed: core.Feed, Now: time.Now, Fresh: fresh, GrantStale: c.GrantStale})
	core.PAP = pap.New(pap.Config{
		Store: store, PEPStore: store, Decisions: store, Gate: gate{core.policies, core.guard}, Active: core.active, CheckRestriction: core.policies.CheckRestriction,
		CatchUp: core.Feed.Sync, Now: time.Now, NewID: newID, Ceiling: c.GrantCeiling,
	})
	uses.pap = core.PAP
	cases := approvals.NewStore(approvals.Config{
		Store: store, Active: core.PDP.Active, Directory: directory, CatchUp: core.Feed.Sync, NewID: newID, Sources: sources, Late: func(err error) {
			log.Warn("an answer of people is stored, but this node could not apply it yet", "error", err)
		},
	})
	core.Cases = cheq.New(cheq.Config{Now: time.Now, NewID: newID, Store: cases, Limits: cheq.Limits{Pending: c.Cases.Pending, Hourly: c.Cases.Hourly}})
	core.desk.PDP, core.desk.Cases, core.desk.Authors = core.PDP, core.Cases, cases.Authors
	if err := core.Feed.Sync(ctx); err != nil {
		return nil, fmt.Errorf("read the store: %w", err)
	}
	return core, nil
}

// active is the release in force, as pap sees it.
func (c *Core) active() pap.Candidate {
	if s := c.PDP.Active(); s != nil {
		return candidate{snapshot: s}
	}
	return nil
}

// Open builds a node and brings it up to date. It serves nothing yet.
func Open(ctx context.Context, c config.Server, log *slog.Logger) (*Node, error) {
	store, err := OpenStore(ctx, c, true, log)
	if err != nil {
		return nil, err
	}
	options := spool.Options{MaxBytes: c.SpoolMaxBytes, Log: log}
	records, err := spool.Open(filepath.Join(c.Data, "spool"), options, store.InsertDecisions)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	core, err := OpenCore(ctx, c, store, recorder{records}, log)
	if err != nil {
		return nil, errors.Join(err, closeSpool(records), store.Close())
	}
	n := &Node{Core: core, spool: records, log: log, changes: core.reviewChanges()}
	if n.push, err = openPush(ctx, c, core, recorder{records}, log); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if n.source, err = openSource(c, core, log); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if n.channels, err = openChannels(c, core, n.push.keys.ring().Set().Installation(), recorder{records}, log); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.http, err = httpd.New(httpd.Config{
		Source: sourceOf(n.source), LoadAttributes: core.loadAttributes(), AttributeSources: core.sources.drops(), Approvals: core.approvals(), Callbacks: n.channels.callbacks,
		AccessRequests: n.accessRequests(c), PublicURL: c.PublicURL,
		Guard: core.guard, PDP: core.PDP, PAP: core.PAP, Store: store, Preview: preview.New(preview.Config{
			Store: store, Compile: core.policies.Compile, CompileRestriction: core.policies.Restriction, Now: time.Now,
		}),
		Checks: n.checks(), Measures: append(n.measures(), sourceMeasures(n.source)...), Refused: recorder{records}.refused, CertFile: c.TLSCert, KeyFile: c.TLSKey, Insecure: c.InsecureListen, StreamURL: n.push.url,
		Now: time.Now, NewID: newID, Log: log,
	})
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Serve answers on the listener until ctx ends, then drains and closes.
func (n *Node) Serve(ctx context.Context, listener net.Listener) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	var background sync.WaitGroup
	background.Go(func() { n.Feed.Run(running) })
	background.Go(func() { n.push.keys.watch(running) })
	background.Go(func() {
		again(running, n.log, stepEvery, n.PAP.StepRollout, "cannot step the rollout; it is tried again")
	})
	background.Go(func() { again(running, n.log, forgetEvery, n.PAP.ForgetPEPs, "cannot forget PEPs that are gone") })
	background.Go(func() { n.channels.run(running) })
	background.Go(func() {
		again(running, n.log, sweepEvery, n.sweep, "cannot look after the cases that are due; it is tried again")
	})
	background.Go(func() {
		again(running, n.log, sweepEvery, n.changes.Sweep, "cannot look after the changes that wait for people; it is tried again")
	})
	if n.source != nil {
		background.Go(func() { n.source.Run(running) })
	}
	var pushed error
	background.Go(func() {
		pushed = n.push.run(serving)
		stopServing() // one does not go without the other
	})
	err := n.http.Serve(serving, listener)
	stopServing()
	stop()
	background.Wait()
	return errors.Join(err, pushed, n.Close())
}

// stepEvery is how often every node looks after a rollout that runs, sweepEvery
// after cases whose time has come, and forgetEvery how often it drops PEPs that
// are gone.
const (
	stepEvery   = time.Second
	sweepEvery  = time.Second
	forgetEvery = time.Hour
)

// Close hands what the spool holds to the database and releases both.
func (n *Node) Close() error {
	n.sources.close()
	return errors.Join(n.push.close(), closeSpool(n.spool), n.Store.Close())
}

// closeWithin bounds how long a stopping node waits for the database to take
// its records; what is left is shipped at the next start.
const closeWithin = 20 * time.Second

func closeSpool(s *spool.Spool) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return s.Close(ctx)
}

// checks are what readiness asks beside an active release.
func (n *Node) checks() []httpd.Check {
	return []httpd.Check{
		{Name: "store", Run: func(ctx context.Context) error {
			return n.Store.View(ctx, func(tx pap.Tx) error {
				_, err := tx.Head()
				return err
			})
		}},
		{Name: "feed", Run: func(context.Context) error {
			if age := n.Feed.Age(); age > 5*fresh {
				return fmt.Errorf("the store was last read %s ago", age.Round(time.Millisecond))
			}
			return nil
		}},
	}
}

// newID returns a ULID: sortable by time, unique across nodes, and reserved:
// the caller of /decide knows it before its record is stored.
func newID() string { return pap.ReserveID(ulid.Make().String()) }
