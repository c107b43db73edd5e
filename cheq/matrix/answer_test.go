package matrix

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

func TestReactionsAreAnswers(t *testing.T) {
	r := newRig(t)
	digest := pending(t).Case.Shown
	yes := r.h.react("@wang:here", r.message, "✅")
	emoji := r.h.react("@li:here", r.message, "✅\uFE0F")
	no := r.h.react("@wang:here", r.message, "❌")
	r.h.react("@wang:here", r.message, "👍")
	r.run(t)
	taps := r.read(t)
	want := []cheq.Tap{
		{Channel: "matrix", Event: yes, At: testNow, Platform: "@wang:here", To: room, Message: r.message, Case: "cheq-1", Shown: digest, Yes: true},
		{Channel: "matrix", Event: emoji, At: testNow, Platform: "@li:here", To: room, Message: r.message, Case: "cheq-1", Shown: digest, Yes: true},
		{Channel: "matrix", Event: no, At: testNow, Platform: "@wang:here", To: room, Message: r.message, Case: "cheq-1", Shown: digest},
	}
	if fmt.Sprint(taps) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", taps, want)
	}
	if said := r.h.all(t); len(said) != 1 {
		t.Errorf("people were told %+v", said[1:])
	}
}

func TestRepliesAreAnswers(t *testing.T) {
	for body, want := range map[string]string{
		"approve":                               "true ",
		" Approve  it is fine ":                 "true it is fine",
		"REJECT: no ticket":                     "false no ticket",
		"同意":                                    "true ",
		"同意，按计划":                                "true 按计划",
		"拒绝 缺少工单":                               "false 缺少工单",
		"> <@xiezhi:here> approve\n\nreject it": "false it",
		"reject\nbecause\nof this":              "false because\nof this",
		"reject a\x00b":                         "false a\uFFFDb",
		"approved":                              "",
		"不同意":                                   "",
		"do not approve":                        "",
		"> approve":                             "",
		"":                                      "",
	} {
		got := ""
		if yes, reason, ok := verdict(body); ok {
			got = fmt.Sprint(yes, " ", reason)
		}
		if got != want {
			t.Errorf("%q is read as %q, want %q", body, got, want)
		}
	}
	r := newRig(t)
	event := r.h.reply("@wang:here", r.message, "reject no ticket")
	r.run(t)
	if taps := r.read(t); len(taps) != 1 || taps[0].Event != event || taps[0].Yes || taps[0].Reason != "no ticket" {
		t.Errorf("taps %+v", taps)
	}
}

func TestDecisionEventsAreAnswers(t *testing.T) {
	r := newRig(t)
	decide := func(of, shown string, yes any, rel string) {
		r.h.say("@wang:here", decisionType, map[string]any{
			"case": of, "shown": shown, "yes": yes, "reason": "why", "m.relates_to": map[string]any{"rel_type": rel, "event_id": r.message},
		})
	}
	digest := pending(t).Case.Shown
	decide("cheq-1", digest, true, "m.reference")
	decide("cheq-1", "sha256:forged", true, "m.reference") // handed on: who counts refuses it
	decide("cheq-2", digest, true, "m.reference")
	decide("cheq-1", "", true, "m.reference")
	decide("cheq-1", digest, "true", "m.reference")
	decide("cheq-1", digest, nil, "m.reference")
	decide("cheq-1", digest, true, "m.annotation")
	r.run(t)
	taps := r.read(t)
	if len(taps) != 2 || taps[0].Shown != digest || !taps[0].Yes || taps[0].Reason != "why" || taps[1].Shown != "sha256:forged" {
		t.Errorf("taps %+v", taps)
	}
}

func TestWhatIsNoAnswerIsNotTaken(t *testing.T) {
	reaction := func(to, key string) map[string]any {
		return map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": to, "key": key}}
	}
	text := func(body string, rel map[string]any) map[string]any {
		return map[string]any{"msgtype": "m.text", "body": body, "m.relates_to": rel}
	}
	for name, attack := range map[string]func(r *rig, h *homeserver){
		"another server's user":   func(r *rig, h *homeserver) { h.react("@eve:there", r.message, "✅") },
		"a server named alike":    func(r *rig, h *homeserver) { h.react("@eve:here.evil", r.message, "✅") },
		"a server behind a colon": func(r *rig, h *homeserver) { h.react("@wang:here:8448", r.message, "✅") },
		"no user":                 func(r *rig, h *homeserver) { h.react("wang:here", r.message, "✅") },
		"who was never there":     func(r *rig, h *homeserver) { h.react("@out:here", r.message, "✅") },
		"who left": func(r *rig, h *homeserver) {
			h.members[room]["@li:here"] = "leave"
			h.react("@li:here", r.message, "✅")
		},
		"who was banned": func(r *rig, h *homeserver) {
			h.members[room]["@li:here"] = "ban"
			h.reply("@li:here", r.message, "approve")
		},
		"the bot": func(r *rig, h *homeserver) {
			h.echo = true
			h.react(bot, r.message, "✅")
		},
		"an old one": func(r *rig, h *homeserver) {
			h.add(room, "@wang:here", "m.reaction", testNow.Add(-25*time.Hour), reaction(r.message, "✅"), nil)
		},
		"a future one": func(r *rig, h *homeserver) {
			h.add(room, "@wang:here", "m.reaction", testNow.Add(6*time.Minute), reaction(r.message, "✅"), nil)
		},
		"a state event": func(r *rig, h *homeserver) {
			h.add(room, "@wang:here", "m.reaction", testNow, reaction(r.message, "✅"), map[string]any{"state_key": ""})
		},
		"another room's notice": func(r *rig, h *homeserver) {
			h.members["!other:here"] = map[string]string{bot: "join", "@wang:here": "join"}
			h.add("!other:here", "@wang:here", "m.reaction", testNow, reaction(r.message, "✅"), nil)
		},
		"a forged notice": func(r *rig, h *homeserver) {
			forged := h.say("@li:here", "m.room.message", map[string]any{"msgtype": "m.notice", "body": "x", cheqMember: shown{"cheq-1", "sha256:00"}})
			h.react("@wang:here", forged, "✅")
		},
		"no notice": func(r *rig, h *homeserver) {
			h.react("@wang:here", h.say("@li:here", "m.room.message", text("hello", nil)), "✅")
		},
		"nothing":    func(r *rig, h *homeserver) { h.react("@wang:here", "$none", "✅") },
		"a path":     func(r *rig, h *homeserver) { h.react("@wang:here", "../../account/whoami", "✅") },
		"an odd key": func(r *rig, h *homeserver) { h.react("@wang:here", r.message, "✅✅") },
		"a reference": func(r *rig, h *homeserver) {
			h.say("@wang:here", "m.reaction", map[string]any{"m.relates_to": map[string]any{"rel_type": "m.reference", "event_id": r.message, "key": "✅"}})
		},
		"a key of no text": func(r *rig, h *homeserver) {
			h.say("@wang:here", "m.reaction", map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": r.message, "key": 1}})
		},
		"a removed one":   func(r *rig, h *homeserver) { h.say("@wang:here", "m.reaction", map[string]any{}) },
		"a plain message": func(r *rig, h *homeserver) { h.say("@wang:here", "m.room.message", text("approve", nil)) },
		"a bot's notice": func(r *rig, h *homeserver) {
			h.say("@wang:here", "m.room.message", map[string]any{"msgtype": "m.notice", "body": "approve", "m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": r.message}}})
		},
		"talk in a thread": func(r *rig, h *homeserver) {
			h.say("@wang:here", "m.room.message", text("approve", map[string]any{"rel_type": "m.thread", "event_id": r.message, "is_falling_back": true, "m.in_reply_to": map[string]any{"event_id": r.message}}))
		},
		"an edit": func(r *rig, h *homeserver) {
			h.say("@wang:here", "m.room.message", text("approve", map[string]any{"rel_type": "m.replace", "event_id": "$x", "m.in_reply_to": map[string]any{"event_id": r.message}}))
		},
		"an edited message": func(r *rig, h *homeserver) {
			h.add(room, "@wang:here", "m.room.message", testNow, text("approve", map[string]any{"m.in_reply_to": map[string]any{"event_id": r.message}}), map[string]any{"unsigned": map[string]any{"m.relations": map[string]any{"m.replace": map[string]any{"event_id": "$y"}}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			attack(r, r.h)
			good := r.h.react("@wang:here", r.message, "❌") // what comes after is still read
			r.run(t)
			if taps := r.read(t); len(taps) != 1 || taps[0].Event != good {
				t.Errorf("taps %+v", taps)
			}
		})
	}
}

// A reaction to an edit names another event than was sent for the case.
func TestAnAnswerToAnEditNamesTheEdit(t *testing.T) {
	r := newRig(t)
	v := pending(t)
	v.Case.Version = 2
	if err := r.Edit(t.Context(), room, r.message, v); err != nil {
		t.Fatal(err)
	}
	edit := fmt.Sprintf("$event%d", r.h.head()-1)
	r.answer = func(tap cheq.Tap, _ int) error {
		if tap.Message != r.message {
			return cheq.ErrMessage
		}
		return nil
	}
	r.h.react("@wang:here", edit, "✅")
	good := r.h.react("@wang:here", r.message, "✅")
	r.run(t)
	if taps := r.read(t); len(taps) != 1 || taps[0].Event != good {
		t.Errorf("taps %+v", taps)
	}
	said := r.h.all(t)
	if last := said[len(said)-1]; !strings.Contains(last.Body, textMessage.EN) {
		t.Errorf("told %+v", last)
	}
}

func TestRefusalsAreToldOnce(t *testing.T) {
	r := newRig(t)
	r.answer = func(cheq.Tap, int) error { return fmt.Errorf("case: %w", cheq.ErrStranger) }
	r.h.react("@wang:here", r.message, "✅")
	for range 2 { // the second time from the beginning, as after a position was lost
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.read(t)
		cancel()
		<-done
		r.batch = ""
	}
	said := r.h.all(t)[1:]
	if len(said) != 1 {
		t.Fatalf("told %+v", said)
	}
	if n := said[0]; n.Body != "@wang:here: "+textStranger.EN+" "+textStranger.ZH || n.RelatesTo.Type != "m.thread" || n.RelatesTo.Event != r.message || n.RelatesTo.InReplyTo.Event != r.message {
		t.Errorf("told %+v", n)
	}
}

func TestRefusalsAreNotToldTooOften(t *testing.T) {
	r := newRig(t)
	r.answer = func(cheq.Tap, int) error { return cheq.ErrNotReviewer }
	for range 20 {
		r.h.react("@wang:here", r.message, "✅")
	}
	r.h.react("@li:here", r.message, "✅")
	r.run(t)
	r.read(t)
	counts := map[string]int{}
	for _, n := range r.h.all(t)[1:] {
		who, _, _ := strings.Cut(n.Body, ": ")
		counts[who]++
	}
	if counts["@wang:here"] != 5 || counts["@li:here"] != 1 {
		t.Errorf("told %v", counts)
	}
}

func TestAHugeReasonIsRefusedAndTold(t *testing.T) {
	r := newRig(t)
	r.answer = func(tap cheq.Tap, _ int) error {
		if len(tap.Reason) > 4096 {
			return cheq.ErrText
		}
		return nil
	}
	r.h.reply("@wang:here", r.message, "reject "+strings.Repeat("很", 20000))
	good := r.h.reply("@wang:here", r.message, "reject 很")
	r.run(t)
	if taps := r.read(t); len(taps) != 1 || taps[0].Event != good {
		t.Errorf("taps %.200v", taps)
	}
	if said := r.h.all(t)[1:]; len(said) != 1 || !strings.Contains(said[0].Body, textReason.EN) {
		t.Errorf("told %+v", said)
	}
}

func TestEveryRefusalHasItsText(t *testing.T) {
	seen := map[cheq.Text]bool{}
	for _, err := range []error{cheq.ErrStranger, cheq.ErrNotReviewer, cheq.ErrSettled, cheq.ErrMessage, cheq.ErrShown, cheq.ErrNotFound, cheq.ErrText, cheq.ErrConfirm} {
		text, final := refusal(fmt.Errorf("wrapped: %w", err))
		if !final || text.EN == "" || text.ZH == "" {
			t.Errorf("%v: %v, %v", err, text, final)
		}
		seen[text] = true
	}
	if _, final := refusal(errors.New("the database is away")); final || len(seen) != 6 {
		t.Errorf("%d texts, an unknown error is final: %v", len(seen), final)
	}
}

func TestAnAnswerStandsThoughItIsRemoved(t *testing.T) {
	for name, redaction := range map[string]func(event string) (content, more map[string]any){
		"before room version 11": func(event string) (map[string]any, map[string]any) {
			return map[string]any{}, map[string]any{"redacts": event}
		},
		"since": func(event string) (map[string]any, map[string]any) {
			return map[string]any{"redacts": event}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			counted := r.h.react("@wang:here", r.message, "✅")
			other := r.h.react("@wang:here", r.message, "👍")
			for _, event := range []string{counted, other} {
				content, more := redaction(event)
				r.h.add(room, "@wang:here", "m.room.redaction", testNow, content, more)
			}
			r.run(t)
			if taps := r.read(t); len(taps) != 1 {
				t.Errorf("taps %+v", taps)
			}
			if said := r.h.all(t)[1:]; len(said) != 1 || !strings.Contains(said[0].Body, textStands.EN) {
				t.Errorf("told %+v", said)
			}
		})
	}
}

func TestAnswersWaitForTheStore(t *testing.T) {
	r := newRig(t)
	failures := 0
	r.answer = func(tap cheq.Tap, _ int) error {
		if failures++; failures <= 2 {
			if r.batch != "" {
				t.Error("the position was saved before the answers were taken")
			}
			return errors.New("the database is away")
		}
		return nil
	}
	first := r.h.react("@wang:here", r.message, "✅")
	second := r.h.react("@li:here", r.message, "✅")
	r.run(t)
	if taps := r.read(t); len(taps) != 2 || taps[0].Event != first || taps[1].Event != second {
		t.Errorf("taps %+v", taps)
	}
	if len(r.pauses) != 2 || len(r.h.all(t)) != 1 {
		t.Errorf("waited %v, told %d", r.pauses, len(r.h.all(t))-1)
	}
}

func TestOneAnswerDoesNotStopTheOthersForGood(t *testing.T) {
	r := newRig(t)
	bad := r.h.react("@wang:here", r.message, "✅")
	good := r.h.react("@li:here", r.message, "✅")
	r.answer = func(tap cheq.Tap, _ int) error {
		if tap.Event == bad {
			return errors.New("cannot be stored")
		}
		return nil
	}
	r.run(t)
	if taps := r.read(t); len(taps) != 1 || taps[0].Event != good {
		t.Errorf("taps %+v", taps)
	}
	if said := r.h.all(t)[1:]; len(said) != 1 || !strings.Contains(said[0].Body, textLater.EN) {
		t.Errorf("told %+v", said)
	}
}

// refuseFirst makes the homeserver refuse so many calls that are picked.
func (h *homeserver) refuseFirst(times, status int, code string, picked func(r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if times == 0 || !picked(r) {
			return false
		}
		times--
		fail(w, status, code)
		return true
	}
}
