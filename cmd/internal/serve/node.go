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

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/cmd/internal/postgres"
	"github.com/xiezhi-project/xiezhi/cmd/internal/spool"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// Store is what a node keeps its state in.
type Store interface {
	pap.Store
	pap.AuditStore
}

// Node is one running server.
type Node struct {
	PAP   *pap.Service
	PDP   *pdp.PDP
	Feed  *feed.Feed
	Store Store

	spool *spool.Spool
	http  *httpd.Server
}

// OpenStore opens the configured database and brings its schema up to date.
func OpenStore(ctx context.Context, c config.Server) (Store, error) {
	database, err := c.Database()
	if err != nil {
		return nil, err
	}
	if database != "" {
		return postgres.Open(ctx, database)
	}
	return sqlite.Open(ctx, c.Data)
}

const (
	// pollEvery is how often a node reads the log without being woken, and
	// fresh how old its directory may be before a call reads it first: both
	// within the second in which a revocation must hold everywhere.
	pollEvery = 200 * time.Millisecond
	fresh     = 800 * time.Millisecond
)

// Open builds a node and brings it up to date. It serves nothing yet.
func Open(ctx context.Context, c config.Server, log *slog.Logger) (_ *Node, err error) {
	n := &Node{}
	if n.Store, err = OpenStore(ctx, c); err != nil {
		return nil, err
	}
	n.spool, err = spool.Open(filepath.Join(c.Data, "spool"), spool.Options{MaxBytes: c.SpoolMaxBytes}, n.Store.InsertDecisions)
	if err != nil {
		return nil, errors.Join(err, n.Store.Close())
	}
	if err := n.build(c, log); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if err := n.Feed.Sync(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start: %w", err), n.Close())
	}
	return n, nil
}

// build makes the parts, each out of those before it.
func (n *Node) build(c config.Server, log *slog.Logger) (err error) {
	policies := &policies{Engine: engine.New()}
	directory := &pap.Directory{}
	uses := &useCounter{}
	n.PDP = pdp.New(pdp.Config{
		Recorder: recorder{n.spool}, Uses: uses, Budget: c.Budget, Now: time.Now, NewID: newID,
	})
	n.Feed = feed.New(feed.Config{
		Store: n.Store, PDP: n.PDP, Directory: directory, Compile: policies.compile,
		CompileRestriction: policies.Restriction, Poll: pollEvery, Now: time.Now, Log: log,
	})
	guard := access.New(access.Config{PDP: n.PDP, Directory: directory, Feed: n.Feed, Now: time.Now, Fresh: fresh})
	n.PAP = pap.New(pap.Config{
		Store: n.Store, Gate: gate{policies, guard}, Active: n.active, CheckRestriction: policies.CheckRestriction,
		CatchUp: n.Feed.Sync, Now: time.Now, NewID: newID, Ceiling: c.GrantCeiling,
	})
	uses.pap = n.PAP
	n.http, err = httpd.New(httpd.Config{
		Guard: guard, PDP: n.PDP, PAP: n.PAP, Audit: n.Store, Replays: n.Store,
		NewestRevision: n.Feed.NewestRevision, SnapshotAt: n.Feed.SnapshotAt, Candidate: policies.candidate,
		Checks: n.checks(), CertFile: c.TLSCert, KeyFile: c.TLSKey, Insecure: c.InsecureListen,
		Now: time.Now, NewID: newID, Log: log,
	})
	return err
}

// Serve answers on the listener until ctx ends, then drains and closes.
func (n *Node) Serve(ctx context.Context, listener net.Listener) error {
	running, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { n.Feed.Run(running) })
	err := n.http.Serve(running, listener)
	stop()
	background.Wait()
	return errors.Join(err, n.Close())
}

// closeWithin bounds how long a stopping node waits for its records.
const closeWithin = 20 * time.Second

// Close hands what the spool holds to the database and releases both.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return errors.Join(n.spool.Close(ctx), n.Store.Close())
}

// checks are what readiness asks beside an active release.
func (n *Node) checks() []httpd.Check {
	return []httpd.Check{
		{Name: "store", Run: func(ctx context.Context) error {
			_, err := n.Feed.NewestRevision(ctx)
			return err
		}},
		{Name: "feed", Run: func(context.Context) error {
			if age := n.Feed.Age(); age > 5*fresh {
				return fmt.Errorf("the store was last read %s ago", age.Round(time.Millisecond))
			}
			return nil
		}},
	}
}

// active is the release in force, as pap sees it.
func (n *Node) active() pap.Candidate {
	if s := n.PDP.Active(); s != nil {
		return candidate{s}
	}
	return nil
}

// newID returns a ULID: sortable by time, unique across nodes.
func newID() string { return ulid.Make().String() }
