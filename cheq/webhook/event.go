package webhook

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// The types of events.
const (
	opened  = "dev.xiezhi.cheq.opened"  // a case is shown for the first time
	changed = "dev.xiezhi.cheq.changed" // it goes on
	settled = "dev.xiezhi.cheq.settled" // it has ended
)

// cloudEvent is one event in the structured form of CloudEvents 1.0.
type cloudEvent struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        data      `json:"data"`
}

// data is a case as a hook is told of it.
type data struct {
	Case    string            `json:"case"`
	Version int               `json:"version"` // the highest one is the newest
	State   cheq.State        `json:"state"`
	Shown   string            `json:"shown"` // the card's digest, to be repeated in an answer
	Title   cheq.Text         `json:"title"`
	Card    cheq.Card         `json:"card"`
	Groups  []cheq.GroupState `json:"groups"`
	Votes   []vote            `json:"votes"`
	Cause   string            `json:"cause,omitempty"`
	Settled time.Time         `json:"settled_at,omitzero"`
	Grant   *grant            `json:"grant,omitempty"`
	// Of an emergency: when somebody must have looked back, whether nobody has
	// by then, and what was found.
	ReviewBy time.Time    `json:"review_by,omitzero"`
	Overdue  bool         `json:"overdue,omitempty"`
	Reviewed *cheq.Review `json:"reviewed,omitempty"`
}

type vote struct {
	Voter   string    `json:"voter"`
	Yes     bool      `json:"yes"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`
	Channel string    `json:"channel"`
}

type grant struct {
	ID    string     `json:"id"`
	End   time.Time  `json:"end"`
	Yield cheq.Yield `json:"state"`
}

// eventOf writes an event. Its id is of the message and the case's version: the
// same event has the same id however often it is sent.
func eventOf(source, message, typ string, now time.Time, v *cheq.View) ([]byte, error) {
	c := &v.Case
	card := c.Card()
	digest, err := card.Digest()
	if err != nil {
		return nil, err
	}
	if c.State.Settled() {
		typ = settled
	}
	d := data{
		Case: c.ID, Version: c.Version, State: c.State, Shown: digest, Title: v.Title, Card: card,
		Groups: v.Groups, Votes: []vote{}, Cause: c.Cause, Settled: c.SettledAt,
		ReviewBy: c.ReviewBy, Overdue: c.Overdue, Reviewed: c.Reviewed,
	}
	if d.Groups == nil {
		d.Groups = []cheq.GroupState{}
	}
	for _, of := range c.Votes {
		d.Votes = append(d.Votes, vote{of.Voter.String(), of.Yes, of.Reason, of.At, of.Channel})
	}
	if c.Grant != "" {
		d.Grant = &grant{c.Grant, c.GrantEnd, c.Yield}
	}
	body, err := json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: message + "." + strconv.Itoa(c.Version), Source: source, Type: typ, Subject: c.ID,
		Time: now.UTC(), ContentType: "application/json", Data: d,
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: case %s: %w", c.ID, err)
	}
	return body, nil
}
