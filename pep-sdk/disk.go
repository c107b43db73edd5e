package pep

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

// Files of Dir/state. Each holds what a node signed, to be verified again
// when it is read; none holds a local time.
const (
	keysFile    = "keys.jws"       // the signed key set
	logFile     = "log.jws"        // signed log ranges, one a line, from the one with Reset on
	releaseFile = "release.tar.gz" // the active release as a snapshot
	beatFile    = "heartbeat.jws"  // the newest heartbeat that spoke of just that
	setAside    = ".unreadable"    // added to the name of what could not be verified
)

const (
	// maxLogFile bounds what is read back of the log.
	maxLogFile = 1 << 30
	// maxWaiting bounds signed ranges that wait for the disk in memory. With
	// more, the log is asked for anew when the disk takes files again.
	maxWaiting = 16 << 20
	diskRetry  = 5 * time.Second
)

// disk keeps the last known good state. Its goroutine writes the newest of
// what it is given, in an order in which a heartbeat never speaks of what is
// not yet there. A disk that fails changes no decision: what could not be
// written is tried again.
type disk struct {
	dir     string
	log     *slog.Logger
	gap     func() // asks for the log from 0, since ranges were not kept
	failing func(err error)
	wake    chan struct{}

	mu      sync.Mutex
	waiting saving
	bytes   int  // of waiting.log
	lost    bool // ranges were dropped: nothing can be appended any more

	// Of the goroutine alone: how much of the log file is whole.
	good int64
}

func newDisk(dir string, log *slog.Logger, gap func(), failing func(error)) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &disk{dir: dir, log: log, gap: gap, failing: failing, wake: make(chan struct{}, 1)}, nil
}

// save hands over what should be on disk; it never blocks.
func (d *disk) save(s *saving) {
	d.mu.Lock()
	d.add(s)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *disk) add(s *saving) {
	w := &d.waiting
	if s.keys != "" {
		w.keys = s.keys
	}
	if s.release != nil {
		w.release = s.release
	}
	if s.beat != "" {
		w.beat = s.beat
	}
	if s.reset {
		w.log, w.reset, d.bytes, d.lost = nil, true, 0, false
	}
	if d.lost {
		return
	}
	for _, signed := range s.log {
		w.log = append(w.log, signed)
		d.bytes += len(signed)
	}
	if d.bytes > maxWaiting && !w.reset {
		w.log, d.bytes, d.lost = nil, 0, true
	}
}

// run writes until ctx ends, and then what is left, once.
func (d *disk) run(ctx context.Context) {
	timer := time.NewTimer(0)
	<-timer.C
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := d.flush(); err != nil {
				d.log.Warn("the last state could not be written", "dir", d.dir, "error", err)
			}
			return
		case <-d.wake:
		case <-timer.C:
		}
		err := d.flush()
		d.failing(err)
		if err != nil {
			timer.Reset(diskRetry)
			continue
		}
		d.mu.Lock()
		lost := d.lost
		d.mu.Unlock()
		if lost {
			d.gap()
		}
	}
}

// flush writes what waits. What could not be written waits on, unless
// something newer came meanwhile.
func (d *disk) flush() error {
	d.mu.Lock()
	s := d.waiting
	d.waiting, d.bytes = saving{}, 0
	d.mu.Unlock()
	err := d.write(&s)
	if err == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	newer := d.waiting
	d.waiting, d.bytes = saving{}, 0
	d.add(&s)
	d.add(&newer)
	return err
}

// write writes s and clears what it has written.
func (d *disk) write(s *saving) error {
	if s.keys != "" {
		if err := d.replace(keysFile, func(w io.Writer) error { _, err := io.WriteString(w, s.keys); return err }); err != nil {
			return err
		}
		s.keys = ""
	}
	if err := d.writeLog(s); err != nil {
		return err
	}
	if s.release != nil {
		b := s.release
		if err := d.replace(releaseFile, func(w io.Writer) error { return bundles.WriteSnapshot(w, b.Signed, b.Content) }); err != nil {
			return err
		}
		s.release = nil
	}
	if s.beat != "" {
		return d.replace(beatFile, func(w io.Writer) error { _, err := io.WriteString(w, s.beat); return err })
	}
	return nil
}

func (d *disk) writeLog(s *saving) error {
	if len(s.log) == 0 {
		return nil
	}
	lines := func(w io.Writer) error {
		for _, signed := range s.log {
			if _, err := io.WriteString(w, signed+"\n"); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	if s.reset {
		err = d.replace(logFile, lines)
		if err == nil {
			d.good, err = d.size(logFile)
		}
	} else {
		err = d.appendLog(lines)
	}
	if err == nil {
		s.log, s.reset = nil, false
	}
	return err
}

func (d *disk) size(name string) (int64, error) {
	info, err := os.Stat(filepath.Join(d.dir, name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// appendLog appends behind what is whole: what a failed write left is cut off.
func (d *disk) appendLog(lines func(io.Writer) error) (err error) {
	file, err := os.OpenFile(filepath.Join(d.dir, logFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := file.Truncate(d.good); err != nil {
		return err
	}
	if _, err := file.Seek(d.good, io.SeekStart); err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	if err := errors.Join(lines(w), w.Flush(), file.Sync()); err != nil {
		return err
	}
	end, err := file.Seek(0, io.SeekCurrent)
	if err == nil {
		d.good = end
	}
	return err
}

// replace writes a file anew so that a crash leaves the old or the new one.
func (d *disk) replace(name string, write func(io.Writer) error) (err error) {
	file, err := os.OpenFile(filepath.Join(d.dir, name+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	if err := errors.Join(write(w), w.Flush(), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), filepath.Join(d.dir, name)); err != nil {
		return err
	}
	dir, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// aside puts what cannot be verified out of the way, for somebody to look at.
func (d *disk) aside(name string, why error) {
	from := filepath.Join(d.dir, name)
	d.log.Error("last known good state cannot be used and is set aside", "file", from, "error", why)
	if err := os.Rename(from, from+setAside); err != nil {
		d.log.Warn("set aside", "file", from, "error", err)
	}
}

// read reads a file of at most max bytes; nil where there is none.
func (d *disk) read(name string, max int64) ([]byte, error) {
	file, err := os.Open(filepath.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("more than %d bytes", max)
	}
	return data, err
}

// load brings the machine to the state on disk, as far as it verifies. The
// engine is asked to compile and apply it.
func (d *disk) load(ctx context.Context, m *machine, engine Engine, at instant) error {
	if !d.loadKeys(m) {
		return nil
	}
	// The heartbeat tells the newest signed time, by which the rest is judged;
	// what it vouches for is seen last.
	beat := d.loadBeat(m, at)
	d.loadLog(m, engine, at)
	if err := d.loadRelease(ctx, m, engine, at); err != nil {
		return err
	}
	if beat == nil {
		return nil
	}
	m.log.known = m.log.position >= beat.Position
	// A release above the one that was vouched for is no older than it.
	if m.log.known && m.active != nil && (m.active.Release > beat.Release || m.active.Release == beat.Release && m.active.Digest.String() == beat.Digest) {
		m.clock.vouched = beat.Time
	}
	return nil
}

func (d *disk) loadKeys(m *machine) bool {
	data, err := d.read(keysFile, trust.MaxSigned)
	if data == nil && err == nil {
		return false
	}
	if err == nil {
		m.keys, err = m.root.Open(string(data), time.Time{})
	}
	if err != nil {
		m.keys = nil
		d.aside(keysFile, err)
	}
	return err == nil
}

func (d *disk) loadBeat(m *machine, at instant) *heartbeat {
	data, err := d.read(beatFile, trust.MaxSigned)
	if data == nil && err == nil {
		return nil
	}
	var beat *heartbeat
	if err == nil {
		beat, err = m.openHeartbeat(string(data), at)
	}
	if err != nil {
		d.aside(beatFile, err)
		return nil
	}
	m.clock.highest, m.clock.newest = beat.Time, beat.Time
	return beat
}

// loadLog takes the ranges as if they came from a node, up to the first that
// does not fit.
func (d *disk) loadLog(m *machine, engine Engine, at instant) {
	data, err := d.read(logFile, maxLogFile)
	if err != nil {
		d.aside(logFile, err)
		return
	}
	whole := int64(0)
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte{'\n'})
		if !ended {
			break // a write that did not end
		}
		actions := m.takeLog(string(line), at)
		for _, a := range actions {
			if a.apply != nil {
				actions = append(actions, a.apply.done(engine.Apply(a.apply.Change))...)
			}
		}
		if m.link.rejects > 0 {
			break
		}
		whole += int64(len(line)) + 1
		if len(m.log.partial.signed) == 0 {
			d.good = whole
		}
		data = rest
	}
	m.log.partial = partial{}
	if m.link.rejects > 0 {
		d.log.Error("last known good log cannot be used beyond a point", "position", m.log.position, "error", m.lastError)
	}
	m.link.rejects = 0
}

func (d *disk) loadRelease(ctx context.Context, m *machine, engine Engine, at instant) error {
	data, err := d.read(releaseFile, bundles.MaxPacked)
	if data == nil && err == nil {
		return nil
	}
	var bundle *bundles.Bundle
	if err == nil {
		bundle, err = openBundle(data, m.keys, m.clock.signedNow(at), nil, m.audience)
	}
	var compiled Compiled
	if err == nil {
		compiled, err = compile(ctx, engine, bundle)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = engine.Apply(Change{Release: compiled, Position: m.log.position})
	}
	if err != nil {
		d.aside(releaseFile, err)
		return nil
	}
	m.active = bundle
	return nil
}
