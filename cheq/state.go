package cheq

import (
	"errors"
	"fmt"
	"slices"
)

// State is where a case stands.
type State string

const (
	Pending   State = "pending"
	Approved  State = "approved"
	Rejected  State = "rejected"
	Expired   State = "expired"   // nobody decided in time
	Cancelled State = "cancelled" // by its requester, or because what it was about changed
)

// Yield is where that stands which an approval minted. The zero Yield opens
// nothing.
type Yield string

const (
	NoYield Yield = ""
	Live    Yield = "live"
	UsedUp  Yield = "used_up"
	Ended   Yield = "expired"
	Revoked Yield = "revoked"
)

// The tables of all moves there are: a case ends once, and what it minted ends
// once.
var (
	moves  = map[State][]State{Pending: {Approved, Rejected, Expired, Cancelled}}
	yields = map[Yield][]Yield{NoYield: {Live}, Live: {UsedUp, Ended, Revoked}}
)

// ErrSettled means that the case has ended already, or that what it minted has.
var ErrSettled = errors.New("settled already")

// move changes a state where the table allows it.
func move[S ~string](table map[S][]S, from *S, to S) error {
	if !slices.Contains(table[*from], to) {
		return fmt.Errorf("%s cannot become %s: %w", *from, to, ErrSettled)
	}
	*from = to
	return nil
}

// Settled reports whether the case has ended.
func (s State) Settled() bool { return s != Pending }
