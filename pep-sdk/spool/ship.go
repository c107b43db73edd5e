package spool

import (
	"errors"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// How long the shipper waits after the sink, or the disk, failed.
const (
	backOffFirst = 100 * time.Millisecond
	backOffMost  = 5 * time.Second
)

// shipper is what the shipping goroutine alone knows.
type shipper struct {
	*Spool
	file    File // of the segment being read, nil if none is open
	segment *segment
	records []authz.AuditRecord // of more than one batch in memory
}

// ship is the shipper: it hands synced records to the sink until it is
// stopped, and then what is left, as long as the sink takes it.
func (s *Spool) ship() {
	defer close(s.sent)
	sh := shipper{Spool: s}
	defer sh.closeFile()
	wait := backOffFirst
	for {
		stopping := isClosed(s.stopShip)
		err := sh.drain()
		switch {
		case stopping:
			return // what is left is for the next Open
		case err != nil:
			s.log.Warn("decision records could not be shipped", "error", err, "again_in", wait)
			s.pause(wait, nil)
			wait = min(2*wait, backOffMost)
		default:
			wait = backOffFirst
			select {
			case <-s.ready:
				s.pause(s.options.ShipInterval, s.hurry)
			case <-s.stopShip:
			}
		}
	}
}

// pause waits, but not if there is reason to hurry, nor when the spool closes.
func (s *Spool) pause(d time.Duration, hurry <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	case <-s.stopShip:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// drain ships until nothing is left that was synced.
func (sh *shipper) drain() error {
	for {
		seg, from, end := sh.position()
		if seg == nil {
			return nil
		}
		if from == end {
			sh.remove(seg)
			continue
		}
		if err := sh.shipSome(seg, from, end); err != nil {
			return err
		}
	}
}

// position says what to read next: a range of the oldest segment, which is
// empty where a sealed one has been shipped. It returns nil if there is
// nothing to do.
func (sh *shipper) position() (seg *segment, from, end int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.segments) == 0 {
		return nil, 0, 0
	}
	seg = sh.segments[0]
	if seg.shipped == seg.end && !seg.sealed {
		return nil, 0, 0
	}
	return seg, seg.shipped, seg.end
}

// shipSome hands the next records to the sink.
func (sh *shipper) shipSome(seg *segment, from, end int64) error {
	some, to := sh.recall(seg, from, end)
	if len(some) == 0 {
		return sh.shipFile(seg, from, to)
	}
	records := some[0].held
	if len(some) > 1 {
		records = sh.records[:0]
		for i := range some {
			records = append(records, some[i].held...)
		}
		sh.records = records
	}
	err := sh.sink(sh.shipping, records)
	if err == nil {
		sh.taken(seg, records, 0, to-from)
	}
	clear(sh.records)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for i := range some {
		sh.reuse(some[i].buffer)
	}
	if err != nil {
		sh.forget()
	}
	return err
}

// shipFile is shipSome for records that are read from the file.
func (sh *shipper) shipFile(seg *segment, from, end int64) error {
	if err := sh.openFile(seg); err != nil {
		return err
	}
	records, unreadable, bytes, err := load(sh.file, from, end, batchRecords, sh.table)
	damaged := errors.Is(err, errDamaged)
	if err != nil && !damaged {
		return err
	}
	if len(records) > 0 {
		if err := sh.sink(sh.shipping, records); err != nil {
			return err
		}
	}
	sh.taken(seg, records, unreadable, bytes)
	if damaged {
		sh.giveUpRest(seg)
	}
	return nil
}

// taken notes that the sink has the records.
func (sh *shipper) taken(seg *segment, records []authz.AuditRecord, unreadable int, bytes int64) {
	if unreadable > 0 {
		sh.log.Error("records of the spool cannot be understood and are skipped", "file", seg.name(), "records", unreadable)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	seg.records -= uint64(len(records) + unreadable)
	sh.stats.Shipped += uint64(len(records))
	sh.stats.Damaged += uint64(unreadable)
	sh.advance(seg, bytes)
}

// giveUpRest passes over the rest of a file that was intact when it was synced
// and is not any more: the records behind it must not wait for ever.
func (sh *shipper) giveUpRest(seg *segment) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.log.Error("the disk damaged synced records; the rest of the file is skipped", "file", seg.name(), "records", seg.records)
	sh.stats.Damaged += seg.records
	seg.records = 0
	sh.forget() // none of them may be behind what is shipped
	sh.advance(seg, seg.end-seg.shipped)
}

// advance moves on by some bytes and tells who waits in Flush. The caller
// holds mu.
func (sh *shipper) advance(seg *segment, bytes int64) {
	seg.shipped += bytes
	sh.shipped += bytes
	sh.stats.UnshippedBytes -= bytes
	close(sh.progress)
	sh.progress = make(chan struct{})
}

// remove forgets a segment that is shipped. A file that cannot be removed is
// shipped again after the next Open, which changes nothing.
func (sh *shipper) remove(seg *segment) {
	sh.closeFile()
	if err := sh.fs.Remove(seg.name()); err != nil {
		sh.log.Warn("remove shipped spool file", "file", seg.name(), "error", err)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.segments = sh.segments[1:]
}

func (sh *shipper) openFile(seg *segment) error {
	if sh.segment == seg {
		return nil
	}
	sh.closeFile()
	file, err := sh.fs.Open(seg.name())
	if err != nil {
		return err
	}
	sh.file, sh.segment = file, seg
	return nil
}

func (sh *shipper) closeFile() {
	if sh.file == nil {
		return
	}
	if err := sh.file.Close(); err != nil {
		sh.log.Warn("close spool file", "file", sh.segment.name(), "error", err) // it was only read
	}
	sh.file, sh.segment = nil, nil
}
