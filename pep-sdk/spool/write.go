package spool

import (
	"errors"
	"fmt"
	"time"
)

// largestSpare is the largest buffer that is kept for the next use.
const largestSpare = 4 << 20

// write is the writer: it syncs batch after batch until it is stopped, and then
// the last one.
func (s *Spool) write() {
	defer close(s.wrote)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-s.soon:
			timer.Reset(s.due())
		case <-timer.C:
			s.flush()
		case <-s.now:
			s.flush()
		case <-s.stopWrite:
			s.flush()
			s.seal()
			return
		}
	}
}

// due is how long the pending batch may still wait.
func (s *Spool) due() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.records == 0 {
		return time.Hour
	}
	return max(0, s.options.FlushInterval-time.Since(s.pending.since))
}

// flush syncs the pending batch and tells whoever waits for it.
func (s *Spool) flush() {
	s.mu.Lock()
	b := s.pending
	if b.records == 0 {
		s.mu.Unlock()
		return
	}
	s.pending, s.writing = s.fresh(), b
	s.mu.Unlock()

	err := s.sync(b.data)

	s.mu.Lock()
	size := int64(len(b.data))
	if err == nil {
		s.remember(b)
		s.active.end += size
		s.active.records += b.records
		s.synced += size
		s.stats.Synced += b.records
	} else {
		s.stats.UnshippedBytes -= size
		s.stats.Refused += b.strict
		s.stats.Lost += b.records - b.strict
		b.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	b.buffer, s.writing = buffer{}, nil
	many := s.synced-s.shipped > batchBytes/2 || s.recentSize > recentBytes/2
	s.mu.Unlock()

	if err != nil {
		s.log.Error("decision records could not be written", "records", b.records, "strict", b.strict, "error", err)
		s.abandon()
	}
	close(b.done)
	notify(s.ready)
	if many {
		notify(s.hurry)
	}
}

// sync writes data behind what is synced, and syncs it.
func (s *Spool) sync(data []byte) error {
	if s.active != nil && s.active.end > headerSize && s.active.end+int64(len(data)) > s.options.SegmentBytes {
		s.seal()
	}
	if s.active == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	if _, err := s.file.WriteAt(data, s.active.end); err != nil {
		return err
	}
	return s.file.Sync()
}

// begin starts a new file.
func (s *Spool) begin() error {
	number := s.next
	s.next++ // also after a failure: a file that could not be removed stays in nobody's way
	file, err := s.fs.Create(segmentName(number))
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte(magic), 0)
	if err == nil {
		err = s.fs.Sync()
	}
	if err != nil {
		return errors.Join(err, file.Close(), s.fs.Remove(segmentName(number)))
	}
	s.file, s.active = file, &segment{number: number, end: headerSize, shipped: headerSize}
	s.mu.Lock()
	s.segments = append(s.segments, s.active)
	s.mu.Unlock()
	return nil
}

// seal ends the active file; the shipper removes it when it is done with it.
func (s *Spool) seal() {
	if s.active == nil {
		return
	}
	if err := s.file.Close(); err != nil {
		s.log.Warn("close spool file", "file", s.active.name(), "error", err) // all of it is synced
	}
	s.mu.Lock()
	s.active.sealed = true
	s.mu.Unlock()
	s.active, s.file = nil, nil
	notify(s.ready)
}

// abandon gives the active file up after a failure. What a disk did with a
// write or a sync that failed cannot be known, so nothing is added behind it;
// and what was refused should not come back at the next start.
func (s *Spool) abandon() {
	if s.active == nil {
		return
	}
	if err := errors.Join(s.file.Truncate(s.active.end), s.file.Sync()); err != nil {
		s.log.Warn("cut off a failed write", "file", s.active.name(), "error", err)
	}
	s.seal()
}
