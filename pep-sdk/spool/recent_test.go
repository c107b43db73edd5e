package spool

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestWhatWasJustSyncedIsNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var sink memory
		s := open(t, d, Options{SegmentBytes: 3 * int64(frameBytes("00"))}, sink.take)
		d.set(func(d *disk) { d.fault = unreadable })
		var all []string
		for i := range 20 {
			all = append(all, fmt.Sprintf("%02d", i))
			appendAll(t, s, i%2 == 0, all[i])
			if i%7 == 0 {
				flush(t, s)
			}
		}
		flush(t, s)
		want(t, "shipped", sink.taken(), all)
		want(t, "came again", sink.again, 0)
		if sink.calls >= len(all) {
			t.Errorf("%d calls: batches are not put together", sink.calls)
		}
	})
}

func TestRecordIsTheSameFromMemoryAndFromTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []authz.AuditRecord
		take := func(_ context.Context, records []authz.AuditRecord) error {
			seen = append(seen, records...)
			return nil
		}
		kept := *decision("a")
		kept.BodyJSON, kept.Body = kept.Body.AppendJSON(nil), authz.Value{}
		d := newDisk()
		s := open(t, d, Options{}, take)
		if err := s.Append(t.Context(), &kept, true); err != nil {
			t.Fatal(err)
		}
		after := d.powerCut(0)
		flush(t, s)
		flush(t, open(t, after, Options{}, take))
		if len(seen) != 2 || !reflect.DeepEqual(seen[0], seen[1]) {
			t.Errorf("got %.200s", fmt.Sprintf("%+v", seen))
		}
	})
}

func TestMemoryIsBoundedWhileTheSinkIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sink memory
		s := open(t, newDisk(), Options{}, func(ctx context.Context, records []authz.AuditRecord) error {
			<-time.After(time.Second)
			return sink.take(ctx, records)
		})
		var all []string
		for i := range 100 {
			r := record(fmt.Sprintf("%03d", i))
			r.BodyJSON = fmt.Appendf(nil, "%q", strings.Repeat("x", recentBytes/20))
			all = append(all, r.ID)
			if err := s.Append(t.Context(), r, i%3 == 0); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Millisecond)
			s.mu.Lock()
			if held := s.recentSize + s.spareSize; s.recentSize > recentBytes || s.spareSize > recentBytes {
				t.Errorf("%d bytes are held after %s", held, r.ID)
			}
			s.mu.Unlock()
		}
		flush(t, s)
		want(t, "shipped", sink.taken(), all)
		want(t, "came again", sink.again, 0)
		want(t, "in memory", s.recentSize, 0)
		settled(t, s.Stats())
	})
}

func TestRecordsAreShippedBeforeMemoryIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var sink memory
		s := open(t, d, Options{ShipInterval: time.Hour}, sink.take)
		d.set(func(d *disk) { d.fault = unreadable })
		start := time.Now()
		const each = 1000
		for i := range 60 * each { // small ones: their frames are the smaller part
			if err := s.Append(t.Context(), record(fmt.Sprint(i)), i%each == each-1); err != nil {
				t.Fatal(err)
			}
			if i%each == each-1 {
				synctest.Wait()
			}
		}
		want(t, "waited", time.Since(start), time.Duration(0))
		if n := len(sink.taken()); n < 40*each {
			t.Errorf("%d are shipped", n)
		}
	})
}
