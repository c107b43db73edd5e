package pep

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// Defaults and bounds of a [Config].
const (
	MaxGrantStale        = 30 * time.Second
	DefaultStaleBound    = time.Hour
	DefaultRemoteTimeout = 2 * time.Second
	DefaultSpoolMaxBytes = 256 << 20
)

// maxToken bounds an access token in bytes.
const maxToken = 16 << 10

// complete checks the configuration and fills in what it leaves out. Errors
// name the field.
func (c Config) complete() (Config, *url.URL, error) {
	server, err := serverURL(c.Server)
	if err != nil {
		return c, nil, fmt.Errorf("pep.Config: Server: %w", err)
	}
	if c.Token == nil && !hasCertificate(c.TLS) && c.HTTP == nil {
		return c, nil, errors.New("pep.Config: Token: required, unless TLS holds a client certificate")
	}
	for _, tenant := range c.Tenants {
		if tenant != bundles.AllTenants {
			if err := authz.ValidTenant(tenant); err != nil {
				return c, nil, fmt.Errorf("pep.Config: Tenants: %w", err)
			}
		}
	}
	if len(c.Tenants) == 0 {
		return c, nil, errors.New("pep.Config: Tenants: name the tenants that this service serves, or \"*\"")
	}
	c.Tenants = bundles.Audience(c.Tenants)
	if c.Engine != nil && (c.Trust.Installation == "" || len(c.Trust.Keys) == 0) {
		return c, nil, errors.New("pep.Config: Trust: required with an Engine: the contents of trust.json, read by trust.ParseRoot")
	}
	if c.Engine != nil && c.Dir == "" {
		return c, nil, errors.New("pep.Config: Dir: required with an Engine: a folder of this process alone")
	}
	switch {
	case c.GrantStale < 0 || c.GrantStale > MaxGrantStale:
		return c, nil, fmt.Errorf("pep.Config: GrantStale: %s: want more than 0 and at most %s", c.GrantStale, MaxGrantStale)
	case c.StaleBound < 0:
		return c, nil, fmt.Errorf("pep.Config: StaleBound: %s: want more than 0", c.StaleBound)
	case c.RemoteTimeout < 0:
		return c, nil, fmt.Errorf("pep.Config: RemoteTimeout: %s: want more than 0", c.RemoteTimeout)
	case c.SpoolMaxBytes < 0:
		return c, nil, fmt.Errorf("pep.Config: SpoolMaxBytes: %d: want more than 0", c.SpoolMaxBytes)
	}
	return c.withDefaults(), server, c.checkHello()
}

func (c Config) withDefaults() Config {
	c.GrantStale = cmp.Or(c.GrantStale, MaxGrantStale)
	c.StaleBound = cmp.Or(c.StaleBound, DefaultStaleBound)
	c.RemoteTimeout = cmp.Or(c.RemoteTimeout, DefaultRemoteTimeout)
	c.SpoolMaxBytes = cmp.Or(c.SpoolMaxBytes, DefaultSpoolMaxBytes)
	c.ID = cmp.Or(c.ID, processID())
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Tracer == nil {
		c.Tracer = otel.GetTracerProvider()
	}
	if c.Meter == nil {
		c.Meter = otel.GetMeterProvider()
	}
	if c.HTTP == nil {
		c.HTTP = newHTTP(c.TLS)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// checkHello holds what the PEP says of itself to what a node takes.
func (c Config) checkHello() error {
	c = c.withDefaults()
	f := stream.Frame{Header: stream.Header{Type: stream.TypeHello, Hello: &stream.Hello{
		ID: c.ID, Labels: c.Labels, Tenants: c.Tenants, Nonce: strings.Repeat("0", stream.MinNonce), Version: Version,
	}}}
	data, err := f.Append(nil)
	if err == nil {
		_, err = stream.Decode(data, stream.MaxPEPFrame)
	}
	if err != nil {
		return fmt.Errorf("pep.Config: ID, Labels or Tenants: %w", err)
	}
	return nil
}

func hasCertificate(c *tls.Config) bool {
	return c != nil && (len(c.Certificates) > 0 || c.GetClientCertificate != nil)
}

// serverURL takes https anywhere and http on loopback.
func serverURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("required: the URL of the API, such as https://xiezhi.example")
	}
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil {
		return nil, err
	}
	switch {
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q: want scheme, host and perhaps a path", text)
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return u, nil
	}
	return nil, fmt.Errorf("%q: want https, or http to this machine itself: the token must not be read on the way", text)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// newHTTP is the client of calls to the server. It follows no redirects: they
// would carry the token elsewhere.
func newHTTP(config *tls.Config) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = false // a WebSocket needs HTTP/1.1
	transport.TLSClientConfig = config.Clone()
	transport.MaxIdleConnsPerHost = 64
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// processID names this process among those of its credential.
func processID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// TokenFile returns the [Config.Token] that reads an access token from a file,
// anew for each connection. A file that others than its owner may read is told
// of once, in the default logger.
func TokenFile(path string) func() (string, error) {
	warned := make(chan struct{}, 1)
	return func() (string, error) {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("access token: %w", err)
		}
		defer file.Close()
		if info, err := file.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
			select {
			case warned <- struct{}{}:
				slog.Warn("the access token can be read by others than its owner", "file", path, "mode", info.Mode().Perm().String())
			default:
			}
		}
		data, err := io.ReadAll(io.LimitReader(file, maxToken+1))
		if err != nil {
			return "", fmt.Errorf("access token: %w", err)
		}
		token := strings.TrimSpace(string(data))
		if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fmt.Errorf("access token: %s: want one line of printable text, at most %d bytes", path, maxToken)
		}
		return token, nil
	}
}

// ParseTrust reads trust.json for [Config.Trust].
func ParseTrust(data []byte) (trust.Root, error) { return trust.ParseRoot(data) }

// Option changes one question to [PEP.Decide].
type Option func(*question)

type question struct{ atLeast authz.Revision }

// AtLeast makes the answer rest on a revision that a write returned, or a newer
// one. Decide waits for it: until ctx ends, at most [Config.RemoteTimeout]. It
// fails with [ErrRevisionUnavailable], at once while no node is heard.
func AtLeast(r authz.Revision) Option { return func(q *question) { q.atLeast = r } }

// authorize puts the token on a call.
func (c *Config) authorize(ctx context.Context, header http.Header) error {
	if c.Token == nil {
		return nil
	}
	token, err := c.Token()
	if err != nil {
		return err
	}
	header.Set("Authorization", "Bearer "+token)
	otel.GetTextMapPropagator().Inject(ctx, headerCarrier(header))
	return nil
}

// headerCarrier is a header that a trace is written to.
type headerCarrier http.Header

func (c headerCarrier) Get(key string) string { return http.Header(c).Get(key) }
func (c headerCarrier) Set(key, value string) { http.Header(c).Set(key, value) }
func (c headerCarrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}
