package cheq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Times of deliveries. A lease outlives the call that it is for, so that a
// message has one sender at a time; who dies under way is stood in for after it.
const (
	sendWithin  = 10 * time.Second
	noteWithin  = 5 * time.Second
	lease       = 30 * time.Second
	shortestOff = time.Second
	longestOff  = 5 * time.Minute
	latest      = 24 * time.Hour // that a channel may ask to wait
	pollEvery   = time.Second    // for what another node stored
)

// atOnce is how many messages are on their way to one channel.
const atOnce = 8

// Deliverer shows cases in their places and keeps them current there. Any
// number of them may run on one store: each message is one there, whoever
// crashes when. The fields up to Log are required.
type Deliverer struct {
	Store    Store
	Channels map[string]Channel
	Now      func() time.Time
	Log      *slog.Logger

	// Wake returns a channel that receives after commits, as a hint. Without
	// it, new cases are found within a second.
	Wake func(ctx context.Context) <-chan struct{}
	// Random returns numbers from 0 to below 1, for waits; nil: by chance.
	Random func() float64

	mu     sync.Mutex
	counts map[string]DeliveryCounts
}

// DeliveryCounts are how many calls of a channel ended how.
type DeliveryCounts struct {
	Sent, Edited uint64 // messages
	Failed       uint64 // to be tried again
	Gone         uint64 // given up, since the channel refuses for good
}

// Counts returns what became of the calls since the start, by channel.
func (d *Deliverer) Counts() map[string]DeliveryCounts {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string]DeliveryCounts, len(d.Channels))
	for name := range d.Channels {
		all[name] = d.counts[name]
	}
	return all
}

func (d *Deliverer) count(channel string, add func(*DeliveryCounts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counts == nil {
		d.counts = map[string]DeliveryCounts{}
	}
	c := d.counts[channel]
	add(&c)
	d.counts[channel] = c
}

// Run delivers until ctx ends. Channels do not wait for each other.
func (d *Deliverer) Run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for name := range d.Channels {
		workers.Go(func() { d.work(ctx, name) })
	}
}

func (d *Deliverer) work(ctx context.Context, channel string) {
	var wake <-chan struct{}
	if d.Wake != nil {
		wake = d.Wake(ctx)
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for failed := false; ; {
		n, err := d.round(ctx, channel)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failed {
			d.Log.Error("cases are not delivered for now", "channel", channel, "error", err)
		}
		if failed = err != nil; n > 0 && !failed {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-poll.C:
		}
	}
}

// round delivers what of a channel is due now, and returns how much it tried.
func (d *Deliverer) round(ctx context.Context, channel string) (int, error) {
	jobs, err := d.claim(ctx, channel)
	if err != nil {
		return 0, fmt.Errorf("claim deliveries: %w", err)
	}
	failures := make([]error, len(jobs))
	var calls sync.WaitGroup
	for i := range jobs {
		calls.Go(func() { failures[i] = d.deliver(ctx, &jobs[i]) })
	}
	calls.Wait()
	return len(jobs), errors.Join(failures...)
}

// job is a delivery that was claimed, and what it is to show.
type job struct {
	Delivery // as it was claimed: Due is the end of the lease
	view     View
}

// claim takes some deliveries that are due. Their views are of the same
// moment: what is sent is what is noted as shown.
func (d *Deliverer) claim(ctx context.Context, channel string) ([]job, error) {
	var jobs []job
	due := func(tx Tx) (list []Delivery, now time.Time, err error) {
		now = d.Now().UTC().Truncate(time.Microsecond)
		list, err = tx.DueDeliveries(channel, now, atOnce)
		return list, now, err
	}
	// Looked at first without keeping others from writing: mostly none is due.
	some := false
	if err := d.Store.View(ctx, func(tx Tx) error {
		list, _, err := due(tx)
		some = len(list) > 0
		return err
	}); err != nil || !some {
		return nil, err
	}
	err := d.Store.Update(ctx, func(tx Tx) error {
		jobs = nil
		list, now, err := due(tx)
		if err != nil {
			return err
		}
		for _, row := range list {
			c, err := tx.Case(row.Case)
			if err != nil {
				return fmt.Errorf("case %s: %w", row.Case, err)
			}
			v, err := view(tx, &c, now)
			if err != nil {
				return err
			}
			row.Attempts++
			row.Due = now.Add(lease)
			if err := tx.PutDelivery(row); err != nil {
				return err
			}
			jobs = append(jobs, job{row, v})
		}
		return nil
	})
	if err != nil {
		return nil, err // nothing may be sent that is not surely claimed
	}
	return jobs, nil
}

// deliver makes the call that a job asks for, and notes what came of it.
func (d *Deliverer) deliver(ctx context.Context, j *job) error {
	message, err := d.call(ctx, j)
	// Noted also while the server stops: else the next one would send again.
	note, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
	defer cancel()
	if err != nil && ctx.Err() != nil {
		err = &LaterError{Err: err} // whoever starts next need not wait
	}
	if stored := d.Store.Update(note, func(tx Tx) error { return d.note(tx, j, message, err) }); stored != nil {
		return fmt.Errorf("note the delivery %s: %w", j.Key(), stored)
	}
	d.count(j.Channel, func(c *DeliveryCounts) {
		switch {
		case errors.Is(err, ErrGone):
			c.Gone++
		case err != nil:
			c.Failed++
		case j.Message == "":
			c.Sent++
		default:
			c.Edited++
		}
	})
	if err != nil {
		d.Log.Warn("a case was not delivered", "case", j.Case, "channel", j.Channel, "attempts", j.Attempts, "error", err)
	}
	return nil
}

// call sends or edits the message, within [sendWithin].
func (d *Deliverer) call(ctx context.Context, j *job) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	channel := d.Channels[j.Channel]
	if j.Message != "" {
		return j.Message, channel.Edit(ctx, j.To, j.Message, j.view)
	}
	message, err := channel.Send(ctx, j.To, j.Key(), j.view)
	if err == nil && message == "" {
		err = errors.New("the channel names no message")
	}
	return message, err
}

// note stores what came of a job.
func (d *Deliverer) note(tx Tx, j *job, message string, failure error) error {
	row, err := find(tx, &j.Delivery)
	if err != nil {
		return err
	}
	now := d.Now().UTC().Truncate(time.Microsecond)
	ours := row.Due.Equal(j.Due)
	var later *LaterError
	switch {
	case failure == nil:
		row.Message, row.Shown, row.Attempts, row.Error, row.Due = message, j.view.Case.Version, 0, "", time.Time{}
		if j.Message == "" && j.Attempts > 1 {
			row.Shown = 0 // an attempt before may have sent it, with an older view
		}
		if !ours || row.Shown != row.Wanted {
			row.Due = now // and who else holds the lease knows by this that it has lost it
		}
		return tx.PutDelivery(row)
	case !ours:
		return nil // another sender is at it
	case errors.Is(failure, ErrGone):
		row.Due, row.Error = time.Time{}, failureText(failure)
		if err := tx.Note(&j.view.Case, Event{At: now, Action: "delivery.gone", Detail: fmt.Sprintf("%s %s: %s", row.Channel, row.To, row.Error)}); err != nil {
			return err
		}
	case errors.As(failure, &later):
		row.Due, row.Error = now.Add(min(max(later.After, 0), latest)), failureText(failure)
	default:
		row.Due, row.Error = now.Add(d.off(row.Attempts)), failureText(failure)
	}
	return tx.PutDelivery(row)
}

func find(tx Tx, wanted *Delivery) (Delivery, error) {
	all, err := tx.Deliveries(wanted.Case)
	if err != nil {
		return Delivery{}, err
	}
	for i := range all {
		if all[i].Place == wanted.Place {
			return all[i], nil
		}
	}
	return Delivery{}, fmt.Errorf("delivery %s: %w", wanted.Key(), ErrNotFound)
}

// off is how long to wait after so many attempts: twice as long each time, and
// half of it by chance, so that not all come back at once.
func (d *Deliverer) off(attempts int) time.Duration {
	random := d.Random
	if random == nil {
		random = rand.Float64
	}
	wait := longestOff
	if doublings := max(attempts-1, 0); doublings < 9 { // 2^9 s are above the longest
		wait = shortestOff << doublings
	}
	return wait/2 + time.Duration(random()*float64(wait/2))
}

// maxFailure bounds what is kept of an error, in bytes.
const maxFailure = 512

func failureText(err error) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", ""), "\uFFFD")
	if len(text) > maxFailure {
		text = strings.ToValidUTF8(text[:maxFailure], "")
	}
	return text
}

// want asks for a case to be shown, as it is now, in all its places. What is
// under way or waits for its next attempt keeps its time; what the channel has
// refused for good stays refused.
func want(tx Tx, c *Case, now time.Time) error {
	if len(c.Places) == 0 {
		return nil
	}
	known, err := tx.Deliveries(c.ID)
	if err != nil {
		return err
	}
	for _, place := range c.Places {
		d := Delivery{Case: c.ID, Place: place}
		for i := range known {
			if known[i].Place == place {
				d = known[i]
			}
		}
		d.Wanted = c.Version
		if d.Due.IsZero() && d.Error == "" {
			d.Due = now
		}
		if err := tx.PutDelivery(d); err != nil {
			return err
		}
	}
	return nil
}
