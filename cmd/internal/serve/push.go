package serve

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
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
	options  stream.Options
	url      string // where PEPs find the stream
	log      *slog.Logger
}

// openPush opens the keys and the listener. Nothing is served yet.
func openPush(ctx context.Context, c config.Server, core *Core, refused recorder, log *slog.Logger) (*push, error) {
	p := &push{log: log, options: stream.Options{
		CertFile: c.TLSCert, KeyFile: c.TLSKey, ClientCAFile: c.StreamClientCA, Insecure: c.InsecureListen, Log: log,
	}}
	err := p.options.Check()
	if err != nil {
		return nil, err
	}
	if p.keys, err = openKeys(ctx, c.KeysFolder(), core.PAP, pap.Actor{Name: "node:" + c.NodeName()}, log); err != nil {
		return nil, err
	}
	p.hub = stream.New(stream.Config{
		Guard: core.guard, Content: core.release, PEPs: core.Store, Node: c.NodeName(), GrantStale: c.GrantStale, Now: time.Now, Log: log,
		Refused: refused.refused, NewID: newID, Connections: c.StreamConnections, PerTenant: c.StreamPerTenant,
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
	core.distribute.join(p.keys.update, p.hub.Update, p.door.Update, core.settled)
	if p.listener, err = listen(ctx, "stream-listen", c.StreamListen); err != nil {
		return nil, err
	}
	p.url = streamURL(c, p.listener)
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

// run serves until ctx ends, and says bye to every PEP then.
func (p *push) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	var failed error
	parts.Go(func() { failed = p.hub.Run(ctx) })
	parts.Go(func() { p.door.Run(ctx) })
	err := stream.Serve(ctx, p.listener, p.options, map[string]http.Handler{
		stream.Path: p.hub.Handler(), stream.PollPath: p.hub.Handler(), "/": p.door.Handler(),
	})
	stop()
	parts.Wait()
	return errors.Join(failed, err)
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
