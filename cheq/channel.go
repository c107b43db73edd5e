package cheq

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Place is where a case is shown: a channel of the installation, and an
// address in it.
type Place struct {
	Channel string `yaml:"channel" json:"channel"` // "feishu", "matrix" or "webhook"
	// To is an address as the channel writes it ("chat:oc_…" or "user:ou_…" in
	// Feishu, "!room:server" in Matrix, a configured name for a webhook).
	To string `yaml:"to" json:"to"`
}

// Delivery is one message: a case in one place. It is sent once, and then
// follows the case. The row is the truth of the job; losing who works on it
// loses nothing.
type Delivery struct {
	Case string `json:"case"`
	Place
	// Message is the platform's id of the message; "" until it was sent.
	Message string `json:"message,omitempty"`
	// Wanted is the version of the case that is to be shown, Shown the one that
	// is; equal, there is nothing to do.
	Wanted int `json:"wanted"`
	Shown  int `json:"shown"`
	// Attempts were begun since the last success; Error is the last failure.
	Attempts int    `json:"attempts,omitempty"`
	Error    string `json:"error,omitempty"`
	// Due is when it is tried next; zero: not again, since the channel refuses
	// it for good or all is shown.
	Due time.Time `json:"due,omitzero"`
}

// Key is what makes a message that is sent twice one: the platform is handed
// the same key at every attempt.
func (d *Delivery) Key() string { return d.Case + "/" + d.Channel + "/" + d.To }

// Outbox are the rows of deliveries, and what is remembered of answers.
type Outbox interface {
	// PutDelivery stores one, whole; Deliveries lists those of a case.
	PutDelivery(d Delivery) error
	Deliveries(id string) ([]Delivery, error)
	// DueDeliveries lists those of a channel whose Due has come, the oldest
	// first.
	DueDeliveries(channel string, now time.Time, limit int) ([]Delivery, error)
	// Seen notes the id of an answer given in a channel, and reports whether it
	// was noted before. Those noted before old are forgotten.
	Seen(channel, event string, at, old time.Time) (bool, error)
	// Answered lists what Seen noted after the given one, in order of Channel,
	// then Event, as bytes.
	Answered(after Answered, limit int) ([]Answered, error)
}

// Answered is an answer that was given in a channel, and counts once.
type Answered struct {
	Channel string    `json:"channel"`
	Event   string    `json:"event"`
	At      time.Time `json:"at"`
}

// View is a case as a channel shows it.
type View struct {
	Case   Case
	Title  Text         // of its first template
	Groups []GroupState // who must still say yes
	Events []Event      // its timeline, the newest last
}

// GroupState is how far one group has come.
type GroupState struct {
	Title     Text `json:"title"`
	Yes       int  `json:"yes"`
	Approvals int  `json:"approvals"` // how many yes it takes
	No        int  `json:"no"`
	Denials   int  `json:"denials"` // how many no end it
	// Any says that of all such groups one is enough.
	Any bool `json:"any,omitempty"`
}

// Channel shows cases somewhere. Implementations are safe for concurrent use,
// and bound every call by ctx.
type Channel interface {
	// Send sends the message of a case, and returns its id there. A second call
	// with the same key sends no second message, and returns the same id.
	Send(ctx context.Context, to, key string, v View) (message string, err error)
	// Edit makes the message show v.
	Edit(ctx context.Context, to, message string, v View) error
}

// LaterError is a failure of a channel that says when to try again.
type LaterError struct {
	After time.Duration
	Err   error
}

func (e *LaterError) Error() string { return fmt.Sprintf("again after %s: %v", e.After, e.Err) }

func (e *LaterError) Unwrap() error { return e.Err }

// ErrGone is a failure of a channel that no trying again mends: the message
// was deleted or is too old to change, or the address does not exist.
var ErrGone = errors.New("gone")

// Tap is an answer that somebody gave in a channel. The channel vouches for
// who and where, and nothing else: its signature was checked.
type Tap struct {
	Channel string
	// Event is the platform's id of the answer; the second of the same id is
	// refused as a replay.
	Event    string
	At       time.Time // by the platform
	Platform string    // the person's id there
	To       string    // where the message is
	Message  string    // the message that was answered; it must be the case's
	Case     string
	Shown    string // digest of the card as the message carries it
	Yes      bool
	Reason   string
}

// What is wrong with a tap, beside the errors of [Service.Vote].
var (
	// ErrReplay means that this answer was taken before.
	ErrReplay = errors.New("taken before")
	// ErrStranger means that the platform's person is bound to no subject.
	ErrStranger = errors.New("nobody's identity: bind it first")
	// ErrMessage means that the message is not the one that was sent for the
	// case, such as a forwarded copy.
	ErrMessage = errors.New("not the message of this case")
)

// Answers takes what people answer in channels. Every refusal leaves an audit
// record.
type Answers interface {
	// Answer counts a tap, and returns the case as it is then.
	Answer(ctx context.Context, t Tap) (View, error)
}

// ErrCode refuses a short code that binds no identity: it is wrong, used or
// over, or the sender tried too many.
var ErrCode = errors.New("no such code, or its time is over")

// Identities binds people's platform ids.
type Identities interface {
	// Bind binds who sent a short code in a channel to the subject that was
	// given it, or fails with ErrCode.
	Bind(ctx context.Context, channel, platform, code string) (Person, error)
}
