package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Options are how a listener serves.
type Options struct {
	// CertFile and KeyFile are PEM files; both or none. Without them only
	// loopback addresses are served, unless Insecure allows others.
	CertFile, KeyFile string
	// ClientCAFile is a PEM file of the authorities whose client certificates
	// count. Without it none is asked for.
	ClientCAFile string
	Insecure     bool
	Log          *slog.Logger
}

// Limits of the listener. There is no deadline over a whole answer: those of
// polls and long-lived answers are set by their handlers.
const (
	maxHeaderBytes    = 16 << 10
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 10 * time.Second
)

// ErrPlainText refuses to serve plain HTTP to other machines.
var ErrPlainText = errors.New("plain HTTP is served on loopback addresses only; configure a certificate and key, or allow it explicitly")

// Serve answers on ln until ctx ends, then lets calls under way finish for a
// while, and returns nil. It closes ln. Handlers are by pattern, as
// [http.ServeMux] has them; sockets that they took over are theirs to close.
func Serve(ctx context.Context, ln net.Listener, o Options, handlers map[string]http.Handler) error {
	config, err := o.tls()
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	if config == nil && !o.Insecure && !loopback(ln.Addr()) {
		return errors.Join(fmt.Errorf("serve %s: %w", ln.Addr(), ErrPlainText), ln.Close())
	}
	if config != nil {
		ln = tls.NewListener(ln, config)
	}
	mux := http.NewServeMux()
	for pattern, handler := range handlers {
		mux.Handle(pattern, handler)
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler: mux, MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return base },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer stop()
	err = server.Shutdown(stopping)
	<-served
	if err != nil {
		return errors.Join(fmt.Errorf("stop serving %s: %w", ln.Addr(), err), server.Close())
	}
	return nil
}

// Check says what is wrong with the files, before anything listens.
func (o *Options) Check() error {
	_, err := o.tls()
	return err
}

// tls reads the configured files; nil: plain HTTP.
func (o *Options) tls() (*tls.Config, error) {
	switch {
	case o.CertFile == "" && o.KeyFile == "" && o.ClientCAFile == "":
		return nil, nil
	case o.CertFile == "" || o.KeyFile == "":
		return nil, errors.New("TLS needs both a certificate file and a key file, client certificates too; set both or neither")
	}
	cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read TLS certificate %s and key %s: %w", o.CertFile, o.KeyFile, err)
	}
	// HTTP/1.1 only: a WebSocket takes over the whole connection.
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if o.ClientCAFile != "" {
		text, err := os.ReadFile(filepath.Clean(o.ClientCAFile))
		if err != nil {
			return nil, fmt.Errorf("read client authorities: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("client authorities %s: no certificate in PEM", o.ClientCAFile)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return config, nil
}

func loopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return false
	}
}
