// Package feed keeps one node's view of the store current: the directory, the
// grants and restrictions, and the active release.
//
// It reads the head of the store on every wake-up and at least every Poll, in
// one consistent snapshot, applies the log entries that are new, compiles a
// new release off the decision path, and activates all of it in one swap. A
// wake-up may be lost; a position may not: entries are applied in order, from
// the position after the last one applied.
//
// A release that does not compile here (it did where it was published) leaves
// the old one active, and the node never claims the new revision. It is not
// tried again; Sync returns its error until a newer release comes.
package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
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

	mu       sync.Mutex // held while reading and applying
	loaded   bool
	position uint64
	release  *pdp.Release
	dynamic  *pdp.Dynamic
	// refused is the newest release where it does not compile here.
	refused    uint64
	refusedErr error

	ageMu sync.Mutex
	read  time.Time // when the last successful read began
}

// New returns a Feed that has read nothing yet.
func New(c Config) *Feed { return &Feed{config: c, dynamic: &pdp.Dynamic{}} }

// Age is how long ago the last successful read of the store began.
func (f *Feed) Age() time.Duration { return f.config.Now().Sub(f.lastRead()) }

func (f *Feed) lastRead() time.Time {
	f.ageMu.Lock()
	defer f.ageMu.Unlock()
	return f.read
}

// Run reads until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	wake := f.config.Store.Wake(ctx)
	ticker := time.NewTicker(f.config.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-ticker.C:
		}
		if err := f.Sync(ctx); err != nil && ctx.Err() == nil {
			f.config.Log.Error("cannot bring this node up to date", "error", err)
		}
	}
}

// pageSize bounds one read of the log.
const pageSize = 1000

// update is what one read of the store found.
type update struct {
	head    authz.Revision
	records []pap.Record
	content *bundles.Content // of a new release, else nil
}

// Sync returns once everything is active that was committed before the call.
// Calls that come together share one read.
func (f *Feed) Sync(ctx context.Context) error {
	asked := f.config.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	began := f.config.Now()
	if f.lastRead().After(asked) {
		return f.refusal()
	}
	u, err := f.readStore(ctx)
	if err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	if err := f.apply(ctx, u); err != nil {
		return err
	}
	f.ageMu.Lock()
	f.read = began
	f.ageMu.Unlock()
	return f.refusal()
}

// refusal is the error of the newest release, where it does not compile here.
func (f *Feed) refusal() error {
	if f.refused > f.number() {
		return f.refusedErr
	}
	return nil
}

func (f *Feed) readStore(ctx context.Context) (update, error) {
	var u update
	err := f.config.Store.View(ctx, func(tx pap.Tx) error {
		u = update{}
		var err error
		if u.head, err = tx.Head(); err != nil {
			return err
		}
		if !f.loaded {
			u.records, err = newestRecords(tx)
		} else if u.head.Position > f.position {
			u.records, err = newEntries(tx, f.position)
		}
		if err != nil || u.head.Release == f.number() || u.head.Release == f.refused {
			return err
		}
		r, err := tx.Release(u.head.Release)
		if err != nil {
			return err
		}
		u.content, err = pap.ReadContent(tx, r)
		return err
	})
	return u, err
}

// newestRecords reads the state instead of its history.
func newestRecords(tx pap.Tx) ([]pap.Record, error) {
	var all []pap.Record
	for _, kind := range []pap.Kind{pap.KindTenant, pap.KindSubject, pap.KindRole, pap.KindBinding, pap.KindToken, pap.KindGrant, pap.KindRestriction} {
		var after string
		for {
			page, err := tx.Records(kind, pap.AnyTenant, after, pageSize)
			if err != nil {
				return nil, err
			}
			all = append(all, page...)
			if len(page) < pageSize {
				break
			}
			after = page[len(page)-1].Key
		}
	}
	return all, nil
}

func newEntries(tx pap.Tx, after uint64) ([]pap.Record, error) {
	var all []pap.Record
	for {
		page, err := tx.Log(after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if r.Position != after+1 {
				return nil, fmt.Errorf("the log jumps from position %d to %d: the store was altered", after, r.Position)
			}
			after = r.Position
		}
		all = append(all, page...)
		if len(page) < pageSize {
			return all, nil
		}
	}
}

func (f *Feed) apply(ctx context.Context, u update) error {
	if f.loaded && u.content == nil && len(u.records) == 0 {
		return nil
	}
	if err := f.config.Directory.Apply(u.records); err != nil {
		return err
	}
	change, err := DynamicChange(u.records, f.config.CompileRestriction)
	if err != nil {
		return err
	}
	dynamic := f.dynamic.With(change, f.config.Now())
	if u.content != nil {
		compiled, err := f.config.Compile(ctx, u.content)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			f.refused = u.head.Release
			f.refusedErr = fmt.Errorf("release %d does not compile on this node; release %d stays active: %w", u.head.Release, f.number(), err)
		} else {
			f.release = compiled.Numbered(u.head.Release)
		}
	}
	f.loaded, f.position, f.dynamic = true, u.head.Position, dynamic
	if f.release != nil {
		f.config.PDP.Activate(&pdp.Snapshot{
			Release: f.release, Dynamic: dynamic, Position: f.position, Directory: Roles{f.config.Directory},
		})
	}
	return nil
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

// Roles is the directory as an attribute source: it knows subject.roles.
type Roles struct {
	Directory *pap.Directory
}

// Attribute returns the roles bound to the subject in the request's tenant.
func (r Roles) Attribute(_ context.Context, q pdp.AttributeQuery) (authz.Value, bool, error) {
	if q.Name != "subject.roles" {
		return authz.Value{}, false, fmt.Errorf("the directory does not know %s", q.Name)
	}
	return authz.Strings(r.Directory.Roles(q.Tenant, pap.SubjectName(q.Entity.Type, q.Entity.ID))...), true, nil
}

// Local reports that answers come from memory.
func (Roles) Local() bool { return true }
