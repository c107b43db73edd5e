package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ErrNotEmpty is returned for a store that already holds something.
var ErrNotEmpty = errors.New("the database is not empty")

// Restore reads what [Backup] wrote into an empty store. The file is read
// three times: once to find it intact before anything is written, once for the
// decision records, once for all the rest, in one transaction. A restore that
// was interrupted leaves at most decision records; begin again with a new
// database then.
func Restore(ctx context.Context, file io.ReadSeeker, store Store) error {
	if err := restore(ctx, file, store); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

func restore(ctx context.Context, file io.ReadSeeker, store Store) error {
	if _, err := read(file, func(line) error { return nil }); err != nil {
		return err
	}
	if err := isEmpty(ctx, store); err != nil {
		return err
	}
	if err := restoreDecisions(ctx, file, store); err != nil {
		return err
	}
	return store.Update(ctx, func(tx pap.Tx) error {
		header, err := read(file, func(l line) error { return restoreLine(tx, l) })
		if err != nil {
			return err
		}
		head, err := tx.Head()
		if err == nil && head != header.Revision {
			err = fmt.Errorf("%w: it leads to revision %s and says %s", ErrDamaged, head, header.Revision)
		}
		return err
	})
}

func isEmpty(ctx context.Context, store Store) error {
	decisions, err := store.Decisions(ctx, "", 1)
	if err != nil {
		return err
	}
	return store.View(ctx, func(tx pap.Tx) error {
		head, headErr := tx.Head()
		documents, documentsErr := tx.DocumentVersions("", math.MinInt64, 1)
		uses, usesErr := tx.GrantUses(pap.GrantUse{}, 1)
		audits, auditsErr := tx.Audits("", 1)
		rows := tx.(cheq.Rows) //nolint:forcetypeassert // as in writeCases
		cases, casesErr := rows.Cases(cheq.Filter{}, "", 1)
		answered, answeredErr := rows.Answered(cheq.Answered{}, 1)
		if err := errors.Join(headErr, documentsErr, usesErr, auditsErr, casesErr, answeredErr); err != nil {
			return err
		}
		if !head.IsZero() || len(decisions)+len(documents)+len(uses)+len(audits)+len(cases)+len(answered) > 0 {
			return fmt.Errorf("%w (revision %s): restore into a new one", ErrNotEmpty, head)
		}
		return nil
	})
}

func restoreDecisions(ctx context.Context, file io.ReadSeeker, store Store) error {
	var page []authz.AuditRecord
	storePage := func() error {
		err := store.InsertDecisions(ctx, page)
		page = page[:0]
		return err
	}
	_, err := read(file, func(l line) error {
		if l.Decision == nil {
			return nil
		}
		if page = append(page, *l.Decision); len(page) < pageSize {
			return nil
		}
		return storePage()
	})
	if err != nil {
		return err
	}
	return storePage()
}

func restoreCase(tx pap.Tx, c *oneCase) error {
	rows := tx.(cheq.Rows) //nolint:forcetypeassert // as in writeCases
	if err := rows.PutCase(c.Case); err != nil {
		return err
	}
	for _, e := range c.Timeline {
		if err := rows.Note(&c.Case, e); err != nil {
			return err
		}
	}
	for _, d := range c.Deliveries {
		if err := rows.PutDelivery(d); err != nil {
			return err
		}
	}
	return nil
}

func restoreAnswered(tx pap.Tx, a *cheq.Answered) error {
	_, err := tx.(cheq.Rows).Seen(a.Channel, a.Event, a.At, time.Time{}) //nolint:forcetypeassert // as in writeCases
	return err
}

// restoreLine writes one entry. What the store would number differently is
// refused: the file is not what a store once held.
func restoreLine(tx pap.Tx, l line) error {
	switch {
	case l.Blob != nil:
		return tx.PutBlob(sha256.Sum256(l.Blob.Data), l.Blob.Data)
	case l.Release != nil:
		return tx.InsertRelease(*l.Release)
	case l.Document != nil:
		return tx.PutDocument(pap.Document(*l.Document))
	case l.Record != nil:
		position, err := tx.Put(pap.Record(*l.Record))
		if err == nil && position != l.Record.Position {
			err = fmt.Errorf("%w: log position %d is where %d belongs", ErrDamaged, l.Record.Position, position)
		}
		return err
	case l.Use != nil:
		_, err := tx.UseGrant(l.Use.Grant, l.Use.Key, math.MaxInt)
		return err
	case l.Case != nil:
		return restoreCase(tx, l.Case)
	case l.Answered != nil:
		return restoreAnswered(tx, l.Answered)
	case l.Audit != nil:
		return tx.Audit(*l.Audit)
	case l.Decision != nil:
		return nil // stored before
	default:
		return fmt.Errorf("%w: an entry without content", ErrDamaged)
	}
}
