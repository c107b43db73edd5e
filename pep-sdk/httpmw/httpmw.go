// Package httpmw puts a policy enforcement point before net/http handlers:
//
//	table, err := httpmw.NewTable(identity, map[string]httpmw.Rule{
//		"POST /orders":      {Action: "order.create", Type: "order"},
//		"GET /orders/{id}": {Action: "order.read", Type: "order", ID: "id"},
//	})
//	guard := httpmw.New(p, table.Map, log)
//	http.ListenAndServe(addr, guard(mux))
//
// A handler behind it runs only where the decision is ALLOW and everything it
// asks for was met. All else is answered with a problem document (RFC 9457):
// 403 for DENY, REVIEW and calls that are mapped to no request, 429 for a
// spent limit, 503 where there is no decision.
//
// Nothing that a client says is taken for who it is: the identity comes from
// the service's own authentication, such as [Certificate].
package httpmw

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Guard enforces decisions: a [*pep.PEP].
type Guard interface {
	Guard(ctx context.Context, req authz.Request, do func(context.Context) error) error
}

// Mapper says what a call asks to do. An error or a panic refuses the call.
type Mapper func(r *http.Request) (authz.Request, error)

// New returns the middleware. A handler finds the decision in its request's
// context ([pep.DecisionFrom]). Log takes why calls were refused; nil: nobody.
func New(guard Guard, mapper Mapper, log *slog.Logger) func(http.Handler) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req, err := mapped(mapper, r, log)
			if err == nil {
				err = guard.Guard(r.Context(), req, func(ctx context.Context) error {
					next.ServeHTTP(w, r.WithContext(ctx))
					return nil
				})
			}
			if err == nil {
				return
			}
			refusal := pep.RefusalOf(err)
			log.InfoContext(r.Context(), "a call is refused", "method", r.Method, "path", r.URL.Path,
				"code", refusal.Code, "decision_id", refusal.DecisionID, "error", err)
			Write(w, refusal)
		})
	}
}

// mapped keeps a panic of the mapper to this call, and refuses it.
func mapped(mapper Mapper, r *http.Request, log *slog.Logger) (req authz.Request, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(r.Context(), "a mapper panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: the mapper panicked: %v", pep.ErrUnmapped, p)
		}
	}()
	if req, err = mapper(r); err != nil {
		return authz.Request{}, fmt.Errorf("%w: %w", pep.ErrUnmapped, err)
	}
	return req, nil
}

// Write answers with a refusal, as the middleware does.
func Write(w http.ResponseWriter, refusal pep.Refusal) {
	data, err := json.Marshal(refusal)
	if err != nil { // strings, numbers and a time of ours: it cannot be
		data = []byte(`{"type":"about:blank","title":"Forbidden","status":403}`)
		refusal.Status = http.StatusForbidden
	}
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if refusal.Status == http.StatusServiceUnavailable || refusal.Status == http.StatusTooManyRequests {
		header.Set("Retry-After", "1")
	}
	w.WriteHeader(refusal.Status)
	_, _ = w.Write(data) // whom to tell, if the client is gone
}
