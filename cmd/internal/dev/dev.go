// Package dev runs one server for a person who writes policies: everything in
// a folder, two tenants, tokens for each kind of caller, and a policy folder
// that is published on every save.
//
// It binds to loopback only, and its releases are marked unreviewed: nobody
// but the person at the machine has seen them. `xiezhi serve` has no such
// switch.
package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/serve"
	"github.com/xiezhi-project/xiezhi/pap"
)

// Options are the flags of `xiezhi dev`.
type Options struct {
	Listen       string
	StreamListen string
	Data         string
	Policies     string // a folder to watch; empty: Shipped
	Attributes   string // a file for the source "static"; empty: none
	Channels     string // a file of where people are asked; empty: nowhere but here
	RegoEngine   string // as rego_engine of `xiezhi serve`; empty: its default
	ReadyFile    string
	Shipped      *bundles.Content // the policies that ship with the binary
	Out          io.Writer
	Log          *slog.Logger
}

// Ready is what the ready file says once the server answers.
type Ready struct {
	URL       string            `json:"url"`
	StreamURL string            `json:"stream_url"`
	Revision  string            `json:"revision"`
	Trust     string            `json:"trust"` // the file of the root that PEPs trust
	Tokens    map[string]string `json:"tokens"`
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	for flag, address := range map[string]string{"--listen": o.Listen, "--stream-listen": o.StreamListen} {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("%s %q: want host:port", flag, address)
		}
		if !config.Loopback(host) {
			return fmt.Errorf("%s %s: dev publishes unreviewed policies and binds to loopback only; use `xiezhi serve` to listen on the network", flag, address)
		}
	}
	listener, err := listen(ctx, "--listen", o.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // closed twice when all went well

	data, err := filepath.Abs(o.Data) // what is printed and written down is used from elsewhere
	if err != nil {
		return err
	}
	o.Data = data
	server := config.Defaults()
	server.Listen, server.StreamListen, server.Data, server.StaticAttributes = o.Listen, o.StreamListen, o.Data, o.Attributes
	if o.Channels != "" {
		if server.Cases, err = config.LoadCases(o.Channels); err != nil {
			return err
		}
	}
	if o.RegoEngine != "" {
		server.RegoEngine = o.RegoEngine
	}
	node, err := serve.Open(ctx, server, o.Log)
	if err != nil {
		return err
	}
	node.PublishUnreviewed()
	s := session{Options: o, node: node, actor: admin.LocalActor()}
	ready, err := s.prepare(ctx, "http://"+listener.Addr().String())
	if err != nil {
		return errors.Join(err, node.Close())
	}
	watched := make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	defer stop()
	go func() { watched <- s.watch(serving) }()

	served := make(chan error, 1)
	go func() { served <- node.Serve(serving, listener) }()
	if err := s.announce(ready); err != nil {
		stop()
		return errors.Join(err, <-served, <-watched)
	}
	select {
	case err = <-served:
		stop()
		return errors.Join(err, <-watched)
	case err = <-watched:
		stop()
		return errors.Join(err, <-served)
	}
}

// listen says which flag to use where the port is taken.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another process; choose another with %s 127.0.0.1:<port> (port 0 takes a free one)", address, flag)
	}
	return listener, err
}

// session is one run of dev.
type session struct {
	Options
	node  *serve.Node
	actor pap.Actor
}

// tokenLife is how long the tokens of one run are good for.
const tokenLife = 7 * 24 * time.Hour

// tokenName marks tokens of dev, so that the next run can revoke them.
const tokenName = "xiezhi dev"

// caller is one of the callers that dev makes a token for.
type caller struct {
	key    string // in the ready file
	tenant string
	typ    string
	id     string
	role   string
}

func callers() []caller {
	return []caller{
		{"admin", "", "user", "root", "admin"},
		{"author", "acme", "user", "author", "author"},
		{"service", "acme", "service", "shop", "service"},
		{"pep", "acme", "service", "gateway", "pep"},
		{"auditor", "", "user", "auditor", "auditor"},
		{"nina", "acme", "user", "nina", "network_admin"}, // the two whom the shipped REVIEWs ask
		{"sam", "acme", "user", "sam", "security_admin"},
	}
}

// prepare fills the directory, publishes the policies and makes tokens.
func (s *session) prepare(ctx context.Context, url string) (Ready, error) {
	if err := admin.EnsureRoles(ctx, s.node.PAP, s.actor); err != nil {
		return Ready{}, err
	}
	for id, name := range map[string]string{"acme": "Acme", "globex": "Globex"} {
		if _, _, err := s.node.PAP.CreateTenant(ctx, s.actor, pap.Tenant{ID: id, Name: name}); err != nil && !errors.Is(err, pap.ErrConflict) {
			return Ready{}, fmt.Errorf("make tenant %s: %w", id, err)
		}
	}
	people := []pap.Subject{{Tenant: "acme", Type: "user", ID: "li.wei"}, {Tenant: "globex", Type: "user", ID: "zhang.min"}}
	for _, person := range people {
		if err := admin.EnsureSubject(ctx, s.node.PAP, s.actor, person, "engineer"); err != nil {
			return Ready{}, err
		}
	}
	if err := s.publishFirst(ctx); err != nil {
		return Ready{}, err
	}
	ready := Ready{URL: url, StreamURL: s.node.StreamURL(), Trust: s.node.TrustFile(), Tokens: map[string]string{}}
	for _, c := range callers() {
		token, err := s.token(ctx, c)
		if err != nil {
			return Ready{}, err
		}
		ready.Tokens[c.key] = token
	}
	ready.Revision = s.node.PDP.Active().Revision().String()
	return ready, nil
}

// token makes a fresh token and revokes those of earlier runs.
func (s *session) token(ctx context.Context, c caller) (string, error) {
	sub := pap.Subject{Tenant: c.tenant, Type: c.typ, ID: c.id}
	if err := admin.EnsureSubject(ctx, s.node.PAP, s.actor, sub, c.role); err != nil {
		return "", err
	}
	name := pap.SubjectName(c.typ, c.id)
	var after string
	for {
		page, err := s.node.PAP.Tokens(ctx, s.actor, c.tenant, after, 100)
		if err != nil {
			return "", err
		}
		for _, t := range page.Items {
			if t.Name == tokenName && t.Subject == name && t.Usable(time.Now()) == nil {
				if _, _, err := s.node.PAP.RevokeToken(ctx, s.actor, t.ID); err != nil {
					return "", err
				}
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	_, text, _, err := s.node.PAP.CreateToken(ctx, s.actor, pap.Token{
		Tenant: c.tenant, Subject: name, Name: tokenName, Rights: []string{"*"}, ExpiresAt: time.Now().Add(tokenLife),
	})
	return text, err
}

// announce writes the ready file, whole or not at all, and the banner.
func (s *session) announce(ready Ready) error {
	if err := s.banner(ready); err != nil {
		return err
	}
	if s.ReadyFile == "" {
		return nil
	}
	data, err := json.MarshalIndent(ready, "", "  ")
	if err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(s.ReadyFile), "."+filepath.Base(s.ReadyFile)+".tmp")
	if err := os.WriteFile(temporary, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write --ready-file: %w", err)
	}
	if err := os.Rename(temporary, s.ReadyFile); err != nil {
		return fmt.Errorf("write --ready-file: %w", err)
	}
	return nil
}

// examples are the requests of the banner, in order, and what each answers.
func examples() []struct{ name, answer, what string } {
	return []struct{ name, answer, what string }{
		{"allow", "ALLOW", "a small server in the tenant's private subnet"},
		{"deny", "DENY", "with its reasons: a server that breaks several guardrails"},
		{"review", "REVIEW", "a server open to a partner's network on port 443"},
	}
}

// shellWord writes text so that a shell reads it as one word, as it is.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// writeTokens keeps each token in a file of its own, for programs that want
// one, and returns their folder.
func (s *session) writeTokens(ready Ready) (string, error) {
	folder := filepath.Join(s.Data, "tokens")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	for key, token := range ready.Tokens {
		if err := os.WriteFile(filepath.Join(folder, key), []byte(token+"\n"), 0o600); err != nil {
			return "", err
		}
	}
	return folder, nil
}

// banner prints where the server is, three requests to try, and how people
// answer.
func (s *session) banner(ready Ready) error {
	folder := filepath.Join(s.Data, "examples")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	watching := "the policies built into this binary"
	if s.Policies != "" {
		watching = s.Policies + " (published on save, marked unreviewed)"
	}
	fmt.Fprintf(s.Out, "\nXiezhi answers at %s, revision %s, on loopback only.\n", ready.URL, ready.Revision)
	fmt.Fprintf(s.Out, "Policies: %s\nData:     %s\nStream:   %s\nTrust:    %s (what PEPs are configured with)\n\nTry:\n", watching, s.Data, ready.StreamURL, ready.Trust)
	for _, e := range examples() {
		data, err := s.Shipped.File("examples/" + e.name + ".json")
		if err != nil {
			return err
		}
		path := filepath.Join(folder, e.name+".json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "\n# %s: %s\ncurl -s %s/api/v1/decide -H 'Content-Type: application/json' -H 'Authorization: Bearer %s' -d %s\n",
			e.answer, e.what, ready.URL, ready.Tokens["pep"], shellWord("@"+path))
	}
	tokens, err := s.writeTokens(ready)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "\n# two people answer a REVIEW, CASE is approval.id in it; with both their yes the same request is an ALLOW:\n"+
		"for who in nina sam; do %s cheq approve CASE --server %s --token-file %s/$who; done\n", shellWord(os.Args[0]), ready.URL, shellWord(tokens))
	fmt.Fprintf(s.Out, "\n# a service that decides in-process, and goes on while this server is away:\ngo run ./examples/shop --server %s --token-file %s --trust %s --data %s\n",
		ready.URL, shellWord(filepath.Join(tokens, "pep")), shellWord(ready.Trust), shellWord(filepath.Join(s.Data, "shop")))
	fmt.Fprintf(s.Out, "\nTokens (good for %d days):\n", int(tokenLife.Hours()/24))
	for _, c := range callers() {
		home := c.tenant
		if home == "" {
			home = pap.Platform
		}
		fmt.Fprintf(s.Out, "  %-8s %-16s %-9s %s\n", c.key, pap.SubjectName(c.typ, c.id), home, ready.Tokens[c.key])
	}
	fmt.Fprint(s.Out, "\nCtrl-C stops it.\n\n")
	return nil
}
