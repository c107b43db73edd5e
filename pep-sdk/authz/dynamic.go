package authz

import (
	"strings"
	"time"
)

// RuleRef names one rule by policy and id, "platform/network/public_ip", and
// by the digest it had when it was named: a rule that changes is no longer
// the rule that was named (docs/semantics.md).
type RuleRef struct {
	Rule   string `json:"rule"`
	Digest string `json:"digest"`
}

// Validity is a half-open interval of time: Start counts, End does not.
type Validity struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Contains reports whether now lies in the interval.
func (v Validity) Contains(now time.Time) bool {
	return !now.Before(v.Start) && now.Before(v.End)
}

// counts reports whether what was made at created may count at now. What began
// no later than it was made has begun wherever it is known, also where the
// clock is a little behind the one that it was made by.
func (v Validity) counts(created, now time.Time) bool {
	return now.Before(v.End) && (!now.Before(v.Start) || !created.Before(v.Start))
}

// Grant satisfies REVIEW rules or waives waivable DENY rules that it names, for
// the requests whose digests it lists, for a time, and for a number of uses
// (X10). It opens nothing else.
type Grant struct {
	ID        string    `json:"id"`
	Tenant    string    `json:"tenant"`
	Satisfies []RuleRef `json:"satisfies"`
	Waives    []RuleRef `json:"waives"`
	// Requests are the digests of the requests it is bound to.
	Requests []string `json:"requests"`
	// Request is the request that was asked for, masked, for people to read.
	Request   Request   `json:"request"`
	Validity  Validity  `json:"validity"`
	Uses      int       `json:"uses,omitempty"` // 0: not counted
	Reason    string    `json:"reason"`
	Source    string    `json:"source"` // "manual:<caller>", or the case that minted it
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	// BreakGlass marks what was opened in an emergency, in every decision and
	// record that rests on it.
	BreakGlass bool `json:"break_glass,omitempty"`
	// Ended is set once, when it was revoked or a named rule changed; an ended
	// grant never counts again.
	Ended       *time.Time `json:"ended,omitempty"`
	EndedReason string     `json:"ended_reason,omitempty"`
}

// SourceApproval begins the Source of a grant that a case minted.
const SourceApproval = "approval:"

// Case returns the id of the case that minted the grant, if one did.
func (g *Grant) Case() (id string, ok bool) { return strings.CutPrefix(g.Source, SourceApproval) }

// Live reports whether the grant may count at now, uses aside.
func (g *Grant) Live(now time.Time) bool {
	return g.Ended == nil && g.Validity.counts(g.CreatedAt, now)
}

// Restriction is a dynamic policy that only closes: DENY or REVIEW rules with
// CEL conditions, in one tenant, for a time.
type Restriction struct {
	ID     string `json:"id"`
	Tenant string `json:"tenant"`
	// Platform says that the platform made it: the tenant does not lift it.
	Platform    bool              `json:"platform,omitempty"`
	Rules       []RestrictionRule `json:"rules"`
	Validity    Validity          `json:"validity"`
	Reason      string            `json:"reason"`
	Source      string            `json:"source"`
	CreatedBy   string            `json:"created_by"`
	CreatedAt   time.Time         `json:"created_at"`
	Ended       *time.Time        `json:"ended,omitempty"`
	EndedReason string            `json:"ended_reason,omitempty"`
}

// Live reports whether the restriction counts at now.
func (r *Restriction) Live(now time.Time) bool {
	return r.Ended == nil && r.Validity.counts(r.CreatedAt, now)
}

// RestrictionRule is one rule of a [Restriction]. Effect is DENY or REVIEW.
type RestrictionRule struct {
	ID        string `json:"id,omitempty"` // default rule_1, rule_2, …
	Condition string `json:"condition"`
	Effect    Effect `json:"effect"`
	Message   string `json:"message,omitempty"`
	MessageZH string `json:"message_zh,omitempty"`
}
