package pip_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pdp/pip"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const token = "s3cret-token"

// clock is moved by the test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// cmdb is a program that knows attributes, and the source that asks it.
type cmdb struct {
	*pip.HTTP
	clock  clock
	server *httptest.Server
	calls  atomic.Int64
	handle atomic.Pointer[http.HandlerFunc]
}

// newCMDB starts a program that answers by handle. Its configuration is
// changed by change, if there is one.
func newCMDB(t *testing.T, handle http.HandlerFunc, change func(*pip.HTTPConfig)) *cmdb {
	t.Helper()
	c := &cmdb{clock: clock{now: time.Unix(1e9, 0)}}
	c.handle.Store(&handle)
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.calls.Add(1)
		(*c.handle.Load())(w, r)
	}))
	t.Cleanup(c.server.Close)
	config := pip.HTTPConfig{
		Name: "cmdb", URL: c.server.URL + "/attributes", Token: func() (string, error) { return token, nil },
		Dialable: func(string) error { return nil }, Timeout: 10 * time.Second, TTL: time.Minute,
		Now: c.clock.Now, Jitter: func() float64 { return 0.5 }, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&config)
	}
	var err error
	if c.HTTP, err = pip.NewHTTP(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close) // before the server's, which waits for calls
	return c
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func owners(id string) pdp.AttributeQuery {
	return pdp.AttributeQuery{Name: "resource.owners", Tenant: "acme", Entity: &authz.Entity{Type: "ecs.instance", ID: id}}
}

// ask returns the answer as JSON, "" where there is none.
func (c *cmdb) ask(ctx context.Context, q pdp.AttributeQuery) (string, error) {
	v, ok, err := c.Attribute(ctx, q)
	if err != nil || !ok {
		return "", err
	}
	return v.String(), nil
}

// fails asks and expects an error that tells callers nothing of this server.
func (c *cmdb) fails(t *testing.T, id, want string) {
	t.Helper()
	got, err := c.ask(t.Context(), owners(id))
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "cmdb") {
		t.Errorf("%q, %v, want an error with %q", got, err, want)
	}
	for _, secret := range []string{token, "127.0.0.1", "salary"} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells %q: %v", secret, err)
		}
	}
}

func TestAnAnswerIsUsedForItsTimeAndNoLonger(t *testing.T) {
	var body, header atomic.Value
	c := newCMDB(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body.Store(string(data))
		header.Store(r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization") + " " + r.Header.Get("Content-Type"))
		if strings.Contains(string(data), "i-none") {
			_, _ = io.WriteString(w, `{"found":false}`)
			return
		}
		_, _ = io.WriteString(w, `{"found":true,"value":["user:li.wei"]}`)
	}, nil)
	for id, want := range map[string]string{"i-1": `["user:li.wei"]`, "i-none": ""} {
		before := c.calls.Load()
		for _, step := range []struct {
			pass  time.Duration
			calls int64
		}{{0, 1}, {time.Minute - 1, 1}, {1, 2}, {0, 2}} {
			c.clock.pass(step.pass)
			got, err := c.ask(t.Context(), owners(id))
			if err != nil || got != want || c.calls.Load()-before != step.calls {
				t.Errorf("%s after %s: %s, %v, %d calls; want %s and %d", id, step.pass, got, err, c.calls.Load()-before, want, step.calls)
			}
		}
		wantBody := `{"tenant":"acme","entity":{"type":"ecs.instance","id":"` + id + `"},"name":"resource.owners"}`
		if body.Load() != wantBody || header.Load() != "POST /attributes Bearer "+token+" application/json" {
			t.Errorf("asked with %s: %s", header.Load(), body.Load())
		}
	}
	calls := c.calls.Load()
	for _, q := range []pdp.AttributeQuery{
		{Name: "resource.owners", Tenant: "globex", Entity: &authz.Entity{Type: "ecs.instance", ID: "i-1"}},
		{Name: "resource.owner", Tenant: "acme", Entity: &authz.Entity{Type: "ecs.instance", ID: "i-1"}},
		{Name: "resource.owners", Tenant: "acme", Entity: &authz.Entity{Type: "ecs", ID: "instance:i-1"}},
		{Name: "resource.owners", Tenant: "acme", Entity: &authz.Entity{Type: "ecs:instance", ID: "i-1"}},
	} {
		if _, err := c.ask(t.Context(), q); err != nil || c.calls.Load() != calls+1 {
			t.Errorf("%+v is taken for another question: %v", q, err)
		}
		calls = c.calls.Load()
	}
	c.Drop()
	if _, err := c.ask(t.Context(), owners("i-1")); err != nil || c.calls.Load() != calls+1 {
		t.Errorf("after a drop: %d calls, %v", c.calls.Load()-calls, err)
	}
}

func TestTheTimeOfAnAnswerBeginsWhenItIsAskedFor(t *testing.T) {
	var c *cmdb
	c = newCMDB(t, func(w http.ResponseWriter, _ *http.Request) {
		c.clock.pass(time.Minute - 1) // it looked, and took its time
		_, _ = io.WriteString(w, `{"found":true,"value":1}`)
	}, nil)
	for _, step := range []struct {
		pass  time.Duration
		calls int64
	}{{0, 1}, {0, 1}, {1, 2}} {
		c.clock.pass(step.pass)
		if _, err := c.ask(t.Context(), owners("i-1")); err != nil || c.calls.Load() != step.calls {
			t.Errorf("%d calls, want %d, %v", c.calls.Load(), step.calls, err)
		}
	}
}

func TestTheLogNamesNoAddressWithItsQuery(t *testing.T) {
	var text strings.Builder
	c := newCMDB(t, says(`{}`), func(c *pip.HTTPConfig) {
		c.URL += "?key=" + token
		c.Dialable = func(string) error { return errors.New("internal") }
		c.Log = slog.New(slog.NewTextHandler(&text, nil))
	})
	for range 6 {
		c.fails(t, "i-1", "")
	}
	if got := text.String(); !strings.Contains(got, "source=cmdb") || !strings.Contains(got, "internal") || strings.Contains(got, token) || strings.Count(got, "\n") != 1 {
		t.Errorf("logged %s", got)
	}
}

func TestManyWhoAskAtOnceShareOneCallThatOutlivesThem(t *testing.T) {
	called, goOn := make(chan struct{}, 1), make(chan struct{})
	c := newCMDB(t, func(w http.ResponseWriter, _ *http.Request) {
		called <- struct{}{}
		<-goOn
		_, _ = io.WriteString(w, `{"found":true,"value":1}`)
	}, nil)
	impatient, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := c.ask(impatient, owners("i-1")); err == nil {
			t.Error("who left was answered")
		}
	})
	<-called
	leave()
	all.Wait()
	for range 20 {
		all.Go(func() {
			if got, err := c.ask(t.Context(), owners("i-1")); err != nil || got != "1" {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
	close(goOn)
	all.Wait()
	if c.calls.Load() != 1 {
		t.Errorf("%d calls", c.calls.Load())
	}
}

func TestWhatIsDroppedDuringACallIsNotKept(t *testing.T) {
	called, goOn := make(chan struct{}), make(chan struct{})
	c := newCMDB(t, func(w http.ResponseWriter, _ *http.Request) {
		called <- struct{}{}
		<-goOn
		_, _ = io.WriteString(w, `{"found":true,"value":"old"}`)
	}, nil)
	var asked sync.WaitGroup
	asked.Go(func() { _, _ = c.ask(t.Context(), owners("i-1")) })
	<-called
	c.Drop()
	close(goOn)
	asked.Wait()
	answer := says(`{"found":true,"value":"new"}`)
	c.handle.Store(&answer)
	if got, err := c.ask(t.Context(), owners("i-1")); err != nil || got != `"new"` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestAnAnswerThatIsWrongFailsItsOwnQuestionAlone(t *testing.T) {
	elsewhere := newCMDB(t, says(`{"found":true,"value":"stolen"}`), nil)
	echo := `{"found":true,"value":1,"tenant":"acme","name":"resource.owners","entity":{"type":"ecs.instance","id":"%s"}}`
	for name, row := range map[string]struct {
		handle http.HandlerFunc
		want   string
		counts bool // for the breaker
	}{
		"nothing":               {says(""), "not one JSON object", false},
		"a list":                {says(`[]`), "not one JSON object", false},
		"two values":            {says(`{"found":false}{"found":false}`), "not one JSON object", false},
		"a member twice":        {says(`{"found":true,"value":1,"value":"salary"}`), "not one JSON object", false},
		"an unknown member":     {says(`{"found":true,"value":1,"salary":2}`), "not known", false},
		"found as text":         {says(`{"found":"true","value":1}`), "want found", false},
		"no found":              {says(`{"value":1}`), "want found", false},
		"found and no value":    {says(`{"found":true}`), "want found", false},
		"a value and not found": {says(`{"found":false,"value":1}`), "want found", false},
		"for another entity":    {says(fmt.Sprintf(echo, "i-2")), "another question", false},
		"for another tenant":    {says(`{"found":true,"value":1,"tenant":"globex"}`), "another question", false},
		"a huge one":            {says(`{"found":true,"value":"` + strings.Repeat("x", pip.MaxAnswer) + `"}`), "more than", false},
		"a deep one":            {says(`{"found":true,"value":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`), "not one JSON object", false},
		"a huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			_, _ = io.WriteString(w, `{"found":false}`)
		}, "could not be reached", true},
		"a question that it does not take": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "status 404", false},
		"a token that it does not know":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "status 401", true},
		"no content":                       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "status 204", true},
		"a failure":                        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "status 500", true},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.server.URL, http.StatusTemporaryRedirect)
		}, "status 307", true},
		"a connection that breaks": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"found":true,"value":1}`)
		}, "could not be reached", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCMDB(t, row.handle, nil)
			for range 10 {
				c.fails(t, "i-1", "")
			}
			if tripped := c.calls.Load() == 5; tripped != row.counts {
				t.Errorf("%d of 10 questions were sent", c.calls.Load())
			}
			c.clock.pass(time.Minute)
			c.fails(t, "i-1", row.want)
		})
	}
	if elsewhere.calls.Load() != 0 {
		t.Error("a redirect was followed")
	}
	c := newCMDB(t, says(fmt.Sprintf(echo, "i-1")), nil)
	if got, err := c.ask(t.Context(), owners("i-1")); err != nil || got != "1" {
		t.Errorf("an answer that repeats its question: %s, %v", got, err)
	}
}

func TestASlowSourceIsWaitedForNoLongerThanItsTime(t *testing.T) {
	c := newCMDB(t, func(w http.ResponseWriter, r *http.Request) {
		drip := time.NewTicker(time.Millisecond)
		defer drip.Stop()
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, " ")
			w.(http.Flusher).Flush()
			<-drip.C
		}
	}, func(c *pip.HTTPConfig) { c.Timeout = 50 * time.Millisecond })
	for range 5 {
		c.fails(t, "i-1", "in time")
	}
	c.fails(t, "i-1", "is not asked now")
}

func TestABrokenSourceIsLeftAloneAndTriedByOneCall(t *testing.T) {
	down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	c := newCMDB(t, down, nil)
	fine := says(`{"found":true,"value":1}`)
	calls := func(want int64) {
		t.Helper()
		if got := c.calls.Swap(0); got != want {
			t.Errorf("%d calls, want %d", got, want)
		}
	}
	for range 4 {
		c.fails(t, "i-1", "status 503")
	}
	c.handle.Store((*http.HandlerFunc)(&fine))
	if _, err := c.ask(t.Context(), owners("i-0")); err != nil {
		t.Error(err)
	}
	c.handle.Store(&down)
	calls(5)
	for range 5 {
		c.fails(t, "i-1", "status 503") // the count began anew
	}
	calls(5)
	c.fails(t, "i-1", "is not asked now")
	if got, err := c.ask(t.Context(), owners("i-0")); err != nil || got != "1" {
		t.Errorf("what is known: %s, %v", got, err)
	}
	const pause = 7500 * time.Millisecond // 5 s, and half of that by the jitter
	c.clock.pass(pause - 1)
	c.fails(t, "i-1", "is not asked now")
	calls(0)
	c.clock.pass(1)
	c.fails(t, "i-1", "status 503")
	c.fails(t, "i-1", "is not asked now")
	calls(1)

	c.clock.pass(pause)
	called, goOn := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called <- struct{}{}
		<-goOn
		fine(w, r)
	})
	c.handle.Store(&slow)
	var trying sync.WaitGroup
	trying.Go(func() {
		if got, err := c.ask(t.Context(), owners("i-1")); err != nil || got != "1" {
			t.Errorf("%s, %v", got, err)
		}
	})
	<-called
	c.fails(t, "i-2", "is not asked now")
	close(goOn)
	trying.Wait()
	c.handle.Store((*http.HandlerFunc)(&fine))
	if _, err := c.ask(t.Context(), owners("i-2")); err != nil {
		t.Errorf("after it recovered: %v", err)
	}
	calls(2)
}

func TestCallsAreBounded(t *testing.T) {
	called, goOn := make(chan struct{}, 1), make(chan struct{})
	c := newCMDB(t, func(w http.ResponseWriter, _ *http.Request) {
		called <- struct{}{}
		<-goOn
		_, _ = io.WriteString(w, `{"found":true,"value":1}`)
	}, func(c *pip.HTTPConfig) { c.Connections, c.Timeout = 1, 2*time.Second })
	var all sync.WaitGroup
	all.Go(func() {
		c.fails(t, "first", "in time")
	})
	<-called
	for i := range 10 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := c.ask(ctx, owners(fmt.Sprint(i))); err == nil {
				t.Error("a call that had no turn was answered")
			}
		})
	}
	all.Wait()
	if got := c.calls.Load(); got > 2 { // the second may have had its turn as the first ended
		t.Errorf("%d calls at a time", got)
	}
	close(goOn)
}

func TestAnswersOnOneConnectionAreNotTakenForEachOther(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					body := `{"found":true,"value":"i-1's","entity":{"type":"ecs.instance","id":"i-1"}}`
					one := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
					if _, err := io.WriteString(conn, one+one); err != nil {
						return
					}
				}
			}()
		}
	}()
	c := newCMDB(t, says(""), func(c *pip.HTTPConfig) { c.URL = "http://" + listener.Addr().String() })
	for i := range 5 {
		if got, err := c.ask(t.Context(), owners("i-1")); err != nil || got != `"i-1's"` {
			t.Fatalf("%s, %v", got, err)
		}
		if got, err := c.ask(t.Context(), owners(fmt.Sprint("other-", i))); err == nil {
			t.Fatalf("another's answer was taken: %s", got)
		}
		c.Drop()
	}
}

func TestOnlyWhatIsAllowedIsDialled(t *testing.T) {
	refuse := errors.New("internal")
	c := newCMDB(t, says(`{"found":false}`), func(c *pip.HTTPConfig) {
		c.Dialable = func(address string) error {
			if !strings.HasPrefix(address, "127.0.0.1:") {
				t.Errorf("asked of %s", address)
			}
			return refuse
		}
	})
	c.fails(t, "i-1", "could not be reached")
	if c.calls.Load() != 0 {
		t.Error("it was dialled")
	}
	tokenless := newCMDB(t, says(`{"found":false}`), func(c *pip.HTTPConfig) {
		c.Token = func() (string, error) { return "", errors.New("no such file: " + token) }
	})
	tokenless.fails(t, "i-1", "could not be reached")
	torn := newCMDB(t, says(`{"found":false}`), func(c *pip.HTTPConfig) {
		c.Token = func() (string, error) { return token + "\r\nX: y", nil }
	})
	torn.fails(t, "i-1", "could not be reached")
	if tokenless.calls.Load()+torn.calls.Load() != 0 {
		t.Error("asked without the token")
	}
}

func TestTLSIsOfTheAuthoritiesThatAreConfigured(t *testing.T) {
	server := httptest.NewTLSServer(says(`{"found":true,"value":1}`))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(server.Close)
	stranger := newCMDB(t, says(""), func(c *pip.HTTPConfig) { c.URL = server.URL })
	stranger.fails(t, "i-1", "could not be reached")
	known := newCMDB(t, says(""), func(c *pip.HTTPConfig) {
		c.URL, c.RootCAs = server.URL, x509.NewCertPool()
		c.RootCAs.AddCert(server.Certificate())
	})
	if got, err := known.ask(t.Context(), owners("i-1")); err != nil || got != "1" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	called := make(chan struct{})
	c := newCMDB(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the caller has gone
		close(called)
		<-r.Context().Done()
	}, nil)
	var asked sync.WaitGroup
	asked.Go(func() { c.fails(t, "i-1", "in time") })
	<-called
	c.Close()
	asked.Wait()
	stacks := make([]byte, 1<<20)
	if text := string(stacks[:runtime.Stack(stacks, true)]); strings.Contains(text, "pip.(*HTTP)") {
		t.Errorf("goroutines are left:\n%s", text)
	}
	c.fails(t, "i-1", "is not asked any more")
}

func TestAConfigurationThatIsUnsafeIsRefused(t *testing.T) {
	fine := pip.HTTPConfig{Name: "cmdb", URL: "https://cmdb.example/attributes", Dialable: func(string) error { return nil }, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	for name, change := range map[string]func(*pip.HTTPConfig){
		"":                          func(*pip.HTTPConfig) {},
		"required":                  func(c *pip.HTTPConfig) { c.Dialable = nil },
		"loopback alone":            func(c *pip.HTTPConfig) { c.URL = "http://cmdb.example" },
		"without a user":            func(c *pip.HTTPConfig) { c.URL = "https://u:" + token + "@cmdb.example" },
		"url: want":                 func(c *pip.HTTPConfig) { c.URL = "https://cmdb.example/%zz" + token },
		"no less than the timeout":  func(c *pip.HTTPConfig) { c.TTL = time.Millisecond },
		"ttl, connections: want a ": func(c *pip.HTTPConfig) { c.Connections = -1 },
	} {
		c := fine
		change(&c)
		source, err := pip.NewHTTP(c)
		if (err == nil) != (name == "") || err != nil && (!strings.Contains(err.Error(), name) || strings.Contains(err.Error(), token)) {
			t.Errorf("%v, want %q", err, name)
		}
		if source != nil {
			source.Close()
		}
	}
}

func TestWhatReadsAnAttributeIsDeniedWhileTheSourceIsAway(t *testing.T) {
	content, err := bundles.NewContent([]bundles.File{
		{Path: "attributes.yaml", Data: []byte("attributes:\n  resource.level: {trusted: true, source: cmdb}\n")},
		{Path: "platform/doors.policy.json", Data: []byte(`{"id":"doors","name":"Doors","version":"1","rules":[{"id":"low","condition":"resource.properties.level < 3","effect":"ALLOW"}]}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, celeval.New())
	if err != nil {
		t.Fatal(err)
	}
	c := newCMDB(t, says(`{"found":true,"value":2}`), nil)
	p := pdp.New(pdp.Config{Sources: map[string]pdp.AttributeSource{"cmdb": c}, Now: time.Now, NewID: func() string { return "d" }})
	p.Activate(&pdp.Snapshot{Release: release})
	for _, step := range []struct {
		answer, rule, cause string
		want                authz.Effect
	}{
		{`{"found":true,"value":2}`, "low", "", authz.Allow},
		{`{"found":true,"value":3}`, authz.RuleNoAllow, "", authz.Deny},
		{`{"found":false}`, authz.RuleEvaluationError, string(pdp.CausePolicyError), authz.Deny},
		{`oops`, authz.RuleEvaluationError, string(pdp.CauseAttributeUnavailable), authz.Deny},
	} {
		answer := says(step.answer)
		c.handle.Store(&answer)
		c.Drop()
		req := authz.Request{
			Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "open"}, Resource: authz.Entity{Type: "door", ID: "vault"},
		}
		_, _ = c.ask(t.Context(), pdp.AttributeQuery{Name: "resource.level", Tenant: req.Tenant, Entity: &req.Resource}) // a decision does not wait for long
		d, err := p.Decide(t.Context(), req, pdp.Caller{})
		last := d.Reasons[len(d.Reasons)-1]
		if err != nil || d.Effect != step.want || last.Rule != step.rule || last.Cause != step.cause {
			t.Errorf("%s: %s %v, %v", step.answer, d.Effect, d.Reasons, err)
		}
	}
}
