package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Guard says who calls and what the caller may do.
type Guard interface {
	Authenticate(ctx context.Context, authorization string) (access.Caller, error)
	// Allow returns nil where the caller has the right in the tenant
	// ([pap.Platform] for the platform).
	Allow(ctx context.Context, c access.Caller, right, tenant string) error
	// Actor is the caller as pap knows it.
	Actor(c access.Caller) pap.Actor
}

// Check is one thing that must be well for this node to be ready.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// Store is what the doors use of the store themselves: the head, the audit
// records, and the answers kept under Idempotency-Keys.
type Store interface {
	pap.Store
	pap.AuditStore
}

// Preview answers "what if" for evaluate. Nothing it does is stored or active.
type Preview interface {
	// At returns what was in force at a revision, or pap.ErrNotFound.
	At(ctx context.Context, r authz.Revision) (*pdp.Snapshot, error)
	// With compiles documents on top of a snapshot; [pdp.Faults] where they
	// are wrong.
	With(ctx context.Context, base *pdp.Snapshot, documents []bundles.File) (*pdp.Snapshot, error)
}

// Config is what a Server is handed. The fields up to Log are required, except
// PDP, PAP, Store and Preview where Decider is given and no route asks them.
type Config struct {
	Guard   Guard
	PDP     *pdp.PDP
	PAP     *pap.Service
	Store   Store
	Preview Preview
	Now     func() time.Time
	NewID   func() string
	Log     *slog.Logger

	Decider Decider // nil: PDP, which knows of revisions from Store
	Routes  []Route // what is served; nil: all, [Routes]
	// LocalNames refuses calls that name another host than this machine's own
	// loopback: where no credential is asked for, a browser must not be led here.
	LocalNames bool

	Checks   []Check   // of readiness, beside an active release
	Measures []Measure // in the metrics, beside the server's own
	// Refused is told of every call that a caller had no right to; nil: nobody.
	Refused func(record *authz.AuditRecord)

	// Approvals asks people; nil: this server cannot, and refuses to wait.
	Approvals *Approvals
	// AccessRequests signs what AuthZEN's Access Request and Approval Profile
	// hands out; nil: the profile is not served.
	AccessRequests *arap.Tokens
	// Callbacks are what chat platforms call, by the channel's name.
	Callbacks map[string]Callback
	// Source is the policy repository that this server follows; nil: none.
	Source Source
	// LoadAttributes reads the static attributes again; nil: there are none.
	LoadAttributes func() error
	// AttributeSources make the sources that are asked over HTTP forget their
	// answers, by name.
	AttributeSources map[string]func()

	// PublicURL is how callers reach this server, without a final slash.
	// Empty: the scheme and host that the call itself names.
	PublicURL string
	// StreamURL is where PEPs find the stream; empty: there is none.
	StreamURL string
	// CertFile and KeyFile are PEM files; both or none. Without them only
	// loopback addresses are served, unless Insecure allows others.
	CertFile, KeyFile string
	Insecure          bool
}

// Limits of one connection and one call.
const (
	MaxBody        = 1 << 20 // bytes of a body
	MaxPolicyBody  = 4 << 20 // where a body carries policy documents, which JSON escapes
	MaxShipBody    = 8 << 20 // of a batch of decision records
	MaxHeader      = 16 << 10
	MaxConnections = 16_384

	readTimeout     = 30 * time.Second // of a whole request
	writeTimeout    = 30 * time.Second
	idleTimeout     = 2 * time.Minute
	callTimeout     = 2 * time.Minute  // of any call; a publication compiles and runs test cases
	lastMoment      = time.Second      // for a call that has begun to come when the server stops
	shutdownTimeout = 15 * time.Second // for the answers to all that came
)

// Server answers HTTP. Create it with [New].
type Server struct {
	config  Config
	app     *fiber.App
	tls     *tls.Config
	metrics *metrics
	ready   readiness
	openapi []byte
	ids     requestIDs

	base   context.Context // of every call; it ends when the server gives up waiting
	cancel context.CancelFunc

	inFlight sync.Map // idempotency keys of calls under way
	waits    waits    // for PEPs
	asking   waits    // for people

	serving context.Context // ends when the server begins to stop
	stop    context.CancelFunc
}

// New builds a server; it refuses an incomplete route table and unreadable TLS
// files.
func New(config Config) (*Server, error) {
	if config.Decider == nil {
		config.Decider = node{config.PDP, config.Store, config.Log.Warn}
	}
	s := &Server{config: config, ids: newRequestIDs()}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.serving, s.stop = context.WithCancel(s.base)
	s.waits.limits, s.asking.limits = pepWaits, approvalWaits
	var err error
	if s.tls, err = loadTLS(config.CertFile, config.KeyFile); err != nil {
		return nil, err
	}
	routes := config.Routes
	if routes == nil {
		routes = Routes()
	}
	if err := checkRoutes(routes); err != nil {
		return nil, err
	}
	if s.openapi, err = openAPI(routes); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(config); err != nil {
		return nil, err
	}
	s.app = fiber.New(fiber.Config{
		CaseSensitive: true, StrictRouting: true,
		BodyLimit: MaxShipBody, ReadBufferSize: MaxHeader, Concurrency: MaxConnections,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		DisablePreParseMultipartForm: true, DisableStartupMessage: true, DisableDefaultContentType: true,
		ErrorHandler: s.answerUnrouted,
	})
	for i := range routes {
		s.register(&routes[i])
	}
	return s, nil
}

func loadTLS(certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, errors.New("TLS needs both a certificate file and a key file; set both or neither")
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read TLS certificate %s and key %s: %w", certFile, keyFile, err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}, nil
}

// ErrPlainText refuses to serve plain HTTP to other machines.
var ErrPlainText = errors.New("plain HTTP is served on loopback addresses only; configure a certificate and key, or allow it explicitly")

// Serve answers on ln until ctx ends; then it lets calls under way finish, for
// a while, and returns nil. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer s.cancel()
	if s.tls == nil && !s.config.Insecure && !isLoopback(ln.Addr()) {
		return errors.Join(fmt.Errorf("serve %s: %w", ln.Addr(), ErrPlainText), ln.Close())
	}
	known := newListener(ln)
	ln = known
	if s.tls != nil {
		ln = tls.NewListener(ln, s.tls)
	}
	var background sync.WaitGroup
	defer background.Wait()
	running, stop := context.WithCancel(ctx)
	defer stop()
	if s.config.Store != nil {
		background.Go(func() { s.forgetReplays(running) })
	}
	served := make(chan error, 1)
	go func() { served <- s.app.Listener(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	return s.shutdown(known, served)
}

func (s *Server) shutdown(ln *listener, served <-chan error) error {
	s.stop()
	closeErr := ln.Close() // ends a Serve that is only starting, too
	<-served
	ln.hurry(time.Now().Add(lastMoment))
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := errors.Join(closeErr, s.app.ShutdownWithContext(ctx)); err != nil {
		ln.drop()
		return fmt.Errorf("stop serving %s: %w", ln.Addr(), err)
	}
	return nil
}

func isLoopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return false
	}
}

// scheme of the URLs that reach this server directly.
func (s *Server) scheme() string {
	if s.tls != nil {
		return "https"
	}
	return "http"
}

// publicURL is how the caller reaches this server.
func (s *Server) publicURL(host string) string {
	if s.config.PublicURL != "" {
		return strings.TrimSuffix(s.config.PublicURL, "/")
	}
	return s.scheme() + "://" + host
}
