package pep

import (
	"context"
	"errors"
	"net/http"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ErrUnmapped means that a middleware could not make a request of ours of a
// call: it is refused, for nobody said what it does.
var ErrUnmapped = errors.New("this call is not mapped to a request")

// Refusal is what a service tells its own caller of an error of [PEP.Guard]:
// an RFC 9457 problem document, and what gRPC answers are made of. It holds
// what concerns the caller; causes of failures are for the service's log.
type Refusal struct {
	Type    string `json:"type"` // urn:xiezhi:problem: and the code
	Title   string `json:"title"`
	TitleZH string `json:"title_zh"`
	Status  int    `json:"status"` // of HTTP
	Code    string `json:"code"`
	Detail  string `json:"detail,omitempty"`

	DecisionID string          `json:"decision_id,omitempty"`
	Revision   string          `json:"revision,omitempty"`
	Stale      bool            `json:"stale,omitempty"`
	Reasons    []RefusalReason `json:"reasons,omitempty"`
	Approval   *authz.Approval `json:"approval,omitempty"`
}

// RefusalReason is a reason as the caller of a service may see it: without
// where in the policies it stands and what failed there.
type RefusalReason struct {
	Policy    string       `json:"policy"`
	Rule      string       `json:"rule"`
	Effect    authz.Effect `json:"effect"`
	Message   string       `json:"message"`
	MessageZH string       `json:"message_zh,omitempty"`
	Path      string       `json:"path,omitempty"`
}

// Codes of refusals.
const (
	CodeDenied      = "denied"
	CodeReview      = "review"      // people may allow it; Approval says where, once it was asked for
	CodeUnmet       = "unmet"       // allowed, but this service cannot do what the decision asks for
	CodeLimited     = "limited"     // allowed, but a limit is spent
	CodeUnmapped    = "unmapped"    // the call is not one that can be asked about
	CodeUnavailable = "unavailable" // there is no decision
	CodeCanceled    = "canceled"    // the caller gave up, or its time was over
	problemPrefix   = "urn:xiezhi:problem:"
)

// RefusalOf translates an error of [PEP.Guard], of a mapper, or nil: whatever
// it does not know is unavailable.
func RefusalOf(err error) Refusal {
	var denied *DeniedError
	var field *authz.FieldError
	switch {
	case errors.As(err, &denied):
		return denied.refusal()
	case errors.Is(err, ErrUnmapped), errors.As(err, &field):
		return newRefusal(http.StatusForbidden, CodeUnmapped, "This call is not one that can be decided", "无法对此调用作出决定")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return newRefusal(http.StatusServiceUnavailable, CodeCanceled, "There was no decision in time", "未能及时作出决定")
	default:
		return newRefusal(http.StatusServiceUnavailable, CodeUnavailable, "There is no decision now", "目前无法作出决定")
	}
}

func newRefusal(status int, code, title, titleZH string) Refusal {
	return Refusal{Type: problemPrefix + code, Title: title, TitleZH: titleZH, Status: status, Code: code}
}

func (e *DeniedError) refusal() Refusal {
	var r Refusal
	switch {
	case errors.Is(e.Err, ErrLimited):
		r = newRefusal(http.StatusTooManyRequests, CodeLimited, "A limit is spent", "已达到限额")
	case e.Err != nil:
		r = newRefusal(http.StatusForbidden, CodeUnmet, "The service cannot do what this decision asks for", "服务无法履行该决定的要求")
		if e.Obligation != "" {
			r.Detail = "obligation " + e.Obligation
		}
	case e.Answer.Effect == authz.Review:
		r = newRefusal(http.StatusForbidden, CodeReview, "This needs approval", "此操作需要审批")
		r.Approval = e.Answer.Approval
	default:
		r = newRefusal(http.StatusForbidden, CodeDenied, "This is not allowed", "不允许此操作")
	}
	r.DecisionID, r.Revision, r.Stale = e.Answer.ID, e.Answer.Revision.String(), e.Answer.Stale
	for _, reason := range e.Answer.Reasons {
		if reason.Effect != authz.Allow && reason.Grant == "" {
			r.Reasons = append(r.Reasons, RefusalReason{
				reason.Policy, reason.Rule, reason.Effect, reason.Message, reason.MessageZH, reason.Path,
			})
		}
	}
	return r
}
