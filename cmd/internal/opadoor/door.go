package opadoor

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Rights that callers need.
const (
	rightSubscribe = "stream.subscribe"
	rightShip      = "audit.ship"
)

// Guard says who calls and what the caller may do.
type Guard interface {
	access.Authenticator
	// Allow returns nil where the caller has the right in the tenant
	// ([pap.Platform] for the platform).
	Allow(ctx context.Context, c access.Caller, right, tenant string) error
}

// Config is what a Door is handed. All but Refused is required.
type Config struct {
	Guard Guard
	PDP   *pdp.PDP // whose active policies say what to mask
	// Content reads the files of an earlier release.
	Content func(ctx context.Context, release uint64) (*bundles.Content, error)
	// Signer returns the key that signs bundles for stock agents now, an ECDSA
	// key on P-256, and its id.
	Signer func(now time.Time) (crypto.Signer, string, error)
	// Insert keeps audit records; those with an id it holds are skipped.
	Insert func(ctx context.Context, records []authz.AuditRecord) error
	// Report keeps what is known of an agent. It returns when that is kept.
	Report func(ctx context.Context, pep pap.PEP) error
	// Refused is told of calls that a caller had no right to; nil: nobody.
	Refused func(record *authz.AuditRecord)
	Node    string // this node's name
	Now     func() time.Time
	NewID   func() string
	Log     *slog.Logger
}

// Door answers stock agents. Create it with [New]; it builds nothing before
// [Door.Run]. It is safe for concurrent use.
type Door struct {
	config  Config
	handler http.Handler
	work    chan struct{} // holds one value while there is something to build
	uploads chan struct{} // a place for each upload that is read at once

	mu      sync.Mutex
	shares  map[string]*share // places by the caller's tenant
	waiting int               // for a place
	closed  chan struct{}     // when Run ends
	head    head
	entries map[string]*entry
	now     *generation // what is built from; the builder's own
}

// head is what the store is known to hold.
type head struct {
	release uint64
	content *bundles.Content
	rollout *pap.Rollout
}

// target is the release that stock agents are given, 0 for none.
func (h *head) target() uint64 { return h.rollout.NodeTarget(h.release) }

// New returns a Door.
func New(config Config) *Door {
	d := &Door{
		config: config, work: make(chan struct{}, 1), uploads: make(chan struct{}, maxUploads),
		shares: map[string]*share{}, closed: make(chan struct{}), entries: map[string]*entry{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /bundles/{name}", d.serve("opaBundle", d.bundle))
	for _, path := range []string{"/logs", "/logs/{partition...}"} {
		mux.HandleFunc("POST "+path, d.serve("opaLogs", d.logs))
	}
	for _, path := range []string{"/status", "/status/{partition...}"} {
		mux.HandleFunc("POST "+path, d.serve("opaStatus", d.status))
	}
	d.handler = mux
	return d
}

// Handler serves the paths of this package and answers 404 to any other.
func (d *Door) Handler() http.Handler { return d.handler }

// call is one authenticated call.
type call struct {
	w         http.ResponseWriter
	r         *http.Request
	caller    access.Caller
	operation string
}

// serve authenticates and turns an error into a problem document.
func (d *Door) serve(operation string, handle func(c *call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		c := &call{w: w, r: r, operation: operation}
		var err error
		if c.caller, err = access.OfRequest(d.config.Guard, r); err == nil {
			err = handle(c)
		}
		if err != nil && r.Context().Err() == nil {
			d.fail(c, err)
		}
	}
}

// Update is told of every successful read of the store, in order.
func (d *Door) Update(u feed.Update) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u.Content != nil {
		d.head.release, d.head.content = u.Head.Release, u.Content
	}
	for _, r := range u.Records {
		if r.Kind != pap.KindRollout {
			continue
		}
		var rollout pap.Rollout
		if err := json.Unmarshal(r.Body, &rollout); err != nil {
			d.config.Log.Error("a rollout cannot be read; stock agents keep the release they have", "position", r.Position, "error", err)
			continue
		}
		d.head.rollout = &rollout
	}
	d.wake()
}

// wake tells the builder to look again.
func (d *Door) wake() {
	select {
	case d.work <- struct{}{}:
	default:
	}
}

// statusError is a refusal that has a status of its own.
type statusError struct {
	status int
	code   string
	detail string
}

func (e *statusError) Error() string { return e.detail }

func refuse(status int, code, detail string) error { return &statusError{status, code, detail} }

// problem is an RFC 9457 problem document.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

func (d *Door) fail(c *call, err error) {
	p := problem{Status: http.StatusInternalServerError, Code: "internal"}
	var known *statusError
	switch {
	case errors.As(err, &known):
		p.Status, p.Code, p.Detail = known.status, known.code, known.detail
	case errors.Is(err, access.ErrUnauthenticated):
		p.Status, p.Code, p.Detail = http.StatusUnauthorized, "unauthenticated", err.Error()
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="xiezhi"`)
	case errors.Is(err, pap.ErrForbidden):
		p.Status, p.Code, p.Detail = http.StatusForbidden, "forbidden", err.Error()
		d.auditRefusal(c, err)
	case errors.Is(err, access.ErrUnavailable), errors.Is(err, pap.ErrStoreUnavailable), errors.Is(err, pdp.ErrNotReady), errors.Is(err, context.DeadlineExceeded):
		p.Status, p.Code = http.StatusServiceUnavailable, "unavailable"
	}
	if p.Status >= http.StatusInternalServerError {
		level := slog.LevelError
		if errors.Is(err, errCrowded) {
			level = slog.LevelInfo // a full house is no fault, and comes by the hundred
		}
		d.config.Log.Log(c.r.Context(), level, "a call of a stock agent failed", "operation", c.operation, "caller", c.caller.Name(), "error", err)
		if p.Status == http.StatusServiceUnavailable {
			c.w.Header().Set("Retry-After", "1")
		}
	}
	p.Type, p.Title = "urn:xiezhi:problem:"+p.Code, http.StatusText(p.Status)
	text, _ := json.Marshal(p) // texts and a number: it cannot fail
	c.w.Header().Set("Content-Type", "application/problem+json")
	c.w.WriteHeader(p.Status)
	_, _ = c.w.Write(text) // the client may be gone
}

func (d *Door) auditRefusal(c *call, err error) {
	if d.config.Refused == nil {
		return
	}
	right, tenant := rightSubscribe, c.caller.Tenant
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		right, tenant = denied.Right, denied.Tenant
	}
	body, _ := authz.ObjectValue( // the names differ
		authz.Member{Name: "operation", Value: authz.StringValue(c.operation)},
		authz.Member{Name: "tenant", Value: authz.StringValue(tenant)},
		authz.Member{Name: "token", Value: authz.StringValue(c.caller.TokenID)},
		authz.Member{Name: "why", Value: authz.StringValue(err.Error())},
	)
	d.config.Refused(&authz.AuditRecord{
		ID: d.config.NewID(), Time: d.config.Now().UTC(), Kind: authz.AuditAccess, Tenant: c.caller.Tenant, Actor: c.caller.Name(),
		Action: right, Resource: "operation:" + c.operation, Effect: authz.Deny.String(), Body: body,
	})
}
