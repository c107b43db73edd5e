package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool/dirlock"
)

// ErrUnavailable means that a record could not be made durable. Whoever asked
// for a strict append must deny (503 audit_unavailable).
var ErrUnavailable = errors.New("the decision record cannot be kept")

// Sink takes records for good. It must skip ids that it has. The bodies are its
// own until it returns: their memory is used again.
type Sink func(ctx context.Context, records []authz.AuditRecord) error

// Options bound a spool. The zero value of each field stands for its default.
type Options struct {
	// MaxBytes bounds the records that wait to be shipped, on disk and in
	// memory. Default 1 GiB.
	MaxBytes int64
	// BufferBytes bounds the records in memory that wait for the disk.
	// Default 16 MiB.
	BufferBytes int
	// SegmentBytes is the size after which a new file begins. Default 16 MiB.
	SegmentBytes int64
	// FlushInterval is how long a buffered record may wait before its sync
	// begins. Default 40 ms, which leaves the disk 10 ms of the promised 50.
	FlushInterval time.Duration
	// ShipInterval is how long records gather before they are shipped, unless
	// they are many. Default 200 ms.
	ShipInterval time.Duration
	// FS stands in for the folder; nil is the folder itself, under a lock.
	FS  FS
	Log *slog.Logger // nil discards
}

// The most that is handed to the sink at once.
const (
	batchRecords = 8000
	batchBytes   = 8 << 20
)

// Stats counts records since Open. When nothing is under way, Appended = Synced
// + Lost + Refused.
type Stats struct {
	Appended uint64 // calls of Append
	Synced   uint64 // of these, on disk
	Lost     uint64 // buffered records that could not be kept
	Refused  uint64 // strict appends that failed with ErrUnavailable
	Shipped  uint64 // records that the sink took, with those found at Open
	Damaged  uint64 // records that were on disk and could not be read again
	Torn     int64  // bytes at the ends of files that Open cut off

	UnshippedBytes int64
}

// Spool is an open spool. It is safe for concurrent use.
type Spool struct {
	fs      FS
	sink    Sink
	options Options
	log     *slog.Logger
	table   *crc32.Table
	frames  sync.Pool // *[]byte
	lock    *dirlock.Lock

	mu         sync.Mutex
	pending    *batch     // records that no sync has begun for
	writing    *batch     // the batch whose sync is under way
	segments   []*segment // oldest first
	recent     []stretch  // the end of what is synced and not shipped, in order
	recentSize int        // of their buffers
	spare      []buffer
	spareSize  int
	synced     int64 // bytes ever synced, with those found at Open
	shipped    int64 // of them, bytes that have been shipped or given up
	progress   chan struct{}
	stats      Stats
	closed     bool

	soon, now chan struct{} // to the writer: a batch began, a batch is urgent
	ready     chan struct{} // to the shipper: something was synced
	hurry     chan struct{} // to the shipper: do not wait for more
	stopWrite chan struct{}
	stopShip  chan struct{}
	wrote     chan struct{} // closed when the writer has ended
	sent      chan struct{} // closed when the shipper has ended
	shipping  context.Context
	giveUp    context.CancelFunc

	// Of the writer alone:
	active *segment
	file   File
	next   uint64 // number of the next file
}

// batch is the records of one sync.
type batch struct {
	buffer
	records uint64
	strict  uint64    // of them
	since   time.Time // of the first
	done    chan struct{}
	err     error // after done is closed
}

// Open opens the spool in a folder, makes the folder (mode 0700) if it is not
// there, and ships what an earlier process left. Damaged ends of files are cut
// off and counted.
func Open(dir string, options Options, sink Sink) (_ *Spool, err error) {
	options.MaxBytes = cmp.Or(options.MaxBytes, 1<<30)
	options.BufferBytes = cmp.Or(options.BufferBytes, 16<<20)
	options.SegmentBytes = cmp.Or(options.SegmentBytes, 16<<20)
	options.FlushInterval = cmp.Or(options.FlushInterval, 40*time.Millisecond)
	options.ShipInterval = cmp.Or(options.ShipInterval, 200*time.Millisecond)
	s := &Spool{
		fs: options.FS, sink: sink, options: options, log: options.Log, table: crc32.MakeTable(crc32.Castagnoli),
		pending: &batch{done: make(chan struct{})}, progress: make(chan struct{}),
		soon: make(chan struct{}, 1), now: make(chan struct{}, 1), ready: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		stopWrite: make(chan struct{}), stopShip: make(chan struct{}), wrote: make(chan struct{}), sent: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.fs == nil {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open spool: %w", err)
		}
		if s.lock, err = dirlock.Acquire(dir, "spool.lock"); err != nil {
			return nil, fmt.Errorf("open spool: %w", err)
		}
		s.fs = folder(dir)
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool %s: %w", dir, err), s.unlock())
	}
	s.shipping, s.giveUp = context.WithCancel(context.Background())
	go s.write()
	go s.ship()
	notify(s.ready)
	return s, nil
}

func (s *Spool) unlock() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Release()
}

// recover finds the files of earlier processes. They are only read and
// removed from now on: new records go to a new file.
func (s *Spool) recover() error {
	names, err := s.fs.Names()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		number, ok := segmentNumber(name)
		if !ok {
			continue
		}
		s.next = number + 1
		if err := s.recoverSegment(number); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s *Spool) recoverSegment(number uint64) (err error) {
	file, err := s.fs.Open(segmentName(number))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	records, end, size, err := scan(file, s.table)
	if err != nil {
		return err
	}
	if torn := size - end; torn > 0 {
		s.stats.Torn += torn
		s.log.Warn("cut off what was not synced completely", "file", segmentName(number), "bytes", torn, "intact_records", records)
		if err := file.Truncate(end); err != nil {
			return err
		}
	}
	if records == 0 {
		return s.fs.Remove(segmentName(number))
	}
	s.segments = append(s.segments, &segment{number: number, end: end, records: records, shipped: headerSize, sealed: true})
	s.synced += end - headerSize
	s.stats.UnshippedBytes += end - headerSize
	return nil
}

// notify leaves a hint in a channel of capacity one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Append keeps a record. With strict it returns after the record is on disk, or
// fails: with ErrUnavailable, or with ctx's error, after which the record may be
// kept or not. Without strict it returns nil at once; a record that cannot be
// kept is counted as lost.
func (s *Spool) Append(ctx context.Context, record *authz.AuditRecord, strict bool) error {
	buf, _ := s.frames.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	frame := record.AppendJSON(beginFrame((*buf)[:0]))
	endFrame(frame, s.table)
	b, first, err := s.add(frame, record, strict)
	if cap(frame) <= largestSpare {
		*buf = frame
		s.frames.Put(buf)
	}
	switch {
	case err != nil && strict:
		return err
	case err != nil:
		return nil // counted
	case strict:
		notify(s.now)
	case first:
		notify(s.soon)
	}
	if !strict {
		return nil
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the decision record's sync: %w", ctx.Err())
	}
}

// add puts a frame into the pending batch, or counts that it could not.
func (s *Spool) add(frame []byte, record *authz.AuditRecord, strict bool) (b *batch, first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Appended++
	if err := s.room(len(frame)); err != nil {
		if strict {
			s.stats.Refused++
		} else {
			s.stats.Lost++
		}
		return nil, false, err
	}
	b = s.pending
	if first = b.records == 0; first {
		b.since = time.Now()
	}
	b.data = append(b.data, frame...)
	b.hold(record)
	b.records++
	if strict {
		b.strict++
	}
	s.stats.UnshippedBytes += int64(len(frame))
	return b, first, nil
}

func (s *Spool) room(size int) error {
	switch {
	case s.closed:
		return fmt.Errorf("%w: the spool is closed", ErrUnavailable)
	case size-frameSize > maxRecord:
		return fmt.Errorf("%w: it has %d bytes, %d are the most", ErrUnavailable, size-frameSize, maxRecord)
	case s.stats.UnshippedBytes+int64(size) > s.options.MaxBytes:
		return fmt.Errorf("%w: %d bytes of records wait for the database, %d are the most", ErrUnavailable, s.stats.UnshippedBytes, s.options.MaxBytes)
	case len(s.pending.data) > 0 && len(s.pending.data)+size > s.options.BufferBytes:
		return fmt.Errorf("%w: the disk does not keep up", ErrUnavailable)
	}
	return nil
}

// Stats returns the counts so far.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Flush returns when every record appended before is in the sink, or counted
// as lost, or ctx ends.
func (s *Spool) Flush(ctx context.Context) error {
	s.mu.Lock()
	last := s.writing
	if s.pending.records > 0 {
		last = s.pending
	}
	s.mu.Unlock()
	if last != nil {
		notify(s.now)
		select {
		case <-last.done:
		case <-ctx.Done():
			return fmt.Errorf("flush spool: %w", ctx.Err())
		}
	}
	s.mu.Lock()
	target := s.synced
	for s.shipped < target {
		progress := s.progress
		s.mu.Unlock()
		notify(s.hurry)
		select {
		case <-progress:
		case <-s.sent: // closed meanwhile
			return fmt.Errorf("flush spool: %w: the spool is closed", ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("flush spool: %w", ctx.Err())
		}
		s.mu.Lock()
	}
	s.mu.Unlock()
	return nil
}

// Close syncs what was appended and ships what the sink takes before ctx
// ends; the rest stays on disk for the next Open. Appends after Close fail.
func (s *Spool) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	last := s.pending
	s.mu.Unlock()

	close(s.stopWrite)
	<-s.wrote
	stop := context.AfterFunc(ctx, s.giveUp)
	defer stop()
	close(s.stopShip)
	<-s.sent
	s.giveUp()
	if left := s.Stats().UnshippedBytes; left > 0 {
		s.log.Warn("decision records are left for the next start", "bytes", left)
	}
	return errors.Join(last.err, s.unlock())
}
