package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"maunium.net/go/mautrix/event"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// maxCode is the longest short code that is looked at.
const maxCode = 64

// bind takes a short code that somebody sent to the bot alone.
func (r *reader) bind(ctx context.Context, e *received, code string) error {
	alone, err := r.alone(ctx, e.Room, e.Sender)
	switch {
	case err != nil:
		return err
	case !alone:
		r.tell(ctx, e, "", textAlone)
		return nil
	case len(code) > maxCode || !visible(code):
		r.tell(ctx, e, "", textCode)
		return nil
	case !r.codes.allow(e.Sender, r.config.Now()):
		r.config.Log.Warn("somebody tries too many codes", "sender", e.Sender)
		return nil
	}
	who, err := r.config.Identities.Bind(ctx, Name, e.Sender, code)
	switch {
	case errors.Is(err, cheq.ErrCode):
		r.tell(ctx, e, "", textCode)
		return nil
	case err != nil:
		return err
	}
	name := clean(who.String())
	if who.Tenant != "" {
		name += " (" + clean(who.Tenant) + ")"
	}
	r.tell(ctx, e, "", cheq.Text{EN: "you answer as " + name + " now.", ZH: "您现在以 " + name + " 的身份答复。"})
	return nil
}

// alone reports whether nobody but the bot and this person is in a room.
func (r *reader) alone(ctx context.Context, room, user string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	var members struct {
		Joined map[string]json.RawMessage `json:"joined"`
	}
	if err := failedUnlessGone("look who is in the room", r.get(ctx, &members, "v3", "rooms", room, "joined_members")); err != nil {
		return false, err
	}
	_, sender := members.Joined[user]
	_, bot := members.Joined[r.config.UserID]
	return sender && bot && len(members.Joined) == 2, nil
}

// invited follows an invitation by somebody of our own server: into the room
// where cases are shown, or where a short code is sent.
func (r *reader) invited(ctx context.Context, room string, state []json.RawMessage) {
	for _, raw := range state {
		var e received
		if json.Unmarshal(raw, &e) != nil || e.Type != event.StateMember.Type || e.StateKey == nil || *e.StateKey != r.config.UserID {
			continue
		}
		if e.Content.Membership != string(event.MembershipInvite) || serverOf(e.Sender) != r.config.ServerName || !r.joins.allow(e.Sender, r.config.Now()) {
			r.config.Log.Info("an invitation was not followed", "room", room)
			return
		}
		bounded, cancel := context.WithTimeout(ctx, callWithin)
		defer cancel()
		at := r.client.BuildClientURL("v3", "rooms", room, "join")
		if _, err := r.client.MakeRequest(bounded, http.MethodPost, at, struct{}{}, nil); err != nil {
			r.config.Log.Warn("an invitation could not be followed", "room", room, "error", failed("join", err))
			return
		}
		r.config.Log.Info("joined a room", "room", room, "invited_by", e.Sender)
		return
	}
}
