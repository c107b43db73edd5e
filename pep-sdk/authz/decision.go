package authz

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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
func (d Decision) Allowed() bool { return d.Effect == Allow }

// Cause says why the decision core itself speaks, in [Reason.Rule].
const (
	RuleNoAllow            = "no_allow"            // nothing allows, and no review could open
	RuleEvaluationError    = "evaluation_error"    // a policy that applies could not be evaluated
	RuleObligationConflict = "obligation_conflict" // one obligation with two sets of parameters
	RuleRouteConflict      = "route_conflict"      // two different routes
	RuleStaleBound         = "stale_bound"         // the source of policies was not heard for too long
	RuleTooManyCases       = "too_many_cases"      // a review was needed, and who asks has asked too much
)

// ReservedRule reports whether the decision core speaks under this id: no
// policy may have a rule of that name.
func ReservedRule(id string) bool {
	switch id {
	case RuleNoAllow, RuleEvaluationError, RuleObligationConflict, RuleRouteConflict, RuleStaleBound, RuleTooManyCases:
		return true
	}
	return false
}

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

// Approval is the case that a REVIEW opened or joined, or the one whose grant
// an ALLOW rests on.
type Approval struct {
	ID     string `json:"id"`
	Status string `json:"status"` // one of the Approval… constants
	// ExpiresAt is when the case must be decided; of an approved one when its
	// grant ends.
	ExpiresAt time.Time `json:"expires_at"`
	// BreakGlass marks what was opened in an emergency.
	BreakGlass bool `json:"break_glass,omitempty"`
}

// Statuses of an [Approval].
const (
	ApprovalPending   = "PENDING"
	ApprovalApproved  = "APPROVED"
	ApprovalRejected  = "REJECTED"
	ApprovalExpired   = "EXPIRED"
	ApprovalCancelled = "CANCELLED"
)

// AppendJSON appends the answer of POST /api/v1/decide. It never fails: text
// that is not valid UTF-8 is repaired with U+FFFD, and a rate that JSON cannot
// write is written as the smallest there is.
func (d *Decision) AppendJSON(buf []byte) []byte {
	buf = slices.Grow(buf, 256+256*(len(d.Reasons)+len(d.Obligations)+len(d.Limits)))
	buf = appendText(append(buf, `{"decision_id":`...), d.ID)
	buf = append(append(buf, `,"effect":"`...), d.Effect.String()...)
	buf = strconv.AppendBool(append(buf, `","decision":`...), d.Allowed())
	buf = d.Revision.append(append(buf, `,"revision":"`...))
	buf = strconv.AppendBool(append(buf, `","stale":`...), d.Stale)
	buf = append(buf, `,"reasons":[`...)
	for i := range d.Reasons {
		buf = d.Reasons[i].appendJSON(separate(buf, i))
	}
	buf = append(buf, `],"obligations":[`...)
	for i := range d.Obligations {
		buf = d.Obligations[i].appendJSON(separate(buf, i))
	}
	buf = append(buf, `],"limits":[`...)
	for i := range d.Limits {
		buf = d.Limits[i].appendJSON(separate(buf, i))
	}
	buf = append(buf, `],"route":`...)
	buf = d.Route.appendJSON(buf)
	buf = append(buf, `,"approval":`...)
	buf = d.Approval.appendJSON(buf)
	buf = append(buf, `,"permit":`...)
	if d.Permit == nil {
		return append(buf, `null}`...)
	}
	return append(appendText(buf, *d.Permit), '}')
}

// MarshalJSON implements json.Marshaler.
func (d Decision) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

func (r *Reason) appendJSON(buf []byte) []byte {
	buf = appendText(append(buf, `{"policy":`...), r.Policy)
	buf = appendText(append(buf, `,"rule":`...), r.Rule)
	buf = append(append(buf, `,"effect":"`...), r.Effect.String()...)
	buf = appendText(append(buf, `","message":`...), r.Message)
	buf = appendOptional(buf, `,"message_zh":`, r.MessageZH)
	buf = appendOptional(buf, `,"path":`, r.Path)
	buf = appendOptional(buf, `,"severity":`, r.Severity)
	buf = appendOptional(buf, `,"grant":`, r.Grant)
	buf = appendOptional(buf, `,"cause":`, r.Cause)
	buf = appendOptional(buf, `,"location":`, r.Location)
	return append(appendOptional(buf, `,"failed_rule":`, r.FailedRule), '}')
}

func (o *Obligation) appendJSON(buf []byte) []byte {
	buf = appendText(append(buf, `{"policy":`...), o.Policy)
	buf = appendText(append(buf, `,"rule":`...), o.Rule)
	buf = appendText(append(buf, `,"id":`...), o.ID)
	buf = strconv.AppendBool(append(buf, `,"must":`...), o.Must)
	return append(o.Params.AppendJSON(append(buf, `,"params":`...)), '}')
}

func (l *Limit) appendJSON(buf []byte) []byte {
	buf = appendText(append(buf, `{"policy":`...), l.Policy)
	buf = appendText(append(buf, `,"rule":`...), l.Rule)
	buf = appendText(append(buf, `,"key":`...), l.Key)
	if l.Rate != 0 {
		rate := l.Rate
		if math.IsNaN(rate) || math.IsInf(rate, 0) {
			rate = math.SmallestNonzeroFloat64
		}
		buf = appendFloat(append(buf, `,"rate":`...), rate)
	}
	buf = appendCount(buf, `,"burst":`, l.Burst)
	buf = appendOptional(buf, `,"window":`, l.Window)
	if l.Quota != nil {
		buf = strconv.AppendInt(append(buf, `,"quota":{"max":`...), l.Quota.Max, 10)
		buf = append(appendText(append(buf, `,"reset":`...), l.Quota.Reset), '}')
	}
	return append(appendCount(buf, `,"cost":`, l.Cost), '}')
}

func (r *Route) appendJSON(buf []byte) []byte {
	if r == nil {
		return append(buf, `null`...)
	}
	buf = appendText(append(buf, `{"policy":`...), r.Policy)
	buf = appendText(append(buf, `,"rule":`...), r.Rule)
	buf = appendText(append(buf, `,"pool":`...), r.Pool)
	return append(appendOptional(buf, `,"standby":`, r.Standby), '}')
}

func (a *Approval) appendJSON(buf []byte) []byte {
	if a == nil {
		return append(buf, `null`...)
	}
	buf = appendText(append(buf, `{"id":`...), a.ID)
	buf = appendText(append(buf, `,"status":`...), a.Status)
	buf = a.ExpiresAt.AppendFormat(append(buf, `,"expires_at":"`...), time.RFC3339Nano)
	buf = append(buf, '"')
	if a.BreakGlass {
		buf = append(buf, `,"break_glass":true`...)
	}
	return append(buf, '}')
}

func separate(buf []byte, i int) []byte {
	if i > 0 {
		return append(buf, ',')
	}
	return buf
}

// appendText looks once at text that needs neither escapes nor repair.
func appendText(buf []byte, text string) []byte {
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c < utf8.RuneSelf && ordinary[c]:
			i++
		case c > 0xe0 && c != 0xed && c < 0xf0 && i+2 < len(text) && text[i+1]&0xc0 == 0x80 && text[i+2]&0xc0 == 0x80: // as Chinese is
			i += 3
		case !utf8.ValidString(text[i:]):
			return AppendQuoted(buf, strings.ToValidUTF8(text, "\uFFFD"))
		default:
			return AppendQuoted(buf, text)
		}
	}
	return append(append(append(buf, '"'), text...), '"')
}

func appendOptional(buf []byte, name, text string) []byte {
	if text == "" {
		return buf
	}
	return appendText(append(buf, name...), text)
}

func appendCount(buf []byte, name string, n int64) []byte {
	if n == 0 {
		return buf
	}
	return strconv.AppendInt(append(buf, name...), n, 10)
}
