package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

func TestReadingGoesOnWhenTheHomeserverIsBack(t *testing.T) {
	r := newRig(t)
	r.h.refuseFirst(4, http.StatusBadGateway, "", func(q *http.Request) bool { return !strings.Contains(q.URL.Path, "/send/") })
	r.h.react("@wang:here", r.message, "✅")
	r.run(t)
	if taps := r.read(t); len(taps) != 1 {
		t.Errorf("taps %+v", taps)
	}
	longest := shortestOff
	for i, wait := range r.pauses {
		if wait < longest/2 || wait > longest {
			t.Errorf("wait %d is %s, want %s to %s", i, wait, longest/2, longest)
		}
		longest *= 2
	}
	if len(r.pauses) != 4 {
		t.Errorf("waited %v", r.pauses)
	}
}

func TestReadingWaitsAsLongAsItIsAsked(t *testing.T) {
	r := newRig(t)
	r.h.refuseFirst(1, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", func(q *http.Request) bool { return strings.HasSuffix(q.URL.Path, "/sync") })
	r.h.react("@wang:here", r.message, "✅")
	r.run(t)
	r.read(t)
	if len(r.pauses) != 1 || r.pauses[0] != usualWait {
		t.Errorf("waited %v", r.pauses)
	}
}

func TestWaitsAreBounded(t *testing.T) {
	for _, failures := range []int{1, 2, 6, 7, 8, 64, 1 << 30} {
		if wait := off(failures); wait < shortestOff/2 || wait > longestOff {
			t.Errorf("after %d failures: %s", failures, wait)
		}
	}
}

func TestATokenOfSomebodyElseReadsNothing(t *testing.T) {
	r := newRig(t)
	r.config.UserID = "@other:here"
	ctx, cancel := context.WithCancel(t.Context())
	r.pause = func(context.Context, time.Duration) error { cancel(); return nil }
	r.h.react("@wang:here", r.message, "✅")
	if err := r.Run(ctx); !errors.Is(err, context.Canceled) || len(r.taps) != 0 {
		t.Errorf("%v, taps %+v", err, r.taps)
	}
	if !strings.Contains(r.log.String(), "the access token is that of") {
		t.Errorf("log %s", r.log.String())
	}
}

func TestReadingGoesOnWhereItWasLeft(t *testing.T) {
	r := newRig(t)
	r.h.react("@wang:here", r.message, "✅")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.read(t)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	away := r.h.react("@li:here", r.message, "❌")
	r.run(t)
	if taps := r.read(t); len(taps) != 2 || taps[1].Event != away {
		t.Errorf("taps %+v", taps)
	}
}

func TestAPositionThatIsKnownNoMoreIsGivenUp(t *testing.T) {
	r := newRig(t)
	r.batch = "of-another-time"
	r.h.refuseFirst(-1, http.StatusBadRequest, "M_UNKNOWN", func(q *http.Request) bool { return q.URL.Query().Get("since") == "of-another-time" })
	event := r.h.react("@wang:here", r.message, "✅")
	r.run(t)
	if taps := r.read(t); len(taps) != 1 || taps[0].Event != event {
		t.Errorf("taps %+v", taps)
	}
}

func TestAHomeserverThatDoesNotWaitIsNotAskedWithoutEnd(t *testing.T) {
	r := newRig(t)
	r.batch = "1"
	r.h.mu.Lock()
	r.h.refuse = func(w http.ResponseWriter, q *http.Request) bool {
		if q.URL.Query().Get("since") != "1" {
			return false
		}
		_, _ = w.Write([]byte(`{"next_batch":"1"}`))
		return true
	}
	r.h.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	pauses := 0
	r.pause = func(_ context.Context, d time.Duration) error {
		if pauses++; pauses == 3 {
			cancel()
		}
		return ctx.Err()
	}
	if err := r.Run(ctx); !errors.Is(err, context.Canceled) || pauses != 3 {
		t.Errorf("%v after %d pauses", err, pauses)
	}
}

func TestWhatABatchLeavesOutIsReadToo(t *testing.T) {
	for _, batch := range []string{"", "1"} { // from the beginning, and after the notice
		t.Run(batch, func(t *testing.T) { leftOut(t, batch) })
	}
}

func leftOut(t *testing.T, batch string) {
	r := newRig(t)
	r.h.most = 2
	r.batch = batch
	var want []string
	for range 7 {
		want = append(want, r.h.react("@wang:here", r.message, "✅"))
	}
	r.run(t)
	taps := r.read(t)
	if len(taps) != len(want) {
		t.Fatalf("%d taps, want %d", len(taps), len(want))
	}
	for i := range taps {
		if taps[i].Event != want[i] {
			t.Errorf("tap %d is of %s, want %s", i, taps[i].Event, want[i])
		}
	}
}

func TestOddEventsDoNotStopOthers(t *testing.T) {
	r := newRig(t)
	for _, odd := range []map[string]any{
		{"event_id": 7}, {"sender": []int{1}}, {"content": "text"}, {"origin_server_ts": 1e300}, {"type": nil}, {"unsigned": "x"},
	} {
		r.h.add(room, "@wang:here", "m.reaction", testNow, map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": r.message, "key": "✅"}}, odd)
	}
	good := r.h.react("@wang:here", r.message, "❌")
	r.run(t)
	if taps := r.read(t); len(taps) != 1 || taps[0].Event != good {
		t.Errorf("taps %+v", taps)
	}
}

func TestEventsAreOfTheirRoom(t *testing.T) {
	r := reader{Channel: newRig(t).Channel}
	for raw, want := range map[string]int{
		`{"event_id":"$1"}`: 1, `{"event_id":"$1","room_id":"` + room + `"}`: 1, `{"event_id":"$1","room_id":"!other:here"}`: 0, `{}`: 0, `[]`: 0, ``: 0,
	} {
		events := r.read(nil, room, json.RawMessage(raw))
		if len(events) != want || want == 1 && events[0].Room != room {
			t.Errorf("%s: %d events", raw, len(events))
		}
	}
}

func TestACodeBindsWhoSentItAlone(t *testing.T) {
	const direct = "!direct:here"
	text := func(body string) map[string]any { return map[string]any{"msgtype": "m.text", "body": body} }
	r := newRig(t)
	r.h.members[direct] = map[string]string{bot: "join", "@wang:here": "join", "@li:here": "leave"}
	r.h.add(direct, "@wang:here", "m.room.message", testNow, text("bind K7PQ-4M2X"), nil)
	r.h.add(room, "@li:here", "m.room.message", testNow, text("Bind OPEN"), nil) // in front of others
	r.h.add(direct, "@wang:here", "m.room.message", testNow, text("bind"), nil)
	r.h.add(direct, "@wang:here", "m.room.message", testNow, text("bind two words"), nil)
	r.h.add(direct, "@wang:here", "m.room.message", testNow, text("bind "+strings.Repeat("x", 100)), nil)
	r.run(t)
	r.read(t)
	if len(r.codes) != 1 || r.codes[0] != "matrix @wang:here K7PQ-4M2X" {
		t.Errorf("codes %q", r.codes)
	}
	said := r.h.all(t)[1:]
	if len(said) != 3 {
		t.Fatalf("told %+v", said)
	}
	for i, want := range []string{"@wang:here: " + "you answer as user:wang (acme) now.", "@li:here: " + textAlone.EN, "@wang:here: " + textCode.EN} {
		if !strings.Contains(said[0].Body+said[1].Body+said[2].Body, want) {
			t.Errorf("nobody was told %d: %q", i, want)
		}
	}
}

func TestGuessingCodesIsBounded(t *testing.T) {
	const direct = "!direct:here"
	r := newRig(t)
	r.bindErr = cheq.ErrCode
	r.h.members[direct] = map[string]string{bot: "join", "@wang:here": "join"}
	for range 30 {
		r.h.add(direct, "@wang:here", "m.room.message", testNow, map[string]any{"msgtype": "m.text", "body": "bind GUESS"}, nil)
	}
	r.run(t)
	r.read(t)
	if len(r.codes) != 5 {
		t.Errorf("%d codes were tried", len(r.codes))
	}
}

func TestInvitationsOfOurOwnServerAreFollowed(t *testing.T) {
	r := newRig(t)
	invite := func(sender, user string) []any {
		return []any{map[string]any{"type": "m.room.member", "sender": sender, "state_key": user, "content": map[string]any{"membership": "invite"}}}
	}
	r.h.invites["!new:here"] = invite("@wang:here", bot)
	r.h.invites["!trap:there"] = invite("@eve:there", bot)
	r.h.invites["!odd:here"] = invite("@wang:here", "@li:here")
	r.h.react("@wang:here", r.message, "✅")
	r.run(t)
	r.read(t)
	if len(r.h.joined) != 1 || r.h.joined[0] != "!new:here" {
		t.Errorf("joined %v", r.h.joined)
	}
}

func TestEncryptedMessagesAreAnsweredOnce(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.h.say("@wang:here", "m.room.encrypted", map[string]any{"algorithm": "m.megolm.v1.aes-sha2"})
	}
	r.run(t)
	r.read(t)
	if said := r.h.all(t)[1:]; len(said) != 1 || !strings.Contains(said[0].Body, textEncrypted.EN) {
		t.Errorf("told %+v", said)
	}
}
