package pep

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Config is what a PEP is told. Server, Token or TLS, Tenants and, with an
// Engine, Trust and Dir are required; the rest has safe defaults.
type Config struct {
	// Server is the URL of the API, "https://xiezhi.example". The stream's is
	// found through its /.well-known/xiezhi. Plain http only on loopback.
	Server string
	// Token returns the access token; it is asked anew for each connection,
	// so that a rotated token is picked up. See [TokenFile]. Nil where TLS
	// holds a client certificate.
	Token func() (string, error)
	// TLS is for the server's certificate, and for a client's own (mTLS).
	TLS *tls.Config

	// ID names this process among those of its credential; default host name and pid.
	ID string
	// Labels choose PEPs in staged rollouts and pushes.
	Labels map[string]string
	// Tenants that this PEP serves; "*" for all, where the credential may.
	Tenants []string

	// Engine decides in-process; nil: the server decides everything.
	Engine Engine
	// Trust is the root of all signatures. It is never learned from a server.
	Trust trust.Root
	// Dir holds the last known good state and the decision records under way.
	// One process at a time owns it.
	Dir string

	// GrantStale is how long grants count after the last signed heartbeat;
	// default and most 30 s.
	GrantStale time.Duration
	// StaleBound is how long policies without a bound of their own decide
	// after it; default 1 h.
	StaleBound time.Duration
	// RemoteTimeout bounds a question to the server; default 2 s.
	RemoteTimeout time.Duration
	// SpoolMaxBytes bounds decision records that wait for the server; default 256 MiB.
	SpoolMaxBytes int64

	// Obligations are what this service can do about them, by obligation id.
	// A decision with a must-obligation that is not here is a DENY in [PEP.Guard].
	Obligations map[string]ObligationHandler
	// Refusals are what this service does about obligations of a DENY or
	// REVIEW in [PEP.Guard], by obligation id: to notify, for one. The others
	// speak of an action that is not run and are left alone.
	Refusals map[string]ObligationHandler
	// Limits and Routes enforce the limits and the route of a decision. Where
	// one is nil, a decision that carries any is a DENY in [PEP.Guard].
	Limits LimitHandler
	Routes RouteHandler

	Log    *slog.Logger
	Tracer trace.TracerProvider // nil: OpenTelemetry's global one
	Meter  metric.MeterProvider // nil: OpenTelemetry's global one

	// HTTP is the client of calls to the server; nil: one made of TLS.
	HTTP *http.Client
	// Now is the local clock; nil: time.Now. It may say anything: what passes is
	// measured by the monotonic clock.
	Now func() time.Time
}

// ObligationHandler meets one obligation of a decision that is about to be
// enforced; [DecisionFrom] has the decision. The action may still not be run
// after it: another obligation may fail. An error or a panic denies.
type ObligationHandler func(ctx context.Context, req authz.Request, o authz.Obligation) error
