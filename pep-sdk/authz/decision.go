package authz

import (
	"encoding/json"
	"time"
)

// Decision is the combined answer to a [Request]. The zero Decision denies.
// It owns its memory: nothing in it is reused by a later decision.
type Decision struct {
	ID          string
	Effect      Effect
	Revision    Revision
	Stale       bool // decided from a cache past its source's last word
	Reasons     []Reason
	Obligations []Obligation
	Limits      []Limit
	Route       *Route
	Approval    *Approval
	Permit      *string
}

// Allowed reports whether the effect is ALLOW. A PEP that does not know
// REVIEW asks only this, and stays shut.
func (d *Decision) Allowed() bool { return d.Effect == Allow }

// Cause says why the decision core itself speaks, in [Reason.Rule].
const (
	RuleNoAllow            = "no_allow"            // nothing allows, and no review could open
	RuleEvaluationError    = "evaluation_error"    // a policy that applies could not be evaluated
	RuleObligationConflict = "obligation_conflict" // one obligation with two sets of parameters
	RuleRouteConflict      = "route_conflict"      // two different routes
)

// Reason is one finding as the answer shows it.
type Reason struct {
	Policy    string `json:"policy"` // "platform/network"; empty where the decision core speaks
	Rule      string `json:"rule"`
	Effect    Effect `json:"effect"`
	Message   string `json:"message"`
	MessageZH string `json:"message_zh,omitempty"`
	// Path is the JSON pointer of the request member that the rule names.
	Path     string `json:"path,omitempty"`
	Severity string `json:"severity,omitempty"`
	// Grant is the id of the grant that satisfied this REVIEW or waived this
	// DENY; such a reason does not close the door any more.
	Grant string `json:"grant,omitempty"`
	// Cause and Location explain an evaluation_error: what failed, and
	// file:line of the policy. FailedRule is the rule's id where it is known.
	Cause      string `json:"cause,omitempty"`
	Location   string `json:"location,omitempty"`
	FailedRule string `json:"failed_rule,omitempty"`
}

// Obligation is something the PEP must do (Must) or should do when it
// enforces the decision. A PEP that does not know an obligation it must meet
// denies.
type Obligation struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	ID     string `json:"id"`
	Must   bool   `json:"must"`
	Params Value  `json:"params"`
}

// Limit bounds how often, or how much of, the allowed action may happen (T2).
// Every limit in an answer holds; they are counted per Key.
type Limit struct {
	Policy string  `json:"policy"`
	Rule   string  `json:"rule"`
	Key    string  `json:"key"`
	Rate   float64 `json:"rate,omitempty"`   // cost units a second
	Burst  int64   `json:"burst,omitempty"`  // cost units at once
	Window string  `json:"window,omitempty"` // a Go duration, of the quota
	Quota  *Quota  `json:"quota,omitempty"`
	Cost   int64   `json:"cost,omitempty"` // cost units of this request
}

// Quota is an amount per period; Reset names the period (hour, day, month).
type Quota struct {
	Max   int64  `json:"max"`
	Reset string `json:"reset"`
}

// Route is the instance pool that must serve the request (T4).
type Route struct {
	Policy  string `json:"policy"`
	Rule    string `json:"rule"`
	Pool    string `json:"pool"`
	Standby string `json:"standby,omitempty"`
}

// Approval is the case that a REVIEW opened or joined.
type Approval struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	ExpiresAt time.Time `json:"expires_at"`
}

// MarshalJSON writes the answer of POST /api/v1/decide.
func (d Decision) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID          string       `json:"decision_id"`
		Effect      Effect       `json:"effect"`
		Decision    bool         `json:"decision"`
		Revision    Revision     `json:"revision"`
		Stale       bool         `json:"stale"`
		Reasons     []Reason     `json:"reasons"`
		Obligations []Obligation `json:"obligations"`
		Limits      []Limit      `json:"limits"`
		Route       *Route       `json:"route"`
		Approval    *Approval    `json:"approval"`
		Permit      *string      `json:"permit"`
	}{d.ID, d.Effect, d.Allowed(), d.Revision, d.Stale, notNil(d.Reasons), notNil(d.Obligations), notNil(d.Limits), d.Route, d.Approval, d.Permit})
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
