package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"maunium.net/go/mautrix"

	"github.com/xiezhi-project/xiezhi/cheq"
)

const (
	shortestOff = time.Second
	longestOff  = time.Minute
	// batchSize is how many events of a room one answer holds, gapPages how
	// many answers are asked for to fill what lies between two.
	batchSize = 100
	gapPages  = 20
)

// Run reads what people answer until ctx ends, and returns what ended it. While
// the homeserver or the store is away it tries again, ever less often. One Run
// at a time and process; more on other nodes do no harm.
func (c *Channel) Run(ctx context.Context) error {
	defer c.client.Client.CloseIdleConnections()
	r := reader{Channel: c, limit: batchSize}
	for failures := 0; ; {
		err := r.step(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			failures = 0
			continue
		}
		failures++
		wait := off(failures)
		var later *cheq.LaterError
		if errors.As(err, &later) {
			wait = later.After
		}
		c.config.Log.Warn("answers in Matrix are not read for now", "error", err, "attempt", failures, "again", wait)
		if c.pause(ctx, wait) != nil {
			return ctx.Err()
		}
	}
}

// off is how long to wait after so many failures in a row: half of it by
// chance, so that not all nodes come back at once.
func off(failures int) time.Duration {
	wait := longestOff
	if failures < 7 {
		wait = shortestOff << (failures - 1)
	}
	return wait/2 + rand.N(wait/2)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// reader is where one Run stands.
type reader struct {
	*Channel
	known   bool   // that the token is the bot's
	loaded  bool   // the position
	since   string // "" before the first batch
	limit   int    // of events of a room in a batch
	counted recent // answers that were taken, and what they answered
	sealed  recent // encrypted rooms whose people were told
	// stuck is the event that could not be taken, and how often.
	stuck string
	tries int
}

// step reads one batch, takes its answers, and saves the position after it.
func (r *reader) step(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	asked := r.config.Now()
	batch, err := r.poll(ctx)
	if err != nil {
		return err
	}
	for _, room := range slices.Sorted(maps.Keys(batch.Rooms.Invite)) {
		r.invited(ctx, room, batch.Rooms.Invite[room].State.Events)
	}
	for _, room := range slices.Sorted(maps.Keys(batch.Rooms.Join)) {
		if err := r.room(ctx, room, batch.Rooms.Join[room]); err != nil {
			return err
		}
	}
	if batch.Next == r.since {
		if r.config.Now().Sub(asked) < shortestOff {
			return r.pause(ctx, shortestOff) // a homeserver that does not wait is not asked without end
		}
		return nil
	}
	if err := r.config.Position.Save(ctx, batch.Next); err != nil {
		return fmt.Errorf("save the position: %w", err)
	}
	r.since = batch.Next
	return nil
}

// start makes sure, once, that the token is the bot's, whose messages are the
// only ones that answers refer to, and loads the position.
func (r *reader) start(ctx context.Context) error {
	if !r.known {
		bounded, cancel := context.WithTimeout(ctx, callWithin)
		defer cancel()
		var who struct {
			User string `json:"user_id"`
		}
		if err := r.get(bounded, &who, "v3", "account", "whoami"); err != nil {
			return failed("ask whose the access token is", err)
		}
		if who.User != r.config.UserID {
			return fmt.Errorf("matrix: the access token is that of %q, not of %s", clean(who.User), r.config.UserID)
		}
		r.known = true
	}
	if !r.loaded {
		since, err := r.config.Position.Load(ctx)
		if err != nil {
			return fmt.Errorf("load the position: %w", err)
		}
		r.since, r.loaded = since, true
	}
	return nil
}

// poll waits for events. An empty since is not sent: it is no position, and
// homeservers refuse it.
func (r *reader) poll(ctx context.Context) (*synced, error) {
	query := map[string]string{"filter": filter(r.config.UserID, r.limit), "timeout": "0", "set_presence": "offline"}
	if r.since != "" {
		query["since"] = r.since
		query["timeout"] = strconv.FormatInt(syncFor.Milliseconds(), 10)
	}
	ctx, cancel := context.WithTimeout(ctx, syncFor+callWithin)
	defer cancel()
	at := r.client.BuildURLWithQuery(mautrix.ClientURLPath{"v3", "sync"}, query)
	batch := new(synced)
	_, err := r.client.MakeRequest(ctx, http.MethodGet, at, nil, batch)
	switch {
	case errors.Is(err, mautrix.ErrBodyReadReachedLimit) || errors.Is(err, mautrix.ErrResponseTooLong):
		r.limit = max(r.limit/4, 1) // what is left out is read page by page
		return nil, failed("read a batch", err)
	case err != nil:
		var answer mautrix.HTTPError
		if errors.As(err, &answer) && answer.IsStatus(http.StatusBadRequest) && r.since != "" {
			r.config.Log.Error("the homeserver does not know the position any more: what was said within a day is read again", "error", failed("read a batch", err))
			r.since = ""
		}
		return nil, failed("read a batch", err)
	case batch.Next == "":
		return nil, errors.New("matrix: read a batch: the answer names no next one")
	}
	r.limit = batchSize
	return batch, nil
}

// room takes what was said in a room, oldest first.
func (r *reader) room(ctx context.Context, room string, of joined) error {
	var events []*received
	for _, raw := range of.Timeline.Events {
		events = r.read(events, room, raw)
	}
	if of.Timeline.Limited && of.Timeline.Previous != "" {
		before, err := r.gap(ctx, room, of.Timeline.Previous)
		if err != nil {
			return err
		}
		events = append(before, events...)
	}
	for _, e := range events {
		if err := r.take(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// read adds an event to those of its room, if it is one.
func (r *reader) read(to []*received, room string, raw json.RawMessage) []*received {
	e := new(received)
	if err := json.Unmarshal(raw, e); err != nil {
		r.config.Log.Debug("an odd event was left out", "room", room)
		return to
	}
	if e.ID == "" || e.Room != "" && e.Room != room {
		return to
	}
	e.Room = room
	return append(to, e)
}

// gap returns the events between the last batch and where this one begins,
// oldest first, as far back as answers count.
func (r *reader) gap(ctx context.Context, room, from string) ([]*received, error) {
	var newest []*received
	for range gapPages {
		var page struct {
			Chunk []json.RawMessage `json:"chunk"`
			End   string            `json:"end"`
		}
		query := map[string]string{"dir": "b", "from": from, "limit": strconv.Itoa(batchSize)}
		if r.since != "" {
			query["to"] = r.since
		}
		at := r.client.BuildURLWithQuery(mautrix.ClientURLPath{"v3", "rooms", room, "messages"}, query)
		bounded, cancel := context.WithTimeout(ctx, callWithin)
		_, err := r.client.MakeRequest(bounded, http.MethodGet, at, nil, &page)
		cancel()
		if err := failedUnlessGone("read what a batch left out", err); err != nil {
			return nil, err
		}
		old := false
		for _, raw := range page.Chunk {
			newest = r.read(newest, room, raw)
		}
		if len(newest) > 0 {
			old = r.config.Now().Sub(newest[len(newest)-1].at()) > answerWithin
		}
		if old || err != nil || page.End == "" || page.End == from || len(page.Chunk) == 0 {
			slices.Reverse(newest)
			return newest, nil
		}
		from = page.End
	}
	r.config.Log.Warn("more was said in a room than is read again: older answers must be given again", "room", room)
	slices.Reverse(newest)
	return newest, nil
}

// failedUnlessGone is failed but for rooms that the bot has left meanwhile.
func failedUnlessGone(what string, err error) error {
	if err == nil {
		return nil
	}
	if err = failed(what, err); errors.Is(err, cheq.ErrGone) {
		return nil
	}
	return err
}

// recent remembers what was noted last, so many at most.
type recent struct {
	messages map[string]string
	order    []string
}

const mostRecent = 1000

func (r *recent) note(key, value string) {
	if r.messages == nil {
		r.messages = map[string]string{}
	}
	if _, known := r.messages[key]; !known {
		if r.order = append(r.order, key); len(r.order) > mostRecent {
			delete(r.messages, r.order[0])
			r.order = r.order[1:]
		}
	}
	r.messages[key] = value
}

func (r *recent) has(key string) bool {
	_, known := r.messages[key]
	return known
}
