package backup

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Store is what can be backed up and restored. Its transactions are
// [cheq.Rows] as well.
type Store interface {
	pap.Store
	pap.AuditStore
}

// pageSize is how many entries are read at a time. Blobs come one by one.
const pageSize = 200

// Backup writes everything in the store, as of one moment, beside running
// servers. Decision records are read before: those that come during the backup
// may be missing.
func Backup(ctx context.Context, store Store, w io.Writer, now time.Time) error {
	out := newWriter(w)
	err := store.View(ctx, func(tx pap.Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		if err := out.write(line{Header: &header{version, now.UTC(), head}}); err != nil {
			return err
		}
		if err := writeDecisions(ctx, store, out); err != nil {
			return err
		}
		return writeAll(tx, head, out)
	})
	if err == nil {
		err = out.close()
	}
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

func writeDecisions(ctx context.Context, store Store, out *writer) error {
	after := ""
	return pages(func() ([]authz.AuditRecord, error) { return store.Decisions(ctx, after, pageSize) }, func(r authz.AuditRecord) error {
		after = r.ID
		return out.write(line{Decision: &r})
	})
}

// writeAll writes what a transaction sees, in an order in which it can be
// written again.
func writeAll(tx pap.Tx, head authz.Revision, out *writer) error {
	if err := writeReleases(tx, head.Release, out); err != nil {
		return err
	}
	var version pap.Document
	if err := pages(func() ([]pap.Document, error) { return tx.DocumentVersions(version.Path, version.Version, pageSize) }, func(d pap.Document) error {
		version = d
		entry := document(d)
		return out.write(line{Document: &entry})
	}); err != nil {
		return err
	}
	position := uint64(0)
	if err := pages(func() ([]pap.Record, error) { return tx.Log(position, pageSize) }, func(r pap.Record) error {
		position = r.Position
		entry := record(r)
		return out.write(line{Record: &entry})
	}); err != nil {
		return err
	}
	var use pap.GrantUse
	if err := pages(func() ([]pap.GrantUse, error) { return tx.GrantUses(use, pageSize) }, func(u pap.GrantUse) error {
		use = u
		return out.write(line{Use: &u})
	}); err != nil {
		return err
	}
	if err := writeCases(tx, out); err != nil {
		return err
	}
	id := ""
	return pages(func() ([]authz.AuditRecord, error) { return tx.Audits(id, pageSize) }, func(r authz.AuditRecord) error {
		id = r.ID
		return out.write(line{Audit: &r})
	})
}

// writeCases writes the cases with their timelines and deliveries, the newest
// first, and which answers have counted.
func writeCases(tx pap.Tx, out *writer) error {
	rows := tx.(cheq.Rows) //nolint:forcetypeassert // both databases keep cases; [Store] says so
	before := ""
	if err := pages(func() ([]cheq.Case, error) { return rows.Cases(cheq.Filter{}, before, pageSize) }, func(c cheq.Case) error {
		before = c.ID
		timeline, err := rows.Timeline(c.ID, math.MaxInt32)
		if err != nil {
			return err
		}
		deliveries, err := rows.Deliveries(c.ID)
		if err != nil {
			return err
		}
		return out.write(line{Case: &oneCase{c, timeline, deliveries}})
	}); err != nil {
		return err
	}
	var answered cheq.Answered
	return pages(func() ([]cheq.Answered, error) { return rows.Answered(answered, pageSize) }, func(a cheq.Answered) error {
		answered = a
		return out.write(line{Answered: &a})
	})
}

// writeReleases writes each content before the first release that names it.
func writeReleases(tx pap.Tx, newest uint64, out *writer) error {
	written := map[bundles.Digest]bool{}
	for number := uint64(1); number <= newest; number++ {
		release, err := tx.Release(number)
		if err != nil {
			return fmt.Errorf("release %d: %w", number, err)
		}
		for _, file := range release.Files {
			if written[file.Digest] {
				continue
			}
			written[file.Digest] = true
			data, err := tx.Blob(file.Digest)
			if err != nil {
				return fmt.Errorf("content of %s in release %d: %w", file.Path, number, err)
			}
			if err := out.write(line{Blob: &blob{data}}); err != nil {
				return err
			}
		}
		if err := out.write(line{Release: &release}); err != nil {
			return err
		}
	}
	return nil
}

// pages calls next until it returns nothing, and each for every entry.
func pages[T any](next func() ([]T, error), each func(T) error) error {
	for {
		page, err := next()
		if err != nil || len(page) == 0 {
			return err
		}
		for _, entry := range page {
			if err := each(entry); err != nil {
				return err
			}
		}
	}
}
