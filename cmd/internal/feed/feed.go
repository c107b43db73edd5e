// Package feed keeps one node's view of the store current: the directory, the
// grants and restrictions, and the active release.
//
// It reads the head of the store on every wake-up and at least every Poll, in
// one consistent snapshot, and applies the log entries that are new. A wake-up
// may be lost; a position may not: entries are applied in order, from the
// position after the last one applied. A new release is compiled beside, so
// that revocations do not wait for it, and then activated in one swap. While a
// rollout runs, the node decides by the release that the rollout began from.
//
// A release that does not compile here (it did where it was published) leaves
// the old one active, and the node never claims the new revision. It is not
// tried again; Sync returns its error until a newer release comes.
//
// While the store cannot be read, one reader at a time tries; nobody else
// waits for it, and Age says how old the view is.
package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/fault"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Config is what a Feed is handed; every field but Distribute is required.
type Config struct {
	Store     pap.Store
	PDP       *pdp.PDP
	Directory *pap.Directory
	// Compile compiles a release that passed its gate before.
	Compile func(ctx context.Context, content *bundles.Content) (*pdp.Release, error)
	// CompileRestriction compiles one; a failure yields a program that denies.
	CompileRestriction func(r *authz.Restriction) pdp.Program
	// Distribute is told of every successful read of the store, in order and
	// one at a time, before a new release is compiled here; nil: nobody is.
	Distribute func(Update)
	Poll       time.Duration
	Now        func() time.Time // with a monotonic reading
	Log        *slog.Logger
}

// Update is what one successful read of the store found.
type Update struct {
	Read time.Time      // when the read began
	Head authz.Revision // the newest release and log position then
	// Records are new since the last update; in the first one, the newest of
	// every key.
	Records []pap.Record
	// Release and Content are the newest release, where it is new here.
	Release *pap.Release
	Content *bundles.Content
}

// Feed is one node's reader of the log. It is safe for concurrent use.
type Feed struct {
	config Config

	// turn is held while reading and applying, and guards what follows.
	turn     chan struct{}
	loaded   bool
	position uint64
	newest   uint64            // number of the newest release that was distributed
	files    []pap.ReleaseFile // of that release
	content  *bundles.Content  // of that release; nil before the first
	rollout  *pap.Rollout      // the newest, or nil
	target   uint64            // the release that is to be active
	release  *pdp.Release
	dynamic  *pdp.Dynamic
	// compiling is the release that is being compiled, or nil.
	compiling *compilation
	// refused is the newest release where it does not compile here.
	refused    uint64
	refusedErr error

	health health
}

// compilation is a release on its way to be active.
type compilation struct {
	stop context.CancelFunc
	done chan struct{} // closed once it is active or refused
}

// New returns a Feed that has read nothing yet.
func New(c Config) *Feed {
	return &Feed{config: c, dynamic: &pdp.Dynamic{}, turn: make(chan struct{}, 1), health: health{now: c.Now}}
}

// Run reads until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	wake := f.config.Store.Wake(ctx)
	ticker := time.NewTicker(f.config.Poll)
	defer ticker.Stop()
	defer f.settle()
	var told complaint
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-ticker.C:
		}
		if err := f.read(ctx, true); ctx.Err() == nil {
			told.about(f.config.Log, err, f.config.Now())
		}
	}
}

// settle stops a compilation under way, so that nothing of this feed's
// outlives Run.
func (f *Feed) settle() {
	f.turn <- struct{}{}
	c := f.compiling
	<-f.turn
	if c != nil {
		c.stop()
		<-c.done
	}
}

// Sync returns once everything is active that was committed before the call.
// Calls that come together share one read.
func (f *Feed) Sync(ctx context.Context) error {
	if err := f.read(ctx, false); err != nil {
		return err
	}
	for {
		if err := f.lock(ctx); err != nil {
			return err
		}
		c, settled, refusal := f.compiling, f.target == f.number() || f.target == f.refused, f.refusal()
		<-f.turn
		switch {
		case settled:
			return refusal
		case c == nil: // what was compiled is no longer what is to be active
			if err := f.read(ctx, true); err != nil {
				return err
			}
		default:
			select {
			case <-c.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// Read returns once everything in the log is applied that was committed before
// the call; a new release may still be on its way. While the store is known to
// fail it returns what it failed with, and does not wait.
func (f *Feed) Read(ctx context.Context) error {
	if err := f.health.failing(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSlow)
	defer cancel()
	return f.read(ctx, false)
}

func (f *Feed) lock(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read reads once and applies it. Unless the reader is the one who polls, a
// read that began after the call serves as well.
func (f *Feed) read(ctx context.Context, polls bool) error {
	asked := f.config.Now()
	if err := f.lock(ctx); err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	defer func() { <-f.turn }()
	if !polls && f.health.lastRead().After(asked) {
		return nil
	}
	began := f.health.begin()
	u, err := f.readStore(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSlow) {
			f.health.givenUp() // by the one who asked: it says nothing of the store
			return fmt.Errorf("read the store: %w", cause)
		}
		err = fmt.Errorf("read the store: %w", err)
		f.health.failed(err)
		return err
	}
	u.Read = began
	if err := f.apply(ctx, u); err != nil {
		f.health.failed(err)
		return err
	}
	f.health.succeeded(began)
	if polls {
		return f.refusal()
	}
	return nil
}

// refusal is the error of the newest release, where it does not compile here.
func (f *Feed) refusal() error {
	if f.refused > f.number() {
		return f.refusedErr
	}
	return nil
}

// apply distributes what was read, puts its records, and begins to compile
// what is to be active.
func (f *Feed) apply(ctx context.Context, u update) error {
	change, err := DynamicChange(u.Records, f.config.CompileRestriction)
	if err != nil {
		return err
	}
	if err := f.config.Directory.Apply(u.Records); err != nil {
		return err
	}
	dynamic := f.dynamic.With(change, f.config.Now())
	changed := len(u.Records) > 0
	f.loaded, f.position, f.dynamic, f.rollout, f.target = true, u.Head.Position, dynamic, u.rollout, u.target
	if u.Release != nil {
		f.newest, f.files, f.content = u.Release.Number, u.Release.Files, u.Content
	}
	if changed {
		fault.Point("log read")
	}
	if f.config.Distribute != nil {
		f.config.Distribute(u.Update)
	}
	if changed {
		fault.Point("log distributed")
		f.activate()
	}
	if u.content != nil {
		f.compile(ctx, u.target, u.content)
	}
	return nil
}

// compile compiles a release beside the reading, and activates it. The reader
// may have gone by then.
func (f *Feed) compile(ctx context.Context, number uint64, content *bundles.Content) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &compilation{stop, make(chan struct{})}
	f.compiling = c
	go func() {
		defer close(c.done)
		defer stop()
		compiled, err := f.config.Compile(ctx, content)
		f.turn <- struct{}{}
		defer func() { <-f.turn }()
		f.compiling = nil
		if err != nil && ctx.Err() != nil {
			return
		}
		if err != nil {
			f.refused = number
			f.refusedErr = fmt.Errorf("release %d does not compile on this node; release %d stays active: %w", number, f.number(), err)
			return
		}
		f.release = compiled.Numbered(number)
		f.activate()
	}()
}

func (f *Feed) activate() {
	if f.release != nil {
		f.config.PDP.Activate(&pdp.Snapshot{
			Release: f.release, Dynamic: f.dynamic, Position: f.position, Directory: RolesOf(f.config.Directory),
		})
	}
}

func (f *Feed) number() uint64 {
	if f.release == nil {
		return 0
	}
	return f.release.Number
}

// DynamicChange reads grants and restrictions out of log records; other kinds
// are left to their readers.
func DynamicChange(records []pap.Record, compile func(*authz.Restriction) pdp.Program) (pdp.DynamicChange, error) {
	var change pdp.DynamicChange
	for _, r := range records {
		switch r.Kind {
		case pap.KindGrant:
			var g authz.Grant
			if err := json.Unmarshal(r.Body, &g); err != nil {
				return change, fmt.Errorf("log position %d: grant %s: %w", r.Position, r.Key, err)
			}
			change.Grants = append(change.Grants, &g)
		case pap.KindRestriction:
			var restriction authz.Restriction
			if err := json.Unmarshal(r.Body, &restriction); err != nil {
				return change, fmt.Errorf("log position %d: restriction %s: %w", r.Position, r.Key, err)
			}
			change.Restrictions = append(change.Restrictions, pdp.CompiledRestriction{Restriction: &restriction, Program: compile(&restriction)})
		}
	}
	return change, nil
}
