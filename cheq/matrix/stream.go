package matrix

import (
	"encoding/json"
	"time"
)

// synced is what is read of an answer to /sync. Events are read one by one:
// what an odd one holds must not keep others from being read.
type synced struct {
	Next  string `json:"next_batch"`
	Rooms struct {
		Join   map[string]joined  `json:"join"`
		Invite map[string]invited `json:"invite"`
	} `json:"rooms"`
}

type joined struct {
	Timeline struct {
		Events   []json.RawMessage `json:"events"`
		Limited  bool              `json:"limited"` // some before these were left out
		Previous string            `json:"prev_batch"`
	} `json:"timeline"`
}

type invited struct {
	State struct {
		Events []json.RawMessage `json:"events"`
	} `json:"invite_state"`
}

// received is an event as it came.
type received struct {
	Type     string  `json:"type"`
	ID       string  `json:"event_id"`
	Sender   string  `json:"sender"`
	Room     string  `json:"room_id"`
	StateKey *string `json:"state_key"`
	Sent     int64   `json:"origin_server_ts"` // milliseconds
	Redacts  string  `json:"redacts"`          // before room version 11
	Content  content `json:"content"`
	Unsigned struct {
		Relations struct {
			Replace json.RawMessage `json:"m.replace"`
		} `json:"m.relations"`
	} `json:"unsigned"`
}

func (e *received) at() time.Time { return time.UnixMilli(e.Sent).UTC() }

// content holds the members of all events that are looked at. A member of
// another type than it should have makes the event one that is not.
type content struct {
	MsgType    string    `json:"msgtype"`
	Body       string    `json:"body"`
	RelatesTo  *relation `json:"m.relates_to"`
	Cheq       *shown    `json:"dev.xiezhi.cheq"`
	Redacts    string    `json:"redacts"` // from room version 11 on
	Membership string    `json:"membership"`
	// Of a decision.
	Case   string `json:"case"`
	Shown  string `json:"shown"`
	Yes    *bool  `json:"yes"`
	Reason string `json:"reason"`
}

// edited reports whether a message was changed since it was sent. Some
// homeservers hand out the changed text as if it had been sent so.
func (e *received) edited() bool { return len(e.Unsigned.Relations.Replace) > 0 }

// filter asks for what answers are made of, and nothing else.
func filter(own string, limit int) string {
	type part struct {
		Types      []string `json:"types,omitempty"`
		NotTypes   []string `json:"not_types,omitempty"`
		NotSenders []string `json:"not_senders,omitempty"`
		Limit      int      `json:"limit,omitempty"`
	}
	nothing := part{NotTypes: []string{"*"}}
	written, err := json.Marshal(map[string]any{
		"presence": nothing, "account_data": nothing,
		"room": map[string]part{
			"ephemeral": nothing, "account_data": nothing, "state": nothing,
			"timeline": {Types: looked, NotSenders: []string{own}, Limit: limit},
		},
	})
	if err != nil {
		return "{}" // strings always marshal
	}
	return string(written)
}

// looked are the types of events that are looked at.
var looked = []string{"m.reaction", "m.room.message", "m.room.redaction", "m.room.encrypted", decisionType}
