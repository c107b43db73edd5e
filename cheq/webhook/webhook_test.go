package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

var (
	testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	secret  = []byte("0123456789abcdef0123456789abcdef")
	other   = []byte("fedcba9876543210fedcba9876543210")
)

// counter is a [cheq.Answers] that notes what it is handed.
type counter struct {
	mu   sync.Mutex
	taps []cheq.Tap
	err  error
}

func (c *counter) Answer(_ context.Context, t cheq.Tap) (cheq.View, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taps = append(c.taps, t)
	return cheq.View{Case: cheq.Case{ID: t.Case, State: cheq.Approved}}, c.err
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.taps)
}

func channel(t testing.TB, answers cheq.Answers, hooks ...Hook) *Channel {
	t.Helper()
	c, err := New(Config{
		Hooks: hooks, Source: "https://xiezhi.example", Answers: answers,
		Now: func() time.Time { return testNow }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pending(t testing.TB) cheq.View {
	t.Helper()
	c := cheq.Case{
		ID: "cheq-1", Tenant: "acme", State: cheq.Pending, Version: 1, Requester: cheq.Person{Tenant: "acme", Name: "user:li.wei"},
		Reason: "a <b>window</b>", GrantFor: time.Hour, DecideBy: testNow.Add(time.Hour),
		Request: authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "x"}, Resource: authz.Entity{Type: "y", ID: "z"}},
	}
	var err error
	if c.Shown, err = c.Card().Digest(); err != nil {
		t.Fatal(err)
	}
	return cheq.View{Case: c, Title: cheq.Text{EN: "Ingress", ZH: "入口"}}
}

// received is a call that a hook got.
type received struct {
	header http.Header
	body   []byte
}

// program serves a hook that answers as handler does, and hands its calls on.
func program(t *testing.T, handler http.HandlerFunc) (url string, calls chan received) {
	calls = make(chan received, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- received{r.Header, body}
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, calls
}

func TestEventsAreSignedAndKnownById(t *testing.T) {
	url, calls := program(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	c := channel(t, &counter{}, Hook{"ops", url, secret, true})
	v := pending(t)
	const key = "cheq-1/webhook/ops"
	ids := map[string]int{}
	look := func(wantType string, version int) {
		t.Helper()
		call := <-calls
		signed, ok := parseSignature(call.header.Get(SignatureHeader))
		if !ok || !signed.by(secret, call.body) || signed.by(other, call.body) || !signed.at.Equal(testNow) {
			t.Fatalf("signature %q does not hold", call.header.Get(SignatureHeader))
		}
		var e struct {
			SpecVersion, ID, Source, Type, Subject, DataContentType string
			Data                                                    struct {
				Version int
				Shown   string
				Card    json.RawMessage
			}
		}
		if err := json.Unmarshal(call.body, &e); err != nil {
			t.Fatal(err)
		}
		if e.SpecVersion != "1.0" || e.Type != wantType || e.Subject != "cheq-1" || e.Source != "https://xiezhi.example" || e.Data.Version != version ||
			!strings.HasPrefix(call.header.Get("Content-Type"), "application/cloudevents+json") {
			t.Errorf("event %s", call.body)
		}
		if digest := bundles.Digest(sha256.Sum256(e.Data.Card)).String(); digest != v.Case.Shown || e.Data.Shown != digest {
			t.Errorf("the card's bytes have the digest %s, the case %s, the event %s", digest, v.Case.Shown, e.Data.Shown)
		}
		ids[e.ID]++
	}
	first, err := c.Send(t.Context(), "ops", key, v)
	if err != nil {
		t.Fatal(err)
	}
	look(opened, 1)
	again, err := c.Send(t.Context(), "ops", key, v)
	if err != nil || again != first {
		t.Fatalf("sent again: %q, %v, want %q", again, err, first)
	}
	look(opened, 1)
	v.Case.Version = 2
	if err := c.Edit(t.Context(), "ops", first, v); err != nil {
		t.Fatal(err)
	}
	look(changed, 2)
	v.Case.Version, v.Case.State = 3, cheq.Approved
	if err := c.Edit(t.Context(), "ops", first, v); err != nil {
		t.Fatal(err)
	}
	look(settled, 3)
	if len(ids) != 3 || ids[first+".1"] != 2 {
		t.Errorf("ids %v: want one for each version", ids)
	}
}

func TestAnswersOfHooksBecomeErrors(t *testing.T) {
	var later *cheq.LaterError
	for _, row := range []struct {
		status int
		after  string
		check  func(error) bool
	}{
		{204, "", func(err error) bool { return err == nil }},
		{410, "", func(err error) bool { return errors.Is(err, cheq.ErrGone) }},
		{404, "", func(err error) bool { return err != nil && !errors.Is(err, cheq.ErrGone) }},
		{429, "7", func(err error) bool { return errors.As(err, &later) && later.After == 7*time.Second }},
		{503, testNow.Add(time.Minute).Format(http.TimeFormat), func(err error) bool { return errors.As(err, &later) && later.After == time.Minute }},
		{503, "999999999", func(err error) bool { return errors.As(err, &later) && later.After == longestWait }},
		{503, "-1", func(err error) bool { return err != nil && !errors.As(err, new(*cheq.LaterError)) }},
		{500, "7", func(err error) bool { return err != nil && !errors.As(err, new(*cheq.LaterError)) }},
	} {
		url, calls := program(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", row.after)
			w.WriteHeader(row.status)
		})
		c := channel(t, &counter{}, Hook{"ops", url, secret, true})
		if _, err := c.Send(t.Context(), "ops", "k", pending(t)); !row.check(err) {
			t.Errorf("%d with Retry-After %q: %v", row.status, row.after, err)
		}
		<-calls
	}
	c := channel(t, &counter{})
	if _, err := c.Send(t.Context(), "ops", "k", pending(t)); !errors.Is(err, cheq.ErrGone) {
		t.Errorf("no such hook: %v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	inner, calls := program(t, func(http.ResponseWriter, *http.Request) {})
	url, outer := program(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inner, http.StatusTemporaryRedirect)
	})
	c := channel(t, &counter{}, Hook{"ops", url, secret, true})
	if _, err := c.Send(t.Context(), "ops", "k", pending(t)); err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Errorf("redirected: %v", err)
	}
	if <-outer; len(calls) != 0 {
		t.Error("the redirect was followed")
	}
}

func TestInternalAddressesAreNotDialled(t *testing.T) {
	for _, address := range []string{
		"127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "100.64.0.1", "0.0.0.0", "0.1.2.3",
		"192.0.0.192", "168.63.129.16", "198.18.0.1", "203.0.113.7", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
		"ff02::1", "fec0::1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:1::1", "2001:db8::1", "100::1",
	} {
		if Public(net.JoinHostPort(address, "443")) == nil {
			t.Errorf("%s may be dialled", address)
		}
	}
	for _, address := range []string{"1.1.1.1", "8.8.8.8", "223.5.5.5", "2606:4700::1111", "2400:3200::1", "::ffff:8.8.8.8"} {
		if err := Public(net.JoinHostPort(address, "443")); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A name is looked at by what it resolves to when it is dialled: here
// localhost, in production whatever a resolver says the second time.
func TestNamesOfInternalAddressesAreNotDialled(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	reached := make(chan struct{}, 1)
	go func() {
		if conn, err := listener.Accept(); err == nil {
			conn.Close()
			reached <- struct{}{}
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, host := range []string{"localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"} {
		c := channel(t, &counter{}, Hook{"ops", "https://" + host + ":" + port + "/token-in-path", secret, false})
		_, err := c.Send(t.Context(), "ops", "k", pending(t))
		if err == nil || strings.Contains(err.Error(), "token-in-path") {
			t.Errorf("%s: %v", host, err)
		}
		if strings.HasPrefix(host, "localhost") && !errors.Is(err, errInternal) {
			t.Errorf("%s: %v, want %v", host, err, errInternal)
		}
	}
	select {
	case <-reached:
		t.Error("an internal address was reached")
	default:
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	good := Hook{"ops", "https://hooks.example/x", secret, false}
	for name, change := range map[string]func(*Hook){
		"no name":      func(h *Hook) { h.Name = "" },
		"slash":        func(h *Hook) { h.Name = "a/b" },
		"plain http":   func(h *Hook) { h.URL = "http://hooks.example" },
		"http inside":  func(h *Hook) { h.URL, h.AllowInternal = "http://10.0.0.1", true },
		"user":         func(h *Hook) { h.URL = "https://u:p4ss@hooks.example" },
		"other scheme": func(h *Hook) { h.URL, h.AllowInternal = "file:///etc/passwd", true },
		"short secret": func(h *Hook) { h.Secret = secret[:31] },
	} {
		h := good
		change(&h)
		_, err := New(Config{Hooks: []Hook{h}, Source: "x", Answers: &counter{}, Now: time.Now, Log: slog.Default()})
		if err == nil || strings.Contains(err.Error(), "p4ss") {
			t.Errorf("%s: %v", name, err)
		}
	}
	twin := good
	twin.Name = "twin"
	if _, err := New(Config{Hooks: []Hook{good, twin}, Source: "x", Answers: &counter{}, Now: time.Now, Log: slog.Default()}); err == nil {
		t.Error("two hooks with one secret were taken")
	}
}
