package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestRecordsAreShippedInOrderAcrossFilesAndRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s := open(t, d, Options{SegmentBytes: 3 * int64(frameBytes("00"))}, never)
		var all []string
		for i := range 20 {
			all = append(all, fmt.Sprintf("%02d", i))
		}
		appendAll(t, s, true, all[:10]...)
		after := d.powerCut(0)
		if len(after.files) < 3 {
			t.Errorf("%d files", len(after.files))
		}
		var sink memory
		s = open(t, after, Options{SegmentBytes: 3 * int64(frameBytes("00"))}, sink.take)
		appendAll(t, s, true, all[10:]...)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(t, "shipped", sink.taken(), all)
		want(t, "came again", sink.again, 0)
		want(t, "files", len(after.files), 0)
	})
}

func TestShippingAgainAfterACrashRepeatsButLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var sink memory
		s := open(t, d, Options{}, sink.take)
		appendAll(t, s, true, "a", "b")
		flush(t, s)
		appendAll(t, s, true, "c")
		after := d.powerCut(0) // the file is still there
		s = open(t, after, Options{}, sink.take)
		flush(t, s)
		want(t, "shipped", sink.taken(), []string{"a", "b", "c"})
		if sink.again == 0 {
			t.Error("nothing came again: this test shows nothing")
		}
	})
}

func TestSinkThatFailsIsTriedAgainMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := memory{failing: errors.New("away")}
		s := open(t, newDisk(), Options{}, sink.take)
		appendAll(t, s, true, "a")
		<-time.After(time.Minute)
		sink.mu.Lock()
		calls := sink.calls
		sink.mu.Unlock()
		if calls < 12 || calls > 20 { // six back-offs up to 5 s, then one each 5 s
			t.Errorf("%d calls in a minute", calls)
		}
		sink.fail(nil)
		<-time.After(backOffMost)
		synctest.Wait()
		want(t, "shipped", sink.taken(), []string{"a"})
		want(t, "unshipped bytes", s.Stats().UnshippedBytes, 0)
	})
}

func TestBusySpoolDoesNotWakeASinkThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := memory{failing: errors.New("away")}
		s := open(t, newDisk(), Options{}, sink.take)
		big := record("a")
		big.Body = authz.StringValue(strings.Repeat("x", batchBytes/8))
		for range 40 {
			if err := s.Append(t.Context(), big, true); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Second)
		}
		sink.mu.Lock()
		defer sink.mu.Unlock()
		if sink.calls > 20 {
			t.Errorf("%d calls in 40 seconds", sink.calls)
		}
	})
}

func TestRecordsGatherBeforeTheyAreShipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sink memory
		s := open(t, newDisk(), Options{}, sink.take)
		for i := range 100 {
			appendAll(t, s, true, fmt.Sprint(i))
			<-time.After(10 * time.Millisecond)
		}
		<-time.After(time.Second)
		synctest.Wait()
		want(t, "shipped", len(sink.taken()), 100)
		if sink.calls > 15 {
			t.Errorf("the sink was called %d times in a second", sink.calls)
		}
	})
}

func TestRecordThatTheDiskDamagedIsSkippedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		sink := memory{failing: errors.New("away")}
		s := open(t, d, Options{SegmentBytes: 3 * int64(frameBytes("a"))}, sink.take)
		appendAll(t, s, true, "a", "b", "c", "d")
		<-time.After(time.Second) // from now on they are read from the disk
		d.set(func(d *disk) {
			for name, file := range d.files {
				if number, _ := segmentNumber(name); number == 0 { // of the first file, the second record
					file.data[headerSize+int64(frameBytes("a"))+frameSize] ^= 1
				}
			}
		})
		sink.fail(nil)
		<-time.After(time.Minute)
		synctest.Wait()
		flush(t, s)
		appendAll(t, s, true, "e")
		flush(t, s)
		stats := s.Stats()
		want(t, "shipped and damaged", stats.Shipped+stats.Damaged, 5)
		want(t, "unshipped bytes", stats.UnshippedBytes, 0)
		got := sink.taken()
		if got[0] != "a" || slices.Contains(got, "b") || !slices.Contains(got, "d") || !slices.Contains(got, "e") {
			t.Errorf("shipped %v", got)
		}
	})
}

// unreadable is the fault of a disk that takes everything and gives nothing back.
func unreadable(op, _ string) error {
	if op == "read" {
		return errors.New("cannot read")
	}
	return nil
}

func TestReadErrorDelaysShippingAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		sink := memory{failing: errors.New("away")}
		s := open(t, d, Options{}, sink.take)
		d.set(func(d *disk) { d.fault = unreadable })
		appendAll(t, s, true, "a", "b")
		<-time.After(time.Second) // from now on they are read from the disk
		sink.fail(nil)
		<-time.After(time.Minute)
		want(t, "shipped", sink.taken(), []string{})
		d.set(func(d *disk) { d.fault = nil })
		flush(t, s)
		want(t, "shipped", sink.taken(), []string{"a", "b"})
		want(t, "damaged", s.Stats().Damaged, 0)
	})
}

func TestFileThatCannotBeRemovedHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var sink memory
		s := open(t, d, Options{SegmentBytes: 1}, sink.take)
		d.set(func(d *disk) {
			d.fault = func(op, name string) error {
				if op == "remove" {
					return errors.New("read-only")
				}
				return nil
			}
		})
		appendAll(t, s, true, "a", "b", "c")
		flush(t, s)
		want(t, "shipped", sink.taken(), []string{"a", "b", "c"})
		d.set(func(d *disk) { d.fault = nil })
		after := open(t, d.powerCut(0), Options{}, sink.take)
		flush(t, after)
		want(t, "came again, changed nothing", len(sink.taken()), 3)
	})
}

func TestCloseShipsWhatWasBufferedAndLeavesNothingRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
		d := newDisk()
		var sink memory
		s := open(t, d, Options{}, sink.take)
		appendAll(t, s, false, "a", "b")
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(t, "shipped", sink.taken(), []string{"a", "b"})
		want(t, "files", len(d.files), 0)
		if err := s.Append(t.Context(), record("c"), true); !errors.Is(err, ErrUnavailable) {
			t.Errorf("append after close: %v", err)
		}
		appendAll(t, s, false, "d")
		want(t, "lost after close", s.Stats().Lost, 1)
		settled(t, s.Stats())
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestCloseLeavesOnDiskWhatTheSinkDoesNotTakeInTime(t *testing.T) {
	for name, sink := range map[string]Sink{
		"fails": never,
		"hangs": func(ctx context.Context, _ []authz.AuditRecord) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				s := open(t, d, Options{}, sink)
				appendAll(t, s, false, "a", "b")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := s.Close(ctx); err != nil {
					t.Fatal(err)
				}
				want(t, "open files", d.openFiles(), []string{})
				ids, _ := survivors(t, d.powerCut(0))
				want(t, "survivors", ids, []string{"a", "b"})
			})
		})
	}
}

func TestCloseReportsWhatItCouldNotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s := open(t, d, Options{}, never)
		d.set(func(d *disk) { d.capacity = 1 })
		appendAll(t, s, false, "a")
		if err := s.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
		want(t, "lost", s.Stats().Lost, 1)
	})
}

func TestFlushEndsWithItsContextWhileTheSinkIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newDisk(), Options{}, never)
		appendAll(t, s, false, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestFlushShipsWithoutWaitingForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sink memory
		s := open(t, newDisk(), Options{}, sink.take)
		start := time.Now()
		appendAll(t, s, false, "a")
		flush(t, s)
		want(t, "shipped", sink.taken(), []string{"a"})
		want(t, "waited", time.Since(start), time.Duration(0))
	})
}

func TestRecordThatTheSinkDoesNotTakeIsCheckedAndSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known memory
		s := open(t, newDisk(), Options{}, func(ctx context.Context, records []authz.AuditRecord) error {
			for i := range records {
				if _, err := authz.ParseAuditBody(records[i].AppendBody(nil)); err != nil {
					return err
				}
			}
			return known.take(ctx, records)
		})
		appendAll(t, s, true, "a")
		broken := record("b")
		broken.BodyJSON = []byte(`{"no":"end"`)
		if err := s.Append(t.Context(), broken, true); err != nil {
			t.Fatal(err)
		}
		appendAll(t, s, true, "c")
		flush(t, s)
		want(t, "shipped", known.taken(), []string{"a", "c"})
		want(t, "damaged", s.Stats().Damaged, 1)
		want(t, "unshipped bytes", s.Stats().UnshippedBytes, 0)
	})
}

func TestBodiesOfABatchAreTheSinksUntilItReturns(t *testing.T) {
	for name, failures := range map[string]int{"from memory": 0, "from the disk": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bodies, kept []string
				tail := strings.Repeat("!", 300)
				s := open(t, newDisk(), Options{ShipInterval: time.Minute}, func(_ context.Context, records []authz.AuditRecord) error {
					if failures--; failures >= 0 {
						return errors.New("away")
					}
					for i := range records {
						records[i].BodyJSON = append(records[i].BodyJSON, tail...) // which must not run into the next one
					}
					for i := range records {
						kept = append(kept, string(records[i].BodyJSON))
					}
					return nil
				})
				keep := func(size int) {
					r := record(fmt.Sprint(len(bodies)))
					r.BodyJSON = fmt.Appendf(nil, "%q", strings.Repeat(string(rune('a'+len(bodies)%26)), size))
					bodies = append(bodies, string(r.BodyJSON)+tail)
					if err := s.Append(t.Context(), r, size%2 == 0); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					for _, size := range []int{1, usualRecord, 7, roomBytes - 3*usualRecord, 100, usualRecord - 200, 3, 2 * roomBytes, 5, roomBytes, 10} {
						keep(size)
					}
					flush(t, s) // and the memory is used again
				}
				for i := range bodies {
					if got := kept[i]; got != bodies[i] {
						t.Errorf("body %d: %d bytes, %.20s…, want %d, %.20s…", i, len(got), got, len(bodies[i]), bodies[i])
					}
				}
			})
		})
	}
}
