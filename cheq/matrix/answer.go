package matrix

import (
	"context"
	"errors"
	"strings"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	"github.com/xiezhi-project/xiezhi/cheq"
)

const (
	// answerWithin is how old an answer may be when it is read; clocksApart how
	// far the homeserver's clock may be ahead.
	answerWithin = 24 * time.Hour
	clocksApart  = 5 * time.Minute
	// mostTries is how often an answer is tried that cannot be taken for a
	// reason that may pass: for some five minutes, which a database may be away.
	// Then others get their turn, and its sender is told.
	mostTries = 10
)

// take acts on one event. An error means that it must be taken again.
func (r *reader) take(ctx context.Context, e *received) error {
	switch age := r.config.Now().Sub(e.at()); {
	case e.Sender == r.config.UserID || e.StateKey != nil || !visible(e.Sender):
		return nil
	case serverOf(e.Sender) != r.config.ServerName:
		r.config.Log.Info("somebody of another server is not listened to", "room", e.Room, "event", e.ID)
		return nil
	case age > answerWithin || age < -clocksApart:
		return nil
	}
	err := r.act(ctx, e)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if r.stuck != e.ID {
		r.stuck, r.tries = e.ID, 0
	}
	if r.tries++; r.tries < mostTries {
		return err
	}
	r.stuck = ""
	r.config.Log.Error("an answer was given up", "room", e.Room, "event", e.ID, "error", err)
	r.tell(ctx, e, e.answered(), textLater)
	return nil
}

func (r *reader) act(ctx context.Context, e *received) error {
	switch e.Type {
	case event.EventReaction.Type:
		if yes, ok := e.reaction(); ok {
			return r.answer(ctx, e, yes, "")
		}
	case event.EventMessage.Type:
		return r.message(ctx, e)
	case decisionType:
		if rel := e.Content.RelatesTo; rel != nil && rel.Type == string(event.RelReference) && e.Content.Yes != nil && visible(e.Content.Shown) {
			return r.answer(ctx, e, *e.Content.Yes, e.Content.Reason)
		}
	case event.EventRedaction.Type:
		r.takenBack(ctx, e)
	case event.EventEncrypted.Type:
		if !r.sealed.has(e.Room) {
			r.sealed.note(e.Room, "")
			r.tell(ctx, e, "", textEncrypted)
		}
	}
	return nil
}

// answered is the event that an answer refers to, "" where there is none.
func (e *received) answered() string {
	rel := e.Content.RelatesTo
	switch {
	case rel == nil:
		return ""
	case e.Type == event.EventMessage.Type:
		// What is said in a thread names the message before it for clients that
		// know no threads. That is no reply.
		if rel.InReplyTo == nil || rel.FallingBack {
			return ""
		}
		return rel.InReplyTo.Event
	default:
		return rel.Event
	}
}

// reaction reads a sign, with or without the selector that asks for an emoji.
func (e *received) reaction() (yes, ok bool) {
	if rel := e.Content.RelatesTo; rel != nil && rel.Type == string(event.RelAnnotation) {
		switch strings.TrimSuffix(rel.Key, "\uFE0F") {
		case "✅":
			return true, true
		case "❌":
			return false, true
		}
	}
	return false, false
}

// message takes a reply, or a short code. That a message was edited is another
// message, and counts for nothing.
func (r *reader) message(ctx context.Context, e *received) error {
	if rel := e.Content.RelatesTo; e.Content.MsgType != string(event.MsgText) || rel != nil && rel.Type == string(event.RelReplace) {
		return nil
	}
	if e.answered() == "" {
		if words := strings.Fields(e.Content.Body); e.Content.RelatesTo == nil && len(words) == 2 && strings.EqualFold(words[0], "bind") {
			return r.bind(ctx, e, words[1])
		}
		return nil
	}
	yes, reason, ok := verdict(e.Content.Body)
	if !ok {
		return nil
	}
	if e.edited() {
		r.tell(ctx, e, e.answered(), textEdited)
		return nil
	}
	return r.answer(ctx, e, yes, reason)
}

// verdict reads "approve", "reject", "同意" or "拒绝", and a reason after it.
func verdict(body string) (yes bool, reason string, ok bool) {
	text := strings.TrimSpace(body)
	// Older clients repeat what they reply to, as quoted lines and an empty one.
	for strings.HasPrefix(text, ">") {
		_, rest, _ := strings.Cut(text, "\n")
		text = strings.TrimSpace(rest)
	}
	word, rest := text, ""
	if at := strings.IndexAny(text, " \t\n\r:,：，。\u3000"); at >= 0 {
		word, rest = text[:at], strings.TrimLeft(text[at:], " \t\n\r:,：，。\u3000")
	}
	rest = strings.TrimSpace(strings.ReplaceAll(rest, "\x00", "\uFFFD")) // no database takes it
	switch strings.ToLower(word) {
	case "approve", "同意":
		return true, rest, true
	case "reject", "拒绝":
		return false, rest, true
	default:
		return false, "", false
	}
}

// answer hands an answer on, if it is to a notice of the bot's and by somebody
// in the room.
func (r *reader) answer(ctx context.Context, e *received, yes bool, reason string) error {
	target := e.answered()
	of, err := r.notice(ctx, e.Room, target)
	if err != nil || of == nil {
		return err
	}
	if there, err := r.inRoom(ctx, e.Room, e.Sender); err != nil {
		return err
	} else if !there {
		r.config.Log.Info("somebody who is not in the room any more is not listened to", "room", e.Room, "event", e.ID)
		return nil
	}
	tap := cheq.Tap{
		Channel: Name, Event: e.ID, At: e.at(), Platform: e.Sender, To: e.Room, Message: target,
		Case: of.Case, Shown: of.Shown, Yes: yes, Reason: strings.ReplaceAll(reason, "\x00", "\uFFFD"),
	}
	if e.Type == decisionType {
		if e.Content.Case != of.Case {
			r.tell(ctx, e, target, textMessage)
			return nil
		}
		tap.Shown = e.Content.Shown // what its sender saw: it may be wrong, and is refused then
	}
	_, err = r.config.Answers.Answer(ctx, tap)
	if err == nil || errors.Is(err, cheq.ErrReplay) {
		r.counted.note(e.ID, target)
		return nil
	}
	text, final := refusal(err)
	if !final {
		return err
	}
	r.config.Log.Info("an answer in Matrix was refused", "case", of.Case, "event", e.ID, "error", err)
	r.tell(ctx, e, target, text)
	return nil
}

// notice reads what an event shows, nil where it is no notice of the bot's. It
// is read each time: a notice that was taken away cannot be answered any more.
func (r *reader) notice(ctx context.Context, room, message string) (*shown, error) {
	if message == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	var e received
	switch err := r.get(ctx, &e, "v3", "rooms", room, "event", message); {
	case errors.Is(err, mautrix.MNotFound) || errors.Is(err, mautrix.MForbidden):
		return nil, nil
	case err != nil:
		return nil, failed("read what was answered", err)
	}
	of := e.Content.Cheq
	if e.Sender != r.config.UserID || e.ID != message || e.Room != "" && e.Room != room || e.Type != event.EventMessage.Type ||
		of == nil || of.Case == "" || of.Shown == "" {
		return nil, nil
	}
	return of, nil
}

// inRoom reports whether somebody is a joined member of a room now.
func (r *reader) inRoom(ctx context.Context, room, user string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	var member content
	switch err := r.get(ctx, &member, "v3", "rooms", room, "state", event.StateMember.Type, user); {
	case errors.Is(err, mautrix.MNotFound) || errors.Is(err, mautrix.MForbidden):
		return false, nil
	case err != nil:
		return false, failed("look who is in the room", err)
	}
	return member.Membership == string(event.MembershipJoin), nil
}

// takenBack says that an answer stands though its reaction or reply was
// removed: what was counted is known to others by now.
func (r *reader) takenBack(ctx context.Context, e *received) {
	id := e.Redacts
	if id == "" {
		id = e.Content.Redacts
	}
	if message, counted := r.counted.messages[id]; counted {
		r.config.Log.Info("an answer that was counted was removed from its room, and stands", "room", e.Room, "event", id, "removed", e.ID)
		r.tell(ctx, e, message, textStands)
	}
}

// visible reports whether a text is of visible ASCII, and as short as an id.
func visible(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return text != "" && len(text) <= 255
}
