package serve

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/opadoor"
	"github.com/xiezhi-project/xiezhi/cmd/internal/stream"
	"github.com/xiezhi-project/xiezhi/pap"
)

// push is what a node tells PEPs through: the stream, and the doors of stock
// OPAs, on a listener of their own. Fiber cannot hand its connections to a
// WebSocket, and cannot see a client leave that waits for long.
type push struct {
	keys     *keyring
	hub      *stream.Hub
	door     *opadoor.Door
	listener net.Listener
	server   *http.Server
	url      string // where PEPs find the stream
	log      *slog.Logger
}

// openPush opens the keys and the listener. Nothing is served yet.
func openPush(ctx context.Context, c config.Server, core *Core, refused recorder, log *slog.Logger) (*push, error) {
	p := &push{log: log}
	tlsConfig, err := streamTLS(c)
	if err != nil {
		return nil, err
	}
	if p.keys, err = openKeys(ctx, c.KeysFolder(), core.PAP, pap.Actor{Name: "node:" + c.NodeName()}, log); err != nil {
		return nil, err
	}
	p.hub = stream.New(stream.Config{
		Guard: core.guard, Content: core.release, PEPs: core.Store, Node: c.NodeName(), GrantStale: c.GrantStale, Now: time.Now, Log: log,
	})
	p.door = opadoor.New(opadoor.Config{
		Guard: core.guard, PDP: core.PDP, Signer: p.bundleSigner, Insert: core.Store.InsertDecisions, Refused: refused.refused,
		Content: func(ctx context.Context, number uint64) (*bundles.Content, error) {
			content, _, err := core.release(ctx, number)
			return content, err
		},
		Report: func(ctx context.Context, peer pap.PEP) error { return core.Store.PutPEPs(ctx, []pap.PEP{peer}) },
		Node:   c.NodeName(), Now: time.Now, NewID: newID, Log: log,
	})
	if err := p.keys.onChange(p.signWith); err != nil {
		return nil, err
	}
	core.distribute.join(p.keys.update, p.hub.Update, p.door.Update)
	if p.listener, err = listen(ctx, "stream-listen", c.StreamListen); err != nil {
		return nil, err
	}
	p.url = streamURL(c, p.listener)
	if tlsConfig != nil {
		p.listener = tls.NewListener(p.listener, tlsConfig)
	}
	mux := http.NewServeMux()
	mux.Handle(stream.Path, p.hub.Handler())
	mux.Handle(stream.PollPath, p.hub.Handler())
	mux.Handle("/", p.door.Handler())
	p.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients that break off
	}
	return p, nil
}

// signWith goes over to a ring. The hub is handed that ring, not the keyring:
// what it signs, it signs with the keys that it was told of.
func (p *push) signWith(ring *trust.Ring) error {
	return p.hub.SetKeys(ring.Set(), func(kind trust.Kind, body any) (string, error) { return ring.Sign(kind, body, time.Now()) })
}

func (p *push) bundleSigner(now time.Time) (crypto.Signer, string, error) {
	signer, key, err := p.keys.ring().Signer(trust.PurposeOPABundles, now)
	return signer, key.ID, err
}

// release reads one release's files.
func (c *Core) release(ctx context.Context, number uint64) (content *bundles.Content, release pap.Release, err error) {
	err = c.Store.View(ctx, func(tx pap.Tx) error {
		if release, err = tx.Release(number); err != nil {
			return err
		}
		content, err = pap.ReadContent(tx, release)
		return err
	})
	if err != nil {
		return nil, release, fmt.Errorf("release %d: %w", number, err)
	}
	return content, release, nil
}

// closeStreamWithin bounds how long a stopping node waits for answers on the
// stream's listener once every PEP was told.
const closeStreamWithin = 5 * time.Second

// run serves until ctx ends, and says bye to every PEP then.
func (p *push) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	var failed [2]error
	parts.Go(func() { failed[0] = p.hub.Run(ctx) })
	parts.Go(func() { p.door.Run(ctx) })
	parts.Go(func() {
		if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
			failed[1] = fmt.Errorf("serve the stream: %w", err)
			stop()
		}
	})
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeStreamWithin)
	defer cancel()
	err := p.server.Shutdown(closing)
	if err != nil {
		err = p.server.Close() // who still waits is let go
	}
	parts.Wait()
	return errors.Join(failed[0], failed[1], err)
}

// close lets go of what run would have served.
func (p *push) close() error {
	if p == nil || p.listener == nil {
		return nil
	}
	if err := p.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// listen says which flag to use where the port is taken.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another process; choose another with --%s 127.0.0.1:<port> (port 0 takes a free one)", address, flag)
	}
	return listener, err
}

// streamURL is where PEPs are told that the stream is.
func streamURL(c config.Server, listener net.Listener) string {
	u := url.URL{Scheme: "ws", Host: listener.Addr().String()}
	if c.TLSCert != "" {
		u.Scheme = "wss"
	}
	if configured, err := url.Parse(c.StreamURL); c.StreamURL != "" && err == nil { // Validate has read it
		u = *configured
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = stream.Path
	}
	return u.String()
}

// streamTLS is nil where the stream is served in the clear.
func streamTLS(c config.Server) (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("tls_cert and tls_key: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}}
	if c.StreamClientCA != "" {
		data, err := os.ReadFile(filepath.Clean(c.StreamClientCA))
		if err != nil {
			return nil, fmt.Errorf("stream_client_ca: %w", err)
		}
		t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
		if !t.ClientCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("stream_client_ca: %s: no certificate in PEM", c.StreamClientCA)
		}
	}
	return t, nil
}
