package matrix_test

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/matrix"
)

// bodies are the texts of a list of events, and the types of those without one.
func bodies(v any) []string {
	var all []string
	list, _ := v.([]any)
	for _, item := range list {
		e := reply{body: item.(map[string]any)}
		if body, ok := e.at("content", "body").(string); ok {
			all = append(all, body)
		} else {
			all = append(all, e.text("type"))
		}
	}
	return all
}

func (w *town) sync(t *testing.T, as, query string) reply {
	t.Helper()
	return w.call(t, as, "GET", v3+"/sync?"+query, nil)
}

func TestSyncGoesOnFromItsToken(t *testing.T) {
	w := newTown(t, matrix.Config{})
	first := w.sync(t, "bot", "timeout=30000")
	state := bodies(first.at("rooms", "join", w.room, "state", "events"))
	timeline := bodies(first.at("rooms", "join", w.room, "timeline", "events"))
	if len(state)+len(timeline) != 10 || !slices.Contains(append(state, timeline...), "m.room.create") {
		t.Errorf("state %v, timeline %v", state, timeline)
	}
	since := first.text("next_batch")
	id := w.put(t, "bot", "m.room.message", "t1", text("hello")).text("event_id")
	got := w.sync(t, "bot", "timeout=30000&since="+since)
	events, _ := got.at("rooms", "join", w.room, "timeline", "events").([]any)
	if len(events) != 1 {
		t.Fatalf("%+v", got.body)
	}
	e := reply{body: events[0].(map[string]any)}
	if e.text("event_id") != id || e.text("sender") != bot || e.at("unsigned", "transaction_id") != "t1" {
		t.Errorf("event: %+v", e.body)
	}
	if other := w.sync(t, "alice", "since="+since); other.at("rooms", "join", w.room) == nil {
		t.Errorf("alice: %+v", other.body)
	}
	if again := w.sync(t, "bot", "since="+got.text("next_batch")); again.at("rooms", "join") != nil || again.text("next_batch") != got.text("next_batch") {
		t.Errorf("nothing new: %+v", again.body)
	}
	wantError(t, "empty since", w.sync(t, "bot", "since="), 400, "M_UNKNOWN")
	wantError(t, "malformed since", w.sync(t, "bot", "since=yesterday"), 400, "M_UNKNOWN")
	wantError(t, "no token", w.sync(t, "", "since="+since), 401, "M_MISSING_TOKEN")
}

func TestSyncWaits(t *testing.T) {
	w := newTown(t, matrix.Config{})
	since := w.sync(t, "bot", "").text("next_batch")
	wait := func() chan reply {
		got := make(chan reply, 1)
		go func() {
			r, _ := w.try("bot", "GET", v3+"/sync?timeout=30000&since="+since, nil)
			got <- r
		}()
		must(t, w.clock.AwaitTimers(w.ctx, 1))
		return got
	}
	waiting := wait()
	_, err := w.SendAs(alice, w.room, "dev.xiezhi.custom", map[string]any{"digest": "abc"})
	must(t, err)
	got := <-waiting
	events, _ := got.at("rooms", "join", w.room, "timeline", "events").([]any)
	if len(events) != 1 || events[0].(map[string]any)["type"] != "dev.xiezhi.custom" {
		t.Errorf("%+v", got.body)
	}
	since = got.text("next_batch")
	waiting = wait()
	w.clock.Advance(30 * time.Second)
	if got := <-waiting; got.status != 200 || got.at("rooms", "join") != nil {
		t.Errorf("after the timeout: %+v", got)
	}
	waiting = wait()
	w.RevokeTokens(bot)
	wantError(t, "logged out meanwhile", <-waiting, 401, "M_UNKNOWN_TOKEN")
}

func TestLimitedTimelinesLeaveAGap(t *testing.T) {
	w := newTown(t, matrix.Config{})
	since := w.sync(t, "bot", "").text("next_batch")
	for _, body := range []string{"1", "2", "3", "4", "5"} {
		_, err := w.SendAs(alice, w.room, "m.room.message", text(body))
		must(t, err)
		if body == "2" {
			w.call(t, "bot", "PUT", w.inRoom("/state/m.room.topic"), map[string]any{"topic": "changed in the gap"})
		}
	}
	filter := w.call(t, "bot", "POST", v3+"/user/"+url.PathEscape(bot)+"/filter", map[string]any{"room": map[string]any{"timeline": map[string]any{"limit": 2}}}).text("filter_id")
	got := w.sync(t, "bot", "since="+since+"&filter="+filter)
	part := []string{"rooms", "join", w.room}
	timeline := func(name string) any { return got.at(append(part, "timeline", name)...) }
	if texts := bodies(timeline("events")); !slices.Equal(texts, []string{"4", "5"}) || timeline("limited") != true {
		t.Errorf("timeline: %v", got.body)
	}
	if state := bodies(got.at(append(part, "state", "events")...)); !slices.Equal(state, []string{"m.room.topic"}) {
		t.Errorf("state of the gap: %v", state)
	}
	prev, _ := timeline("prev_batch").(string)
	page := w.call(t, "bot", "GET", w.inRoom("/messages?dir=b&limit=2&from="+prev+"&to="+since), nil)
	if texts := bodies(page.at("chunk")); !slices.Equal(texts, []string{"3", "m.room.topic"}) {
		t.Errorf("first page: %v", texts)
	}
	page = w.call(t, "bot", "GET", w.inRoom("/messages?dir=b&limit=9&from="+page.text("end")+"&to="+since), nil)
	if texts := bodies(page.at("chunk")); !slices.Equal(texts, []string{"2", "1"}) || page.text("end") != "" {
		t.Errorf("last page: %v", page.body)
	}
	forwards := w.call(t, "bot", "GET", w.inRoom("/messages?dir=f&limit=2&from="+since), nil)
	if texts := bodies(forwards.at("chunk")); !slices.Equal(texts, []string{"1", "2"}) {
		t.Errorf("forwards: %v", texts)
	}
	types := url.QueryEscape(`{"room":{"timeline":{"types":["m.reaction"]}}}`)
	if got := w.sync(t, "bot", "since="+since+"&filter="+types); len(bodies(got.at(append(part, "timeline", "events")...))) != 0 {
		t.Errorf("only reactions were asked for: %+v", got.body)
	}
	wantError(t, "direction", w.call(t, "bot", "GET", w.inRoom("/messages"), nil), 400, "M_MISSING_PARAM")
}

func TestMembershipsShowInSync(t *testing.T) {
	w := newTown(t, matrix.Config{})
	_, err := w.AddUser("carol", "pw-carol")
	must(t, err)
	w.tokens["carol"] = w.login(t, "carol", "").text("access_token")
	since := w.sync(t, "carol", "").text("next_batch")
	if got := w.call(t, "alice", "POST", w.inRoom("/invite"), map[string]any{"user_id": "@carol:sim.test"}); got.status != 200 {
		t.Fatalf("invite: %+v", got)
	}
	got := w.sync(t, "carol", "since="+since)
	if got.at("rooms", "invite", w.room, "invite_state") == nil {
		t.Errorf("invited: %+v", got.body)
	}
	since = got.text("next_batch")
	must(t, w.Join("@carol:sim.test", w.room))
	got = w.sync(t, "carol", "since="+since)
	all := append(bodies(got.at("rooms", "join", w.room, "state", "events")), bodies(got.at("rooms", "join", w.room, "timeline", "events"))...)
	if !slices.Contains(all, "m.room.create") || got.at("rooms", "join", w.room, "timeline", "limited") != true {
		t.Errorf("joined: %v", got.body)
	}
	since = got.text("next_batch")
	_, err = w.SendAs(alice, w.room, "m.room.message", text("bye"))
	must(t, err)
	must(t, w.Leave("@carol:sim.test", w.room))
	_, err = w.SendAs(alice, w.room, "m.room.message", text("she is gone"))
	must(t, err)
	got = w.sync(t, "carol", "since="+since)
	if texts := bodies(got.at("rooms", "leave", w.room, "timeline", "events")); !slices.Equal(texts, []string{"bye", "m.room.member"}) {
		t.Errorf("left: %v", got.body)
	}
	wantError(t, "after leaving", w.put(t, "carol", "m.room.message", "t1", text("x")), 403, "M_FORBIDDEN")
	if rooms, _ := w.call(t, "carol", "GET", v3+"/joined_rooms", nil).at("joined_rooms").([]any); len(rooms) != 0 {
		t.Errorf("rooms: %v", rooms)
	}
}
