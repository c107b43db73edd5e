package matrix

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// Name is what places and taps call this channel.
const Name = "matrix"

// Config is what a Channel is handed; every field is required.
type Config struct {
	// Homeserver is where its client API is, "https://matrix.example". Plain
	// HTTP is for loopback only.
	Homeserver  string
	UserID      string // of the bot, "@xiezhi:example"
	AccessToken string
	// ServerName is the server part of the people who may answer, "example". It
	// must be the bot's own.
	ServerName string

	Answers    cheq.Answers
	Identities cheq.Identities
	Position   Position
	Now        func() time.Time
	Log        *slog.Logger
}

// Position keeps how far the stream of events was read.
type Position interface {
	// Load returns what was saved last, "" where nothing was.
	Load(ctx context.Context) (batch string, err error)
	Save(ctx context.Context, batch string) error
}

// Channel is a bot on one homeserver. It implements [cheq.Channel], and is safe
// for concurrent use.
type Channel struct {
	config Config
	client *mautrix.Client
	told   meter // explanations
	codes  meter // bindings that were tried
	joins  meter // invitations that were taken
	pause  func(ctx context.Context, d time.Duration) error
}

// Bounds of what the homeserver is asked for.
const (
	callWithin   = 10 * time.Second
	syncFor      = 30 * time.Second // that a poll waits at the homeserver
	maxResponse  = 16 << 20
	maxHeader    = 64 << 10
	idleFor      = 90 * time.Second
	maxIdleConns = 4
)

// New returns a Channel, or says what is wrong with its configuration. It makes
// no call.
func New(c Config) (*Channel, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("matrix: %w", err)
	}
	client, err := mautrix.NewClient(c.Homeserver, id.UserID(c.UserID), c.AccessToken)
	if err != nil {
		return nil, errors.New("matrix: homeserver: not a URL")
	}
	client.Client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: callWithin,
			MaxResponseHeaderBytes: maxHeader, IdleConnTimeout: idleFor, MaxIdleConnsPerHost: maxIdleConns,
		},
		// The token is for this address alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client.ResponseSizeLimit = maxResponse
	client.IgnoreRateLimit = true // callers are told to come later
	return &Channel{
		config: c, client: client, pause: pause,
		told: meter{most: 5, within: time.Minute}, codes: meter{most: 5, within: 10 * time.Minute}, joins: meter{most: 5, within: time.Hour},
	}, nil
}

func (c *Config) check() error {
	u, err := url.Parse(c.Homeserver)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("homeserver: want https://host, without a user or query") // the parser's error would repeat it
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("homeserver: want https://host")
	case u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback():
		return fmt.Errorf("homeserver: plain HTTP to %s: anybody between could answer for anybody; use https", u.Hostname())
	case c.ServerName == "" || serverOf(c.UserID) != c.ServerName:
		return fmt.Errorf("user id %q: want a user of the server %q, such as @xiezhi:%[2]s", c.UserID, c.ServerName)
	case c.AccessToken == "" || strings.ContainsAny(c.AccessToken, " \r\n\t"):
		return errors.New("access token: want one, without spaces")
	case c.Answers == nil || c.Identities == nil || c.Position == nil || c.Now == nil || c.Log == nil:
		return errors.New("answers, identities, position, now and log: every one is required")
	}
	return nil
}

// serverOf returns the server part of a user's id, "" where it is none.
func serverOf(user string) string {
	local, server, ok := strings.Cut(user, ":")
	if !ok || len(user) > id.UserIDMaxLength || len(local) < 2 || local[0] != '@' {
		return ""
	}
	return server
}

// Send implements [cheq.Channel]. The homeserver knows a repeated call by its
// transaction, for as long as it remembers those (Synapse: about a day).
func (c *Channel) Send(ctx context.Context, to, key string, v cheq.View) (string, error) {
	if err := c.open(ctx, to); err != nil {
		return "", err
	}
	n, err := render(&v)
	if err != nil {
		return "", err
	}
	return c.put(ctx, to, event.EventMessage.Type, transaction("send", key), n)
}

// Edit implements [cheq.Channel]. The edit carries the same case and digest as
// what it replaces: a card never changes for one case, so a reaction, which
// always refers to the event that was sent first, says yes or no to the same
// thing whichever edit its sender was looking at.
func (c *Channel) Edit(ctx context.Context, to, message string, v cheq.View) error {
	if err := c.open(ctx, to); err != nil {
		return err
	}
	n, err := render(&v)
	if err != nil {
		return err
	}
	edit := n
	edit.NewContent = &n
	edit.RelatesTo = &relation{Type: string(event.RelReplace), Event: message}
	// For clients that know no edits; all is in what replaces.
	edit.Body, edit.Format, edit.FormattedBody = "* "+summary(&v), "", ""
	version := fmt.Sprintf("%s %d %s", message, v.Case.Version, n.Body)
	_, err = c.put(ctx, to, event.EventMessage.Type, transaction("edit", version), edit)
	return err
}

// open refuses rooms that are none, or encrypted.
func (c *Channel) open(ctx context.Context, room string) error {
	if !strings.HasPrefix(room, "!") || len(room) > id.UserIDMaxLength {
		return fmt.Errorf("matrix: %q is no room's id, such as !room:server: %w", room, cheq.ErrGone)
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	err := c.get(ctx, nil, "v3", "rooms", room, "state", event.StateEncryption.Type)
	switch {
	case err == nil:
		return fmt.Errorf("matrix: room %s is encrypted, which this version cannot write or read: name a room without encryption: %w", room, cheq.ErrGone)
	case errors.Is(err, mautrix.MNotFound):
		return nil
	default:
		return failed("look whether the room is encrypted", err)
	}
}

// put sends an event, and returns its id. One transaction is one event.
func (c *Channel) put(ctx context.Context, room, typ, transaction string, content any) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	var sent struct {
		Event string `json:"event_id"`
	}
	at := c.client.BuildClientURL("v3", "rooms", room, "send", typ, transaction)
	if _, err := c.client.MakeRequest(ctx, http.MethodPut, at, content, &sent); err != nil {
		return "", failed("send an event", err)
	}
	if sent.Event == "" || len(sent.Event) > id.UserIDMaxLength {
		return "", errors.New("matrix: send an event: the answer names none")
	}
	return sent.Event, nil
}

// get asks the homeserver for what is at a path. Its errors are the client's
// own, for [failed] to read.
func (c *Channel) get(ctx context.Context, into any, path ...any) error {
	_, err := c.client.MakeRequest(ctx, http.MethodGet, c.client.BuildClientURL(path...), nil, into)
	return err
}

// transaction names what is done once.
func transaction(what, key string) string {
	sum := sha256.Sum256([]byte(what + "\x00" + key))
	return "xiezhi-" + hex.EncodeToString(sum[:16])
}
