package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
)

// pageSize bounds one read of the log.
const pageSize = 1000

// readWithin bounds one read that is not the first.
const readWithin = 5 * time.Second

// update is what one read of the store found.
type update struct {
	Update
	rollout *pap.Rollout // the newest, or nil
	// target is what this node should decide by, content its files where they
	// are to be compiled, else nil.
	target  uint64
	content *bundles.Content
}

func (f *Feed) readStore(ctx context.Context) (update, error) {
	if f.loaded {
		bounded, cancel := context.WithTimeoutCause(ctx, readWithin, errSlow)
		defer cancel()
		ctx = bounded
	}
	var u update
	err := f.config.Store.View(ctx, func(tx pap.Tx) error {
		u = update{rollout: f.rollout}
		var err error
		if u.Head, err = tx.Head(); err != nil {
			return err
		}
		if !f.loaded {
			u.Records, err = newestRecords(tx)
		} else if u.Head.Position > f.position {
			u.Records, err = newEntries(tx, f.position)
		}
		if err != nil {
			return err
		}
		if err := u.findRollout(); err != nil {
			return err
		}
		u.target = nodeTarget(u.rollout, u.Head.Release)
		return f.readReleases(tx, &u)
	})
	return u, err
}

// findRollout takes the newest rollout out of the records.
func (u *update) findRollout() error {
	for _, r := range u.Records {
		if r.Kind != pap.KindRollout {
			continue
		}
		var rollout pap.Rollout
		if err := json.Unmarshal(r.Body, &rollout); err != nil {
			return fmt.Errorf("log position %d: rollout: %w", r.Position, err)
		}
		u.rollout = &rollout
	}
	return nil
}

// nodeTarget is the release that server nodes decide by: while a rollout runs,
// or until its halted release is taken back, the one that it began from.
func nodeTarget(r *pap.Rollout, head uint64) uint64 {
	if r == nil || r.State == pap.RolloutDone || r.Release != head {
		return head
	}
	return r.Base
}

// readReleases reads the newest release where it was not distributed yet, and
// the one to be compiled.
func (f *Feed) readReleases(tx pap.Tx, u *update) error {
	if u.Head.Release > f.newest {
		r, content, err := f.readRelease(tx, u.Head.Release)
		if err != nil {
			return err
		}
		u.Release, u.Content = &r, content
	}
	if f.compiling != nil || u.target == f.number() || u.target == f.refused || u.target == 0 {
		return nil
	}
	if u.Content != nil && u.target == u.Head.Release {
		u.content = u.Content
		return nil
	}
	var err error
	_, u.content, err = f.readRelease(tx, u.target)
	return err
}

// readRelease reads of a release what the newest one that was distributed does
// not have.
func (f *Feed) readRelease(tx pap.Tx, number uint64) (pap.Release, *bundles.Content, error) {
	r, err := tx.Release(number)
	if err != nil {
		return r, nil, fmt.Errorf("release %d: %w", number, err)
	}
	if f.content == nil {
		content, err := pap.ReadContent(tx, r)
		return r, content, err
	}
	content, err := pap.ReadContentFrom(tx, r, f.files, f.content)
	return r, content, err
}

// newestRecords reads the state instead of its history.
func newestRecords(tx pap.Tx) ([]pap.Record, error) {
	var all []pap.Record
	for _, kind := range []pap.Kind{
		pap.KindTenant, pap.KindSubject, pap.KindRole, pap.KindBinding, pap.KindToken, pap.KindGrant, pap.KindRestriction,
		pap.KindKeys, pap.KindRollout, pap.KindPush,
	} {
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
