package pip

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// HTTPConfig is what an [HTTP] is handed. Name, URL, Dialable, Now and Log are
// required.
type HTTPConfig struct {
	Name string // as attributes.yaml and templates call it
	URL  string // https; plain HTTP on loopback alone
	// Token returns what the source knows this server by, for each call anew;
	// nil: it asks for none.
	Token func() (string, error)
	// RootCAs are the authorities that may speak for the source; nil: those of
	// this machine.
	RootCAs *x509.CertPool
	// Dialable refuses an address ("10.0.0.1:443") that is about to be dialled.
	Dialable func(address string) error
	// Timeout bounds one call with the wait for its turn, TTL is how long an
	// answer is used, and Connections how many calls are made at a time; 0
	// means DefaultTimeout, DefaultTTL, DefaultConnections.
	Timeout, TTL time.Duration
	Connections  int
	Now          func() time.Time
	// Jitter returns a number of [0,1), by which pauses differ; nil: any.
	Jitter func() float64
	Log    *slog.Logger
}

// What an HTTPConfig means by 0.
const (
	DefaultTimeout     = 500 * time.Millisecond
	DefaultTTL         = 30 * time.Second
	DefaultConnections = 16
)

// HTTP is an attribute source behind one address (X13). Each attribute of an
// entity is asked for once at a time, whoever waits for it, and its answer is
// used for TTL from when it was asked for. It is safe for concurrent use, and
// ends with Close.
type HTTP struct {
	config HTTPConfig
	client *http.Client
	turns  chan struct{}

	running context.Context
	stop    context.CancelFunc
	calls   sync.WaitGroup

	mu      sync.Mutex
	cache   cache
	flights map[question]*flight
	breaker breaker
	closed  bool
}

// maxFlights is how many questions wait for a source at a time.
const maxFlights = 1024

// Why a source is not asked. Errors of this package name no address and repeat
// nothing of an answer: they become reasons that callers read.
var (
	errOpen   = errors.New("has failed and is not asked now")
	errBusy   = errors.New("has too many questions to answer")
	errClosed = errors.New("is not asked any more")
)

// NewHTTP returns a source that has asked nothing yet, or says what is wrong
// with its configuration.
func NewHTTP(c HTTPConfig) (*HTTP, error) {
	u, err := url.Parse(c.URL)
	switch {
	case c.Name == "" || c.Dialable == nil || c.Now == nil || c.Log == nil:
		return nil, errors.New("name, dialable, now and log: every one is required")
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return nil, errors.New("url: want https://host/path, without a user") // the parser's error would repeat it
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, errors.New("url: want https; plain HTTP is for loopback alone")
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.Connections == 0 {
		c.Connections = DefaultConnections
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Timeout < 0 || c.TTL < c.Timeout || c.Connections < 0 {
		return nil, errors.New("timeout, ttl, connections: want a ttl that is no less than the timeout, and nothing below 0")
	}
	h := &HTTP{config: c, client: client(&c, u.Scheme == "http"), turns: make(chan struct{}, c.Connections), flights: map[question]*flight{}}
	h.running, h.stop = context.WithCancel(context.Background())
	return h, nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// flight is one call, for which any number wait.
type flight struct {
	done  chan struct{} // closed when the rest is set
	asked time.Time
	try   bool // it tries whether the source has recovered
	answer
	err error
}

// Attribute asks the source, unless it has answered within TTL. It waits no
// longer than ctx lasts; the call goes on then, for who asks next.
func (h *HTTP) Attribute(ctx context.Context, q pdp.AttributeQuery) (authz.Value, bool, error) {
	known, f, err := h.ask(question{q.Tenant, q.Name, q.Entity.Type, q.Entity.ID})
	if err != nil {
		return authz.Value{}, false, h.failed(err)
	}
	if f == nil {
		return known.value, known.found, nil
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return authz.Value{}, false, h.failed(errLate)
	}
	if f.err != nil {
		return authz.Value{}, false, h.failed(f.err)
	}
	return f.value, f.found, nil
}

func (h *HTTP) failed(err error) error { return fmt.Errorf("source %q %w", h.config.Name, err) }

// Local reports that answers are waited for.
func (*HTTP) Local() bool { return false }

// ask returns what is known, or the call that will tell.
func (h *HTTP) ask(q question) (known answer, f *flight, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.config.Now()
	if known, ok := h.cache.get(q, now); ok {
		return known, nil, nil
	}
	if f := h.flights[q]; f != nil {
		return answer{}, f, nil
	}
	switch {
	case h.closed:
		return answer{}, nil, errClosed
	case len(h.flights) >= maxFlights:
		return answer{}, nil, errBusy
	}
	allowed, try := h.breaker.allow(now)
	if !allowed {
		return answer{}, nil, errOpen
	}
	f = &flight{done: make(chan struct{}), asked: now, try: try}
	h.flights[q] = f
	h.calls.Go(func() { h.fly(q, f) })
	return answer{}, f, nil
}

// fly makes a call in its turn.
func (h *HTTP) fly(q question, f *flight) {
	ctx, cancel := context.WithTimeout(h.running, h.config.Timeout)
	defer cancel()
	select {
	case h.turns <- struct{}{}:
		f.answer, f.err = h.call(ctx, q)
		<-h.turns
	case <-ctx.Done():
		f.err = errBusy
	}
	h.landed(q, f)
	close(f.done)
}

// landed keeps what a call brought, unless the cache was dropped meanwhile.
func (h *HTTP) landed(q question, f *flight) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flights[q] == f {
		delete(h.flights, q)
		if f.err == nil {
			h.cache.put(q, f.answer, f.asked.Add(h.config.TTL))
		}
	}
	if errors.Is(f.err, errBusy) || h.closed {
		h.breaker.uncalled(f.try)
		return
	}
	var down *downError
	pause := breakFor + time.Duration(h.config.Jitter()*float64(breakFor))
	opened, closed := h.breaker.called(f.try, errors.As(f.err, &down), h.config.Now(), pause)
	switch {
	case opened:
		h.config.Log.Error("an attribute source fails and is left alone; what reads its attributes is denied", "source", h.config.Name, "error", down.cause, "for", pause)
	case closed:
		h.config.Log.Info("an attribute source answers again", "source", h.config.Name)
	}
}

// Drop forgets every answer, also of calls that are under way.
func (h *HTTP) Drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cache = cache{}
	clear(h.flights)
}

// Close ends the calls that are under way, and refuses others.
func (h *HTTP) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.calls.Wait()
	h.client.CloseIdleConnections()
}

var _ pdp.AttributeSource = (*HTTP)(nil)
