package cheq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func (m *memory) PutDelivery(d Delivery) error { m.outbox[d.Key()] = d; return nil }

func (m *memory) Deliveries(id string) ([]Delivery, error) {
	return m.deliveries(func(d Delivery) bool { return d.Case == id }), nil
}

func (m *memory) DueDeliveries(channel string, now time.Time, limit int) ([]Delivery, error) {
	all := m.deliveries(func(d Delivery) bool { return d.Channel == channel && !d.Due.IsZero() && !now.Before(d.Due) })
	slices.SortStableFunc(all, func(a, b Delivery) int { return a.Due.Compare(b.Due) })
	return all[:min(limit, len(all))], nil
}

func (m *memory) deliveries(wanted func(Delivery) bool) []Delivery {
	var all []Delivery
	for _, d := range m.outbox {
		if wanted(d) {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b Delivery) int { return strings.Compare(a.Key(), b.Key()) })
	return all
}

func (m *memory) Seen(string, string, time.Time, time.Time) (bool, error) {
	panic("no answers from channels here")
}

func (m *memory) Answered(Answered, int) ([]Answered, error) { panic("no answers from channels here") }

// platform is a chat platform: what was sent under one key is one message.
type platform struct {
	mu    sync.Mutex
	keys  map[string]string // key → message
	shows map[string]View   // message → what it shows
	calls int
	// fails says what the next call ends with, before it did anything or after.
	failsBefore, failsAfter error
}

func newPlatform() *platform {
	return &platform{keys: map[string]string{}, shows: map[string]View{}}
}

func (p *platform) Send(_ context.Context, _, key string, v View) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls++; p.failsBefore != nil {
		return "", p.failsBefore
	}
	id, known := p.keys[key]
	if !known {
		id = fmt.Sprintf("om_%d", len(p.keys))
		p.keys[key], p.shows[id] = id, v
	}
	return id, p.failsAfter
}

func (p *platform) Edit(_ context.Context, _, message string, v View) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls++; p.failsBefore != nil {
		return p.failsBefore
	}
	if _, known := p.shows[message]; !known {
		return ErrGone
	}
	p.shows[message] = v
	return p.failsAfter
}

// deliverer is one on the desk's store and clock, which waits for no chance.
func (d *desk) deliverer(channels map[string]Channel) *Deliverer {
	return &Deliverer{Store: d.store, Channels: channels, Now: func() time.Time { return d.now }, Log: slog.New(slog.DiscardHandler), Random: func() float64 { return 1 }}
}

var chat = Place{"feishu", "chat:oc_1"}

// shown opens a case that is shown in these places.
func (d *desk) shown(t interface{ Fatal(...any) }, places ...Place) Case {
	d.store.templates["exposure"].Notify = places
	c, _, err := d.Open(context.Background(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (d *desk) round(t *testing.T, by *Deliverer, channel string, want int) {
	t.Helper()
	if n, err := by.round(t.Context(), channel); n != want || err != nil {
		t.Errorf("%d deliveries were tried, want %d; %v", n, want, err)
	}
}

func TestACaseIsShownInItsPlacesAndKeptCurrent(t *testing.T) {
	d, feishu, matrix := newDesk(t), newPlatform(), newPlatform()
	by := d.deliverer(map[string]Channel{"feishu": feishu, "matrix": matrix})
	c := d.shown(t, chat, Place{"matrix", "!r:x"}, Place{"feishu", "user:ou_1"})
	d.round(t, by, "feishu", 2)
	d.round(t, by, "matrix", 1)
	d.round(t, by, "feishu", 0)
	if len(feishu.keys) != 2 || len(matrix.keys) != 1 || matrix.shows["om_0"].Case.Version != 1 || matrix.shows["om_0"].Events[0].Action != "open" {
		t.Fatalf("sent %v and %v", feishu.keys, matrix.shows)
	}
	if _, err := d.says(c.ID, "user:n", true); err != nil {
		t.Fatal(err)
	}
	if _, err := d.says(c.ID, "user:n", true); err != nil { // again, which changes nothing
		t.Fatal(err)
	}
	d.round(t, by, "feishu", 2)
	d.round(t, by, "feishu", 0)
	if v := feishu.shows["om_1"]; v.Case.Version != 2 || v.Groups[0].Yes != 1 || len(feishu.keys) != 2 {
		t.Errorf("version %d of %d messages, groups %v", v.Case.Version, len(feishu.keys), v.Groups)
	}
	if got := by.Counts(); got["feishu"] != (DeliveryCounts{Sent: 2, Edited: 2}) || got["matrix"] != (DeliveryCounts{Sent: 1}) {
		t.Errorf("counted %+v", got)
	}
}

func TestAReminderEditsTheMessages(t *testing.T) {
	d, feishu := newDesk(t), newPlatform()
	d.store.templates["exposure"].Steps = []Step{{After: time.Hour, Remind: true}}
	by := d.deliverer(map[string]Channel{"feishu": feishu})
	d.shown(t, chat)
	d.round(t, by, "feishu", 1)
	d.now = start.Add(time.Hour)
	if _, err := d.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.round(t, by, "feishu", 1)
	if events := feishu.shows["om_0"].Events; events[len(events)-1].Action != "remind" {
		t.Errorf("the message shows %v", events)
	}
}

func TestAChannelThatFailsIsTriedAgainEverMoreSeldom(t *testing.T) {
	d, feishu := newDesk(t), newPlatform()
	by := d.deliverer(map[string]Channel{"feishu": feishu})
	c := d.shown(t, chat)
	after := func(want time.Duration, failure error) {
		t.Helper()
		feishu.failsBefore = failure
		d.round(t, by, "feishu", 1)
		row := d.store.outbox[c.ID+"/feishu/chat:oc_1"]
		if row.Due.Sub(d.now) != want || row.Error == "" {
			t.Errorf("tried again after %s, want %s: %+v", row.Due.Sub(d.now), want, row)
		}
		if _, err := d.says(c.ID, "user:n", d.store.cases[c.ID].Version%2 == 0); err != nil && !errors.Is(err, ErrSettled) {
			t.Fatal(err)
		}
		d.now = row.Due.Add(-time.Microsecond)
		d.round(t, by, "feishu", 0) // a change does not hurry what waits
		d.now = row.Due
	}
	down := errors.New("connection refused")
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		after(want*time.Second, down)
	}
	after(42*time.Second, fmt.Errorf("send: %w", &LaterError{After: 42 * time.Second, Err: down}))
	feishu.failsBefore = nil
	d.round(t, by, "feishu", 1)
	d.round(t, by, "feishu", 1) // an attempt before might have sent an older view: it is edited
	if row := d.store.outbox[c.ID+"/feishu/chat:oc_1"]; row.Shown != row.Wanted || row.Attempts != 0 || row.Error != "" || !row.Due.IsZero() || len(feishu.keys) != 1 {
		t.Errorf("left with %+v and %d messages", row, len(feishu.keys))
	}
}

func TestAMessageThatIsGoneIsLeftAlone(t *testing.T) {
	d, feishu := newDesk(t), newPlatform()
	by := d.deliverer(map[string]Channel{"feishu": feishu})
	c := d.shown(t, chat)
	d.round(t, by, "feishu", 1)
	clear(feishu.shows)
	for range 2 {
		if _, err := d.says(c.ID, "user:n", d.store.cases[c.ID].Version == 1); err != nil && !errors.Is(err, ErrSettled) {
			t.Fatal(err)
		}
		_, _ = by.round(t.Context(), "feishu")
	}
	gone := slices.DeleteFunc(slices.Clone(d.store.events[c.ID]), func(e Event) bool { return e.Action != "delivery.gone" })
	if len(gone) != 1 || !strings.Contains(gone[0].Detail, "feishu chat:oc_1") || by.Counts()["feishu"].Gone != 1 {
		t.Errorf("noted %v, counted %+v", gone, by.Counts())
	}
}

func TestAChannelThatIsDownHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, matrix := newDesk(t), newPlatform()
		stuck := &stuckChannel{}
		by := d.deliverer(map[string]Channel{"feishu": stuck, "matrix": matrix})
		by.Now = time.Now
		d.Now = time.Now
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { by.Run(ctx) })
		d.shown(t, chat, Place{"matrix", "!r:x"})
		time.Sleep(pollEvery)
		synctest.Wait()
		if matrix.calls != 1 || stuck.begun.Load() != 1 || stuck.ended.Load() != 0 {
			t.Errorf("%d calls there, %d here of which %d ended", matrix.calls, stuck.begun.Load(), stuck.ended.Load())
		}
		time.Sleep(sendWithin)
		synctest.Wait()
		if stuck.ended.Load() != 1 {
			t.Error("the call did not end in time")
		}
		cancel()
		done.Wait()
	})
}

type stuckChannel struct{ begun, ended atomic.Int64 }

func (s *stuckChannel) Send(ctx context.Context, _, _ string, _ View) (string, error) {
	s.begun.Add(1)
	<-ctx.Done()
	s.ended.Add(1)
	return "", ctx.Err()
}

func (s *stuckChannel) Edit(context.Context, string, string, View) error { return nil }

func TestAMessageHasOneSenderAtATime(t *testing.T) {
	d, feishu := newDesk(t), newPlatform()
	slow, other := d.deliverer(map[string]Channel{"feishu": feishu}), d.deliverer(map[string]Channel{"feishu": feishu})
	c := d.shown(t, chat)
	d.round(t, slow, "feishu", 1)
	row := func() Delivery { return d.store.outbox[c.ID+"/feishu/chat:oc_1"] }
	claim := func(by *Deliverer, yes bool) *job {
		t.Helper()
		if _, err := d.says(c.ID, "user:n", yes); err != nil {
			t.Fatal(err)
		}
		jobs, err := by.claim(t.Context(), "feishu")
		if err != nil || len(jobs) != 1 {
			t.Fatalf("claimed %v, %v", jobs, err)
		}
		return &jobs[0]
	}
	first := claim(slow, true)
	d.now = d.now.Add(lease - time.Microsecond)
	d.round(t, other, "feishu", 0)
	d.now = d.now.Add(time.Microsecond)
	d.round(t, other, "feishu", 1)
	feishu.failsBefore = errCrash
	if err := slow.deliver(t.Context(), first); err != nil || row().Error != "" || !row().Due.IsZero() {
		t.Errorf("who lost the lease and failed left %+v, %v", row(), err)
	}
	feishu.failsBefore = nil

	// The slow one's edit comes after that of who stood in for it, whose note
	// comes last.
	d.store.templates["exposure"].AllOf[0].Denials = 9
	second := claim(slow, false)
	d.now = d.now.Add(lease)
	third := claim(other, true)
	for _, step := range []struct {
		by *Deliverer
		on *job
	}{{other, third}, {slow, second}} {
		if _, err := step.by.call(t.Context(), step.on); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		by *Deliverer
		on *job
	}{{slow, second}, {other, third}} {
		if err := d.store.Update(t.Context(), func(tx Tx) error { return step.by.note(tx, step.on, step.on.Message, nil) }); err != nil {
			t.Fatal(err)
		}
	}
	d.round(t, other, "feishu", 1)
	d.round(t, other, "feishu", 0)
	if shows, want := feishu.shows["om_0"].Case.Version, d.store.cases[c.ID].Version; shows != want || row().Shown != want {
		t.Errorf("the message shows version %d, noted as %d, of %d", shows, row().Shown, want)
	}
}

// Whatever crashes when, and whoever sends, a case is one message in each
// place, and shows its newest version in the end.
func TestACaseIsOneMessageInAPlaceWhateverCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, feishu := newDesk(t), newPlatform()
		by := []*Deliverer{d.deliverer(map[string]Channel{"feishu": feishu}), d.deliverer(map[string]Channel{"feishu": feishu})}
		c := d.shown(t, chat, Place{"feishu", "user:ou_1"})
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			at := fmt.Sprintf("step %d", i)
			d.store.crashBefore = rapid.IntRange(0, 9).Draw(t, at+" crashes before") == 0
			d.store.crashAfter = rapid.IntRange(0, 9).Draw(t, at+" crashes after") == 0
			feishu.failsBefore = rapid.SampledFrom([]error{nil, nil, errCrash, &LaterError{time.Minute, errCrash}}).Draw(t, at+" fails before")
			feishu.failsAfter = rapid.SampledFrom([]error{nil, nil, errCrash}).Draw(t, at+" fails after")
			switch rapid.IntRange(0, 5).Draw(t, at) {
			case 0:
				_, _ = d.says(c.ID, rapid.SampledFrom([]string{"user:n", "user:s", "user:t"}).Draw(t, at+" who"), rapid.Bool().Draw(t, at+" says"))
			case 1:
				d.now = d.now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, at+" second")) * time.Second)
			case 2: // one dies between the claim and the call, or between the call and the note
				jobs, err := by[0].claim(context.Background(), "feishu")
				if err == nil && len(jobs) > 0 && rapid.Bool().Draw(t, at+" was called") {
					_, _ = by[0].call(context.Background(), &jobs[0])
				}
			case 3: // one sleeps longer than its lease, and another stands in
				jobs, _ := by[0].claim(context.Background(), "feishu")
				d.now = d.now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, at+" slept")) * time.Second)
				if rapid.Bool().Draw(t, at+" stood in") {
					_, _ = by[1].round(context.Background(), "feishu")
				}
				for i := range jobs {
					_ = by[0].deliver(context.Background(), &jobs[i])
				}
			default:
				_, _ = by[rapid.IntRange(0, 1).Draw(t, at+" by")].round(context.Background(), "feishu")
			}
		}
		d.store.crashBefore, d.store.crashAfter, feishu.failsBefore, feishu.failsAfter = false, false, nil, nil
		for range 10 {
			d.now = d.now.Add(longestOff)
			if _, err := by[0].round(context.Background(), "feishu"); err != nil {
				t.Fatal(err)
			}
		}
		if len(feishu.shows) != 2 {
			t.Fatalf("%d messages in 2 places", len(feishu.shows))
		}
		for id, v := range feishu.shows {
			if v.Case.Version != d.store.cases[c.ID].Version {
				t.Fatalf("message %s shows version %d of %d", id, v.Case.Version, d.store.cases[c.ID].Version)
			}
		}
		for _, row := range d.store.outbox {
			if row.Shown != row.Wanted || !row.Due.IsZero() {
				t.Fatalf("left to do: %+v", row)
			}
		}
	})
}
