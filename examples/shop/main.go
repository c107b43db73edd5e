// Command shop is an example of a service that embeds the SDK: it sells
// virtual machines, and asks before it takes an order. README.md runs it
// against `make run`; the end-to-end tests run it too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp/local"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintf(os.Stderr, "shop: %v\n", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	listen, server, tokenFile, trust, data, tenant, id, labels string
	staleBound, grantStale                                     time.Duration
	remote                                                     bool
}

func parse(args []string, getenv func(string) string) (options, error) {
	var o options
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8090", "loopback `address` of the shop")
	flags.StringVar(&o.server, "server", getenv("XIEZHI_SERVER"), "`URL` of Xiezhi")
	flags.StringVar(&o.tokenFile, "token-file", getenv("XIEZHI_TOKEN_FILE"), "`file` of the shop's access token")
	flags.StringVar(&o.trust, "trust", getenv("SHOP_TRUST"), "`file` trust.json")
	flags.StringVar(&o.data, "data", getenv("SHOP_DATA"), "`folder` of the last known good state")
	flags.StringVar(&o.tenant, "tenant", "acme", "`tenant` whose shop this is")
	flags.StringVar(&o.id, "id", "", "`name` of this process among the shop's")
	flags.StringVar(&o.labels, "labels", "", "`key=value,…` for staged rollouts")
	flags.DurationVar(&o.staleBound, "stale-bound", 0, "how long to decide without the server (default 1h)")
	flags.DurationVar(&o.grantStale, "grant-stale", 0, "how long grants count without it (default 30s)")
	flags.BoolVar(&o.remote, "remote", false, "carry no engine: the server decides everything")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.server == "" || o.tokenFile == "" {
		return o, errors.New("want --server and --token-file")
	}
	if !o.remote && (o.trust == "" || o.data == "") {
		return o, errors.New("want --trust and --data, or --remote")
	}
	return o, nil
}

// settings are what the PEP is told: this is most of what embedding takes.
func settings(o options, log *slog.Logger) (pep.Config, error) {
	c := pep.Config{
		Server: o.server, Token: pep.TokenFile(o.tokenFile), Tenants: []string{o.tenant}, ID: o.id, Labels: map[string]string{},
		StaleBound: o.staleBound, GrantStale: o.grantStale, Obligations: obligations(log), Log: log,
	}
	for label := range strings.SplitSeq(o.labels, ",") {
		if key, value, ok := strings.Cut(label, "="); ok {
			c.Labels[key] = value
		}
	}
	if o.remote {
		return c, nil
	}
	data, err := os.ReadFile(o.trust)
	if err != nil {
		return c, err
	}
	if c.Trust, err = pep.ParseTrust(data); err != nil {
		return c, err
	}
	c.Engine, c.Dir = local.New(local.Options{}), o.data
	return c, nil
}

func run(ctx context.Context, args []string, getenv func(string) string) error {
	o, err := parse(args, getenv)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	told, err := settings(o, log)
	if err != nil {
		return err
	}
	p, err := pep.New(ctx, told)
	if err != nil {
		return err
	}
	shop, err := newShop(p, o.tenant, log)
	if err == nil {
		err = serve(ctx, o.listen, shop, log)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, p.Close(closing))
}

// serve answers on loopback only: POST /decide answers for anybody.
func serve(ctx context.Context, address string, handler http.Handler, log *slog.Logger) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("%s is not loopback", address), ln.Close())
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	log.Info("the shop is open", "address", ln.Addr().String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = server.Shutdown(closing)
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
