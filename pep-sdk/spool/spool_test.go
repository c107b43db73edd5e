package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// memory is a sink that knows records by id.
type memory struct {
	mu      sync.Mutex
	ids     []string
	known   map[string]bool
	again   int // records that came a second time
	calls   int
	failing error
}

func (m *memory) take(ctx context.Context, records []authz.AuditRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.failing != nil {
		return m.failing
	}
	if m.known == nil {
		m.known = map[string]bool{}
	}
	for _, r := range records {
		if m.known[r.ID] {
			m.again++
			continue
		}
		m.known[r.ID] = true
		m.ids = append(m.ids, r.ID)
	}
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing = err
}

func (m *memory) taken() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ids)
}

func record(id string) *authz.AuditRecord {
	return &authz.AuditRecord{ID: id, Time: time.Unix(0, 0), Kind: authz.AuditDecision, Body: authz.StringValue("body of " + id)}
}

// frameBytes is what a record takes in the spool.
func frameBytes(id string) int { return frameSize + len(record(id).AppendJSON(nil)) }

func open(t *testing.T, fs FS, options Options, sink Sink) *Spool {
	t.Helper()
	options.FS = fs
	s, err := Open("", options, sink)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

func appendAll(t *testing.T, s *Spool, strict bool, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := s.Append(t.Context(), record(id), strict); err != nil {
			t.Fatalf("append %s: %v", id, err)
		}
	}
}

func flush(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// survivors opens what a power cut left and returns what it ships.
func survivors(t *testing.T, d *disk) ([]string, Stats) {
	t.Helper()
	var sink memory
	s := open(t, d, Options{}, sink.take)
	flush(t, s)
	return sink.taken(), s.Stats()
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// settled checks the equation of Stats.
func settled(t *testing.T, s Stats) {
	t.Helper()
	if s.Appended != s.Synced+s.Lost+s.Refused {
		t.Errorf("%d appended is not %d synced + %d lost + %d refused", s.Appended, s.Synced, s.Lost, s.Refused)
	}
}

func never(context.Context, []authz.AuditRecord) error { return errors.New("the database is away") }

func TestStrictRecordSurvivesAPowerCutAsSoonAsItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s := open(t, d, Options{}, never)
		appendAll(t, s, true, "a")
		ids, _ := survivors(t, d.powerCut(0))
		want(t, "survivors", ids, []string{"a"})
	})
}

func TestBufferedRecordIsLostByAPowerCutAtOnceAndSafeAfter50Milliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.latency = 10 * time.Millisecond // a slow disk
		s := open(t, d, Options{}, never)
		start := time.Now()
		for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
			appendAll(t, s, false, id)
			<-time.After(15 * time.Millisecond)
		}
		// Appended at 0, 15, 30, 45, 60 and 75 ms. Cut the power at 90 ms.
		want(t, "now", time.Since(start), 90*time.Millisecond)
		ids, stats := survivors(t, d.powerCut(0))
		if len(ids) < 3 { // those of 0, 15 and 30 ms are 50 ms old
			t.Errorf("only %v survived", ids)
		}
		if len(ids) == 6 {
			t.Error("buffered records were synced at once: this test shows nothing")
		}
		want(t, "torn", stats.Torn, 0)
		<-time.After(35 * time.Millisecond) // 50 ms after the last
		ids, _ = survivors(t, d.powerCut(0))
		want(t, "survivors", ids, []string{"a", "b", "c", "d", "e", "f"})
	})
}

func TestTornTailIsCutOffCountedAndEverythingBeforeItIsShipped(t *testing.T) {
	for keep := range frameBytes("b") {
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			s := open(t, d, Options{}, never)
			appendAll(t, s, true, "a")
			d.set(func(d *disk) { // the next sync never ends well, nor does the clean-up
				d.fault = func(op, name string) error {
					if op == "sync" || op == "truncate" {
						return errors.New("power is failing")
					}
					return nil
				}
			})
			appendAll(t, s, false, "b")
			<-time.After(time.Second)
			after := d.powerCut(keep)
			ids, stats := survivors(t, after)
			want(t, "survivors", ids, []string{"a"})
			want(t, "torn bytes", stats.Torn, keep)
		})
	}
}

func TestGarbageInAFileIsCutOff(t *testing.T) {
	for name, garbage := range map[string][]byte{
		"zeros":             make([]byte, 64),
		"a huge length":     {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3},
		"a length too long": {200, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3},
		"a wrong sum":       {1, 0, 0, 0, 1, 2, 3, 4, 'x'},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				s := open(t, d, Options{}, never)
				appendAll(t, s, true, "a", "b")
				after := d.powerCut(0)
				for _, file := range after.files {
					file.data = append(file.data, garbage...)
				}
				ids, stats := survivors(t, after)
				want(t, "survivors", ids, []string{"a", "b"})
				want(t, "torn bytes", stats.Torn, len(garbage))
			})
		})
	}
}

func TestFileWithoutItsHeaderHoldsNothing(t *testing.T) {
	for _, content := range []string{"", "xz", "another magic and more"} {
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			d.files[segmentName(7)] = &diskFile{disk: d, name: segmentName(7), data: []byte(content)}
			ids, stats := survivors(t, d)
			want(t, "survivors", ids, []string{})
			want(t, "torn bytes", stats.Torn, len(content))
			want(t, "files", len(d.files), 0)
		})
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		for _, name := range []string{"spool.lock", "1.spool", "x.spool", segmentName(1) + ".old"} {
			d.files[name] = &diskFile{disk: d, name: name, data: []byte("mine")}
		}
		survivors(t, d)
		want(t, "files", len(d.files), 4)
	})
}

func TestConcurrentStrictAppendsShareSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.latency = 5 * time.Millisecond
		var sink memory
		s := open(t, d, Options{}, sink.take)
		const callers = 64
		start := time.Now()
		var calling sync.WaitGroup
		for i := range callers {
			calling.Go(func() {
				if err := s.Append(t.Context(), record(fmt.Sprint(i)), true); err != nil {
					t.Error(err)
				}
			})
		}
		calling.Wait()
		if waited := time.Since(start); waited > 10*time.Millisecond {
			t.Errorf("%d callers waited %v for a sync of 5 ms", callers, waited)
		}
		if d.syncs > 2 {
			t.Errorf("%d syncs", d.syncs)
		}
		flush(t, s)
		want(t, "shipped", len(sink.taken()), callers)
	})
}

func TestStrictAppendReturnsWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.latency = time.Hour
		s := open(t, d, Options{}, never)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Append(ctx, record("a"), true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestFullSpoolRefusesStrictAndCountsBuffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := memory{failing: errors.New("away")}
		s := open(t, newDisk(), Options{MaxBytes: int64(3 * frameBytes("a"))}, sink.take)
		appendAll(t, s, true, "a", "b")
		appendAll(t, s, false, "c", "d", "e")
		if err := s.Append(t.Context(), record("f"), true); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		stats := s.Stats()
		want(t, "lost", stats.Lost, 2)
		want(t, "refused", stats.Refused, 1)

		sink.fail(nil) // room again as soon as the database is back
		flush(t, s)
		appendAll(t, s, true, "g")
		flush(t, s)
		want(t, "shipped", sink.taken(), []string{"a", "b", "c", "g"})
		settled(t, s.Stats())
	})
}

func TestFullDiskRefusesStrictCountsBufferedAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		sink := memory{failing: errors.New("away")} // so that nothing is removed
		s := open(t, d, Options{}, sink.take)
		appendAll(t, s, true, "a")
		d.set(func(d *disk) { d.capacity = d.used() + frameBytes("b")/2 }) // half a record fits
		for range 3 {
			err := s.Append(t.Context(), record("b"), true)
			if !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("got %v", err)
			}
		}
		for i := range 5 {
			appendAll(t, s, false, fmt.Sprint("lost", i))
			<-time.After(time.Second)
		}
		stats := s.Stats()
		want(t, "refused", stats.Refused, 3)
		want(t, "lost", stats.Lost, 5)
		settled(t, stats)

		d.set(func(d *disk) { d.capacity = 0 })
		appendAll(t, s, true, "c")
		sink.fail(nil)
		appendAll(t, s, false, "d")
		flush(t, s)
		want(t, "shipped", sink.taken(), []string{"a", "c", "d"})
		stats = s.Stats()
		want(t, "lost in all", stats.Lost, 5)
		settled(t, stats)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		want(t, "files", len(d.files), 0)
	})
}

func TestRecordsOfAFailedSyncAreLostAndDoNotComeBack(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "sync folder"} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				s := open(t, d, Options{SegmentBytes: 1}, never) // a file per batch
				appendAll(t, s, true, "a")
				d.set(func(d *disk) {
					d.fault = func(got, name string) error {
						if got == op {
							return errors.New("the disk failed")
						}
						return nil
					}
				})
				if err := s.Append(t.Context(), record("b"), true); !errors.Is(err, ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				appendAll(t, s, false, "c", "d")
				<-time.After(time.Second)
				d.set(func(d *disk) { d.fault = nil })
				appendAll(t, s, true, "e")
				stats := s.Stats()
				want(t, "synced, lost, refused", []uint64{stats.Synced, stats.Lost, stats.Refused}, []uint64{2, 2, 1})
				settled(t, stats)
				ids, _ := survivors(t, d.powerCut(1<<20))
				want(t, "survivors", ids, []string{"a", "e"})
			})
		})
	}
}

func TestDiskThatDoesNotKeepUpFillsABoundedBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.latency = time.Minute
		s := open(t, d, Options{BufferBytes: 10 * frameBytes("000")}, never)
		appendAll(t, s, false, "aaa")
		<-time.After(time.Second) // its sync hangs
		for i := range 25 {
			appendAll(t, s, false, fmt.Sprintf("%03d", i))
		}
		if err := s.Append(t.Context(), record("bbb"), true); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		want(t, "lost", s.Stats().Lost, 15)
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		stats := s.Stats()
		want(t, "synced", stats.Synced, 11)
		settled(t, stats)
	})
}

func TestRecordLargerThanAnyIsRefusedWhole(t *testing.T) {
	s := open(t, newDisk(), Options{}, never)
	big := record("a")
	big.Body = authz.StringValue(strings.Repeat("x", maxRecord))
	if err := s.Append(t.Context(), big, true); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	appendAll(t, s, true, "b")
}

func TestBufferedRecordsShareASyncAFlushInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var sink memory
		s := open(t, d, Options{}, sink.take)
		for i := range 1000 {
			appendAll(t, s, false, fmt.Sprint(i))
			<-time.After(time.Millisecond)
		}
		d.set(func(d *disk) {
			if d.syncs < 20 || d.syncs > 25 { // in a second of intervals of 40 ms
				t.Errorf("%d syncs", d.syncs)
			}
		})
		flush(t, s)
		if sink.calls > 6 { // one each 200 ms
			t.Errorf("the sink was called %d times", sink.calls)
		}
		want(t, "shipped", len(sink.taken()), 1000)
	})
}
