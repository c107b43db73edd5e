package stream

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// refuse answers with a problem (RFC 9457).
func (h *Hub) refuse(w http.ResponseWriter, who *visitor, err error) {
	h.refused(who, err)
	status, title, wait := http.StatusBadRequest, "malformed", ""
	switch {
	case errors.Is(err, access.ErrUnauthenticated):
		status, title = http.StatusUnauthorized, "unauthenticated"
		w.Header().Set("WWW-Authenticate", "Bearer")
	case errors.Is(err, pap.ErrForbidden):
		status, title = http.StatusForbidden, "forbidden"
	case errors.Is(err, errFull):
		status, title, wait = http.StatusServiceUnavailable, "too_many_connections", "5" // another node may have room
	case errors.Is(err, errOften):
		status, title, wait = http.StatusTooManyRequests, "too_many_messages", "60"
	case errors.Is(err, errPEP), errors.Is(err, wire.ErrFrame):
	default:
		status, title, wait = http.StatusServiceUnavailable, "unavailable", "1"
	}
	if wait != "" {
		w.Header().Set("Retry-After", wait)
	}
	body, err := json.Marshal(map[string]any{"type": "about:blank", "title": title, "status": status, "detail": err.Error()})
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller may be gone
}

// refused counts who was not let in, and has it written down where the
// credential, its rights or the protocol were at fault.
func (h *Hub) refused(who *visitor, err error) {
	h.stats.refused.Add(1)
	atFault := errors.Is(err, access.ErrUnauthenticated) || errors.Is(err, pap.ErrForbidden) ||
		errors.Is(err, errPEP) || errors.Is(err, wire.ErrFrame) || errors.Is(err, websocket.ErrMessageTooBig)
	if !atFault || h.config.Refused == nil {
		return
	}
	h.audit(h.refusals.note(who, err, h.config.Now()))
}

// audit writes refusals down, each with how many it stands for.
func (h *Hub) audit(all []refusal) {
	for i := range all {
		r := &all[i]
		tenant := r.who.caller.Tenant
		if r.tenant != "" {
			tenant = r.tenant
		}
		count, _ := authz.IntValue(int64(r.count)) // it is small
		operation := "pepStream"
		if r.who.kind == "poll" {
			operation = "pepPoll"
		}
		body, _ := authz.ObjectValue( // the names differ
			authz.Member{Name: "operation", Value: authz.StringValue(operation)},
			authz.Member{Name: "tenant", Value: authz.StringValue(tenant)},
			authz.Member{Name: "token", Value: authz.StringValue(r.who.caller.TokenID)},
			authz.Member{Name: "address", Value: authz.StringValue(r.who.host())},
			authz.Member{Name: "count", Value: count},
			authz.Member{Name: "since", Value: authz.StringValue(r.since.UTC().Format(time.RFC3339Nano))},
			authz.Member{Name: "why", Value: authz.StringValue(r.why)},
		)
		record := authz.AuditRecord{
			ID: h.config.NewID(), Time: r.at.UTC(), Kind: authz.AuditAccess, Tenant: r.who.caller.Tenant,
			Action: Right, Resource: "operation:" + operation, Effect: authz.Deny.String(), Body: body,
		}
		if r.who.caller.ID != "" {
			record.Actor = r.who.caller.Name()
		}
		h.config.Refused(&record)
	}
}

const (
	// refusedEvery is how often refusals of one credential, or of one address
	// without a good one, are written down.
	refusedEvery = time.Minute
	// maxRefused bounds the credentials and addresses that are told apart.
	maxRefused = 1024
)

// refusal is what was refused to one credential or address and is not yet
// written down, the newest of it in detail.
type refusal struct {
	who       visitor
	tenant    string // whose right was missing
	why       string
	count     int
	since, at time.Time // of the first and of the newest
	until     time.Time // nothing is written before
}

// refusals are what is kept so that nobody fills the audit by being refused:
// the first is written at once, those of the minute after it as one.
type refusals struct {
	mu sync.Mutex
	of map[string]*refusal
}

// host is the visitor's address without the port.
func (v *visitor) host() string {
	host, _, err := net.SplitHostPort(v.address)
	if err != nil {
		return v.address
	}
	return host
}

// note takes one refusal, and returns what is to be written.
func (r *refusals) note(who *visitor, err error, now time.Time) []refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := "address " + who.host()
	if who.caller.TokenID != "" {
		key = "credential " + who.caller.TokenID
	}
	if r.of == nil {
		r.of = map[string]*refusal{}
	}
	if r.of[key] == nil && len(r.of) >= maxRefused {
		key, who = "", &visitor{address: "others", kind: who.kind} // as one
	}
	kept := r.of[key]
	if kept == nil {
		kept = &refusal{}
		r.of[key] = kept
	}
	if kept.count++; kept.count == 1 {
		kept.since = now
	}
	kept.who, kept.at, kept.tenant = *who, now, ""
	kept.why = strings.ReplaceAll(wire.ClipReason(err.Error()), "\x00", "\uFFFD")
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		kept.tenant = denied.Tenant
	}
	return kept.written(nil, now)
}

// written adds the refusal to those that are written if it is its time.
func (r *refusal) written(all []refusal, now time.Time) []refusal {
	if r.count == 0 || now.Before(r.until) {
		return all
	}
	all = append(all, *r)
	r.count, r.until = 0, now.Add(refusedEvery)
	return all
}

// due returns what is to be written by now, and forgets who has been quiet.
func (r *refusals) due(now time.Time) (all []refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, kept := range r.of {
		if kept.count == 0 && !now.Before(kept.until) {
			delete(r.of, key)
		}
		all = kept.written(all, now)
	}
	return all
}

// rest returns all that is not written, when there will be no other time.
func (r *refusals) rest() (all []refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, kept := range r.of {
		kept.until = time.Time{}
		all = kept.written(all, kept.at)
	}
	return all
}
