// Package preview answers "what if": it builds snapshots that are never
// activated, of an older revision or of a candidate on top of one. It reads
// the store and writes nothing.
package preview

import (
	"context"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Config is what a Preview is handed; every field is required.
type Config struct {
	Store pap.Store
	// Compile compiles a release; a wrong one is [pdp.Faults].
	Compile func(ctx context.Context, content *bundles.Content) (*pdp.Release, error)
	// CompileRestriction compiles one; a failure yields a program that denies.
	CompileRestriction func(r *authz.Restriction) pdp.Program
	Now                func() time.Time
}

// Preview builds snapshots. It is safe for concurrent use and keeps nothing.
type Preview struct {
	config Config
	// turn admits one compilation at a time: candidates come from callers, and
	// must not take every core from decisions.
	turn chan struct{}
}

// New returns a Preview.
func New(c Config) *Preview { return &Preview{config: c, turn: make(chan struct{}, 1)} }

// With compiles documents on top of a snapshot's release; a document replaces
// the file of its path. A wrong candidate is [pdp.Faults].
func (p *Preview) With(ctx context.Context, base *pdp.Snapshot, documents []bundles.File) (*pdp.Snapshot, error) {
	changes := make([]bundles.Change, len(documents))
	for i, d := range documents {
		changes[i] = bundles.Change{Path: d.Path, Data: d.Data}
	}
	content, err := base.Release.Content.Apply(changes)
	if err != nil {
		return nil, err
	}
	release, err := p.compile(ctx, content)
	if err != nil {
		return nil, err
	}
	candidate := *base
	candidate.Release = release.Numbered(base.Release.Number)
	return &candidate, nil
}

func (p *Preview) compile(ctx context.Context, content *bundles.Content) (*pdp.Release, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return p.config.Compile(ctx, content)
}

// At rebuilds what was in force at a revision: the release, and the directory,
// grants and restrictions as the log had them then. What has ended by now
// stays ended: the clock is today's. A revision that the store does not hold
// is pap.ErrNotFound.
func (p *Preview) At(ctx context.Context, r authz.Revision) (*pdp.Snapshot, error) {
	var content *bundles.Content
	var records []pap.Record
	err := p.config.Store.View(ctx, func(tx pap.Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		if r.Release == 0 || !head.Includes(r) {
			return fmt.Errorf("revision %s: %w", r, pap.ErrNotFound)
		}
		release, err := tx.Release(r.Release)
		if err != nil {
			return err
		}
		if content, err = pap.ReadContent(tx, release); err != nil {
			return err
		}
		records, err = newestAt(tx, r.Position)
		return err
	})
	if err != nil {
		return nil, err
	}
	release, err := p.compile(ctx, content)
	if err != nil {
		return nil, fmt.Errorf("compile release %d: %w", r.Release, err)
	}
	directory := &pap.Directory{}
	if err := directory.Apply(records); err != nil {
		return nil, err
	}
	change, err := feed.DynamicChange(records, p.config.CompileRestriction)
	if err != nil {
		return nil, err
	}
	return &pdp.Snapshot{
		Release: release.Numbered(r.Release), Dynamic: (&pdp.Dynamic{}).With(change, p.config.Now()),
		Position: r.Position, Directory: feed.RolesOf(directory),
	}, nil
}

// pageSize bounds one read of the log.
const pageSize = 1000

// newestAt reads the log up to a position and keeps the newest of each record.
func newestAt(tx pap.Tx, position uint64) ([]pap.Record, error) {
	type name struct {
		kind pap.Kind
		key  string
	}
	newest := map[name]int{}
	var records []pap.Record
	for after := uint64(0); after < position; {
		page, err := tx.Log(after, pageSize)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("the log ends at position %d, before %d", after, position)
		}
		for _, r := range page {
			if after = r.Position; after > position {
				break
			}
			n := name{r.Kind, r.Key}
			if at, known := newest[n]; known {
				records[at] = r
				continue
			}
			newest[n] = len(records)
			records = append(records, r)
		}
	}
	return records, nil
}
