package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// InsertDecisions implements [pap.AuditStore]. Records that come many at a time
// are stored in blocks, the others in rows.
func (s *Store) InsertDecisions(ctx context.Context, records []authz.AuditRecord) error {
	if len(records) == 0 {
		return nil
	}
	err := inTransaction(ctx, s.decisions.write, func(tx *sql.Tx) error {
		// Watching the context costs a goroutine per statement: look at it
		// instead, once a row.
		w := decisionWriter{watched: ctx, ctx: context.WithoutCancel(ctx), tx: tx, room: rooms.Get().(*room)}
		defer w.leave()
		fresh, err := w.fresh(w.room.firstOfEach(records))
		if err != nil {
			return err
		}
		return w.write(fresh)
	})
	if err != nil {
		return fmt.Errorf("store %d decision records: %w", len(records), err)
	}
	return nil
}

// firstOfEach returns the records in order of their ids, of each id the first.
// They lie in the room.
func (in *room) firstOfEach(records []authz.AuditRecord) []*authz.AuditRecord {
	in.records, in.list = slices.Grow(in.records[:0], len(records)), in.list[:0]
	for i := range records {
		in.records = append(in.records, pap.RepairAudit(records[i]))
		in.list = append(in.list, &in.records[i])
	}
	slices.SortStableFunc(in.list, func(a, b *authz.AuditRecord) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(in.list, func(a, b *authz.AuditRecord) bool { return a.ID == b.ID })
}

// decisionWriter is one call of InsertDecisions.
type decisionWriter struct {
	watched, ctx context.Context
	tx           *sql.Tx
	insert       *sql.Stmt // of a row, once there was one
	room         *room
}

// rooms keeps what blocks of the usual size need: shipping is never done.
var rooms = sync.Pool{New: func() any { return new(room) }}

func (w *decisionWriter) leave() {
	clear(w.room.records)
	clear(w.room.list[:cap(w.room.list)])
	if cap(w.room.raw) <= 2*blockBytes {
		rooms.Put(w.room)
	}
}

// fresh leaves out records that are stored. One in a block that is damaged is
// stored again: nobody can read it there.
func (w *decisionWriter) fresh(records []*authz.AuditRecord) ([]*authz.AuditRecord, error) {
	ids := make([]string, len(records))
	for i := range records {
		ids[i] = records[i].ID
	}
	known := map[string]bool{}
	err := findInBlocks(w.ctx, w.tx, ids, func(b *block, wanted []string) error {
		err := b.each(func(r *rawRecord) bool {
			if id := string(r.texts[columnID]); has(wanted, id) {
				known[id] = true
			}
			return true
		})
		if errors.Is(err, errDamaged) {
			return nil
		}
		return err
	})
	if err != nil || len(known) == 0 {
		return records, err
	}
	return slices.DeleteFunc(records, func(r *authz.AuditRecord) bool { return known[r.ID] }), nil
}

// write stores records that no block has, in order of their ids.
func (w *decisionWriter) write(records []*authz.AuditRecord) error {
	for len(records) > 0 {
		n := 1
		for n < len(records) && bucket(records[n].ID) == bucket(records[0].ID) {
			n++
		}
		some := records[:n]
		records = records[n:]
		if n >= blockLeast {
			var err error
			if some, err = w.withoutRows(some); err != nil {
				return err
			}
		}
		store := w.rows
		if len(some) >= blockLeast {
			store = w.blocks
		}
		if err := store(some); err != nil {
			return err
		}
	}
	return nil
}

// withoutRows leaves out records that have a row.
func (w *decisionWriter) withoutRows(records []*authz.AuditRecord) ([]*authz.AuditRecord, error) {
	var some bool // mostly there are none near
	err := w.tx.QueryRowContext(w.ctx, "SELECT EXISTS (SELECT 1 FROM audit WHERE id >= ? AND id <= ?)", records[0].ID, records[len(records)-1].ID).Scan(&some)
	if err != nil || !some {
		return records, err
	}
	ids := make([]string, len(records))
	for i := range records {
		ids[i] = records[i].ID
	}
	list, err := jsonList(ids)
	if err != nil {
		return nil, err
	}
	scan := func(row scanner) (id string, err error) { return id, row.Scan(&id) }
	known, err := collect(w.ctx, w.tx, scan, len(ids), "SELECT id FROM audit WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?", list)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(records, func(r *authz.AuditRecord) bool { return has(known, r.ID) }), nil
}

func (w *decisionWriter) rows(records []*authz.AuditRecord) (err error) {
	if w.insert == nil {
		if w.insert, err = w.tx.PrepareContext(w.ctx, insertAudit); err != nil {
			return err
		}
	}
	for i := range records {
		if err := w.watched.Err(); err != nil {
			return err
		}
		if _, err := w.insert.ExecContext(w.ctx, auditValues(*records[i])...); err != nil {
			return fmt.Errorf("record %q: %w", records[i].ID, err)
		}
	}
	return nil
}

// blocks stores records of one bucket in blocks of like sizes.
func (w *decisionWriter) blocks(records []*authz.AuditRecord) error {
	parts := (len(records) + blockMost - 1) / blockMost
	most := (len(records) + parts - 1) / parts
	for len(records) > 0 {
		if err := w.watched.Err(); err != nil {
			return err
		}
		b, taken := newBlock(records, most, w.room)
		_, err := w.tx.ExecContext(w.ctx, "INSERT INTO blocks (first, last, earliest, latest, names, ids, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
			b.first, b.last, b.earliest, b.latest, b.names, b.ids, b.data)
		if err != nil {
			return fmt.Errorf("block from %q to %q: %w", b.first, b.last, err)
		}
		records = records[taken:]
	}
	return nil
}

// findInBlocks calls fn for every block that seems to have some of the ids,
// which are in order, with those that it seems to have.
func findInBlocks(ctx context.Context, tx *sql.Tx, ids []string, fn func(b *block, wanted []string) error) error {
	for len(ids) > 0 {
		n := 1
		for n < len(ids) && bucket(ids[n]) == bucket(ids[0]) {
			n++
		}
		if err := findInBucket(ctx, tx, ids[:n], fn); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

func findInBucket(ctx context.Context, tx *sql.Tx, ids []string, fn func(b *block, wanted []string) error) error {
	rows, err := tx.QueryContext(ctx, "SELECT number, first, last, ids FROM blocks WHERE last >= ? AND last < ? AND first <= ?",
		ids[0], afterBucket(ids[0]), ids[len(ids)-1])
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var b block
		if err := rows.Scan(&b.number, &b.first, &b.last, &b.ids); err != nil {
			return err
		}
		wanted := b.seemsToHave(ids)
		if len(wanted) == 0 {
			continue
		}
		if err := b.read(ctx, tx); err != nil {
			return err
		}
		if err := fn(&b, wanted); err != nil {
			return err
		}
	}
	return rows.Err()
}

// seemsToHave returns those of the ids, which are in order, that the block has,
// with seldom another; if its marks are damaged, those that it can have.
func (b *block) seemsToHave(ids []string) (wanted []string) {
	from, _ := slices.BinarySearch(ids, b.first)
	to, last := slices.BinarySearch(ids, b.last)
	if last {
		to++
	}
	all, whole := unsealed(b.ids)
	if !whole {
		return ids[from:to]
	}
	for _, id := range ids[from:to] {
		if marked(all, markOf(columnID, id)) {
			wanted = append(wanted, id)
		}
	}
	return wanted
}

// read reads the block's records.
func (b *block) read(ctx context.Context, tx *sql.Tx) error {
	return tx.QueryRowContext(ctx, "SELECT data FROM blocks WHERE number = ?", b.number).Scan(&b.data)
}

// Decisions implements [pap.AuditStore].
func (s *Store) Decisions(ctx context.Context, after string, limit int) ([]authz.AuditRecord, error) {
	if err := pap.CheckText(after); err != nil {
		return nil, err
	}
	found := &selection{after: after, limit: max(limit, 0)}
	if err := s.selectDecisions(ctx, found); err != nil {
		return nil, fmt.Errorf("list decision records: %w", err)
	}
	return found.collection, nil
}

// selectDecisions adds what a selection asks for. It reads one block at a time,
// and no more than overlap with what it finds.
func (s *Store) selectDecisions(ctx context.Context, found *selection) error {
	if found.limit < 1 {
		return nil
	}
	return inTransaction(ctx, s.decisions.read, func(tx *sql.Tx) error {
		query, args := found.ofRows()
		rows, err := collect(ctx, tx, scanAudit, found.limit, query, args...)
		if err != nil {
			return err
		}
		found.add(rows...)
		return found.addBlocks(ctx, tx)
	})
}

func (s *selection) addBlocks(ctx context.Context, tx *sql.Tx) error {
	query, args := s.ofBlocks()
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var b block
		if err := rows.Scan(&b.number, &b.first, &b.last, &b.names); err != nil {
			return err
		}
		if s.complete(&b) {
			return nil
		}
		names, whole := unsealed(b.names)
		if !whole {
			return b.damaged()
		}
		if !s.mayBeIn(names) {
			continue
		}
		if err := b.read(ctx, tx); err != nil {
			return err
		}
		if err := s.addBlock(&b); err != nil {
			return err
		}
	}
	return rows.Err()
}

// addBlock adds those of a block's records that match and are among the first.
func (s *selection) addBlock(b *block) error {
	var matching []rawRecord // in order of their ids
	err := b.each(func(r *rawRecord) bool {
		if s.matches(r) {
			matching = append(matching, *r)
		}
		return s.newest || len(matching) < s.limit
	})
	if err != nil {
		return err
	}
	if s.newest {
		matching = matching[max(len(matching)-s.limit, 0):]
	}
	more := make([]authz.AuditRecord, len(matching))
	for i := range matching {
		more[i] = matching[i].record()
	}
	s.add(more...)
	return nil
}

// DecisionsByID implements [pap.AuditStore].
func (s *Store) DecisionsByID(ctx context.Context, ids []string) ([]authz.AuditRecord, error) {
	if err := pap.CheckText(ids...); err != nil {
		return nil, err
	}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	list, err := jsonList(ids)
	if err != nil {
		return nil, err
	}
	var found []authz.AuditRecord
	err = inTransaction(ctx, s.decisions.read, func(tx *sql.Tx) error {
		found, err = collect(ctx, tx, scanAudit, len(ids), "SELECT "+auditColumns+" FROM audit WHERE id IN (SELECT value FROM json_each(?)) LIMIT ?", list)
		if err != nil {
			return err
		}
		return findInBlocks(ctx, tx, ids, func(b *block, wanted []string) error {
			return b.each(func(r *rawRecord) bool {
				if has(wanted, string(r.texts[columnID])) {
					found = append(found, r.record())
				}
				return true
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read %d decision records: %w", len(ids), err)
	}
	return found, nil
}

// has reports whether a sorted list has the id.
func has(list []string, id string) bool {
	_, found := slices.BinarySearch(list, id)
	return found
}

func jsonList(texts []string) (string, error) {
	data, err := json.Marshal(texts)
	return string(data), err
}
