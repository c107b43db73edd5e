package cheq

import (
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Case is one question to people. Everything but the fields that [Case.End]
// and votes change is fixed when it opens.
type Case struct {
	ID     string `json:"id"` // "cheq-…"
	Tenant string `json:"tenant"`
	State  State  `json:"state"`
	// Requester is whom the request is for, Caller who brought it.
	Requester Person `json:"requester"`
	Caller    Person `json:"caller"`
	Reason    string `json:"reason,omitempty"`
	// Request is as it may be stored, masked. Digests are what a grant will be
	// bound to: of the request, and of each step where it is a plan's.
	Request authz.Request `json:"request"`
	Digests []string      `json:"digests"`
	Opens   []Opening     `json:"opens"`
	// Newly is what a yes newly allows, one for each of Digests or none.
	Newly []Combination `json:"newly,omitempty"`
	// Excluded may not answer, whatever their roles: the requester and the
	// caller, whom they act for, and the authors of what it opens.
	Excluded []Person  `json:"excluded"`
	OpenedAt time.Time `json:"opened_at"`
	DecideBy time.Time `json:"decide_by"`
	// GrantFor and Uses are what a yes mints.
	GrantFor time.Duration `json:"grant_for"`
	Uses     int           `json:"uses,omitempty"`
	// Extends is the case whose grant this one would prolong.
	Extends string `json:"extends,omitempty"`
	// Change is the change of policy that it is about; nil: it is none.
	Change *Change `json:"change,omitempty"`
	// Shown is the digest of what approvers see ([Card.Digest]).
	Shown string `json:"shown"`

	// Version grows with every change.
	Version int    `json:"version"`
	Votes   []Vote `json:"votes"`
	// Reached is how long the case had waited when its steps were looked at
	// last. Due is when it must be looked at next; zero: never.
	Reached time.Duration `json:"reached,omitempty"`
	Due     time.Time     `json:"due,omitzero"`

	SettledAt time.Time `json:"settled_at,omitzero"`
	// Cause says in one word why it ended so: "votes", "time", "requester",
	// "rule_changed", "template_changed", "asked_anew", "outdated".
	Cause    string    `json:"cause,omitempty"`
	Grant    string    `json:"grant,omitempty"` // that was minted
	GrantEnd time.Time `json:"grant_end,omitzero"`
	Yield    Yield     `json:"yield,omitempty"`
	// BreakGlass names the template of an emergency. Halves are yes that are to
	// be confirmed; ReviewBy is when somebody must have looked back, and Overdue
	// says that nobody has.
	BreakGlass string    `json:"break_glass,omitempty"`
	Halves     []Half    `json:"halves,omitempty"`
	ReviewBy   time.Time `json:"review_by,omitzero"`
	Reviewed   *Review   `json:"reviewed,omitempty"`
	Overdue    bool      `json:"overdue,omitempty"`
	// Delegated are places of reviewers that were handed on.
	Delegated []Delegation `json:"delegated,omitempty"`
	// Places are where it is shown.
	Places []Place `json:"places,omitempty"`
}

// Opening is one rule that a yes opens, and by which template.
type Opening struct {
	authz.RuleRef
	Effect         authz.Effect `json:"effect"` // REVIEW is satisfied, DENY is waived
	Message        Text         `json:"message"`
	Template       string       `json:"template"`
	TemplateDigest string       `json:"template_digest"`
}

// Vote is one answer as it was given, and kept for ever.
type Vote struct {
	Voter  Person    `json:"voter"` // the verified subject
	Yes    bool      `json:"yes"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	// Channel is where it was given: "api", "feishu", "matrix", "webhook".
	// Platform names the person and Message the message there.
	Channel  string `json:"channel"`
	Platform string `json:"platform,omitempty"`
	Message  string `json:"message,omitempty"`
	// Shown is the digest of what the voter saw.
	Shown string `json:"shown"`
}

// answers are the newest votes of each voter that were given on what is shown
// now: a vote on anything else counts for nothing.
func (c *Case) answers() []Answer {
	var all []Answer
	seen := map[Person]bool{}
	for i := len(c.Votes) - 1; i >= 0; i-- {
		v := &c.Votes[i]
		if seen[v.Voter] {
			continue
		}
		seen[v.Voter] = true
		if v.Shown == c.Shown {
			all = append(all, Answer{v.Voter, v.Yes})
		}
	}
	return all
}

// End settles the case, once.
func (c *Case) End(to State, cause string, at time.Time) error {
	if err := move(moves, &c.State, to); err != nil {
		return err
	}
	c.SettledAt, c.Cause, c.Due = at, cause, time.Time{}
	return nil
}

// minted notes the grant of an approved case.
func (c *Case) minted(g *authz.Grant) error {
	if c.State != Approved {
		return ErrSettled
	}
	if err := move(yields, &c.Yield, Live); err != nil {
		return err
	}
	c.Grant, c.GrantEnd = g.ID, g.Validity.End
	c.Due = c.after()
	return nil
}

// lookAtGrant notes that the grant ended otherwise than by time and through
// the case: its last use was taken, or somebody else ended it.
func (c *Case) lookAtGrant(tx Tx, now time.Time) error {
	if c.Yield != Live {
		return nil
	}
	is, why, err := tx.Grant(c.Grant)
	if err != nil {
		return fmt.Errorf("case %s: what became of its grant: %w", c.ID, err)
	}
	action := "grant.end"
	switch is {
	case Live:
		return nil
	case UsedUp:
		action = "grant.used_up"
	}
	if err := c.EndGrant(is); err != nil {
		return err
	}
	return tx.Note(c, Event{At: now, Action: action, Detail: why})
}

// EndGrant notes how the grant ended.
func (c *Case) EndGrant(how Yield) error {
	if err := move(yields, &c.Yield, how); err != nil {
		return err
	}
	c.Due = c.after()
	return nil
}
