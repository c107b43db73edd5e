package pepfiber

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// rig is a fiber service with a PEP in its routes, and a decision server that
// denies deletions and keeps what it is asked.
type rig struct {
	t     *testing.T
	url   string
	asked chan authz.Request
	ran   chan string // decisions under which handlers ran
}

func newRig(t *testing.T, config fiber.Config, mapper func(c *fiber.Ctx) (authz.Request, error)) *rig {
	t.Helper()
	r := &rig{t: t, asked: make(chan authz.Request, 10), ran: make(chan string, 10)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, call *http.Request) {
		body, _ := io.ReadAll(call.Body)
		value, err := authz.Parse(body)
		if err != nil {
			t.Error(err)
		}
		req, err := authz.RequestOf(value)
		if err != nil {
			t.Error(err)
		}
		r.asked <- req
		d := authz.Decision{ID: "d1", Effect: authz.Allow}
		switch req.Action.Name {
		case "order.delete":
			d.Effect = authz.Deny
			d.Reasons = []authz.Reason{{Policy: "p", Rule: "r", Effect: authz.Deny, Message: "No."}}
		case "order.encrypt":
			d.Obligations = []authz.Obligation{{ID: "unknown", Must: true}}
		}
		_, _ = w.Write(d.AppendJSON(nil))
	}))
	t.Cleanup(server.Close)
	p, err := pep.New(t.Context(), pep.Config{
		Server: server.URL, Token: func() (string, error) { return "token", nil }, Tenants: []string{"acme"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	config.DisableStartupMessage = true
	app := fiber.New(config)
	guard := New(p, mapper, nil)
	handler := func(c *fiber.Ctx) error {
		answer, _ := pep.DecisionFrom(c.UserContext())
		r.ran <- answer.ID
		return c.SendString("done")
	}
	app.Get("/orders/:id", guard, handler)
	app.Delete("/orders/:id", guard, handler)
	app.Put("/orders/:id", guard, handler)
	app.Post("/orders", guard, func(*fiber.Ctx) error { return fiber.NewError(http.StatusTeapot, "the handler's own") })
	app.Use("/elsewhere", guard, handler)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(app.Shutdown(), <-served); err != nil {
			t.Error(err)
		}
	})
	r.url = "http://" + ln.Addr().String()
	return r
}

func (r *rig) do(method, path string) (int, pep.Refusal) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	var refusal pep.Refusal
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.NewDecoder(resp.Body).Decode(&refusal); err != nil {
			r.t.Fatal(err)
		}
	}
	return resp.StatusCode, refusal
}

func li(*fiber.Ctx) (string, authz.Entity, error) {
	return "acme", authz.Entity{Type: "user", ID: "li.wei"}, nil
}

func rules() map[string]Rule {
	return map[string]Rule{
		"GET /orders/:id":    {Action: "order.read", Type: "order", ID: "id"},
		"DELETE /orders/:id": {Action: "order.delete", Type: "order", ID: "id"},
		"PUT /orders/:id":    {Action: "order.encrypt", Type: "order", ID: "id"},
		"POST /orders":       {Action: "order.create", Type: "order"},
	}
}

func TestAHandlerRunsOnlyWhereItIsAllowed(t *testing.T) {
	tests := map[string]struct {
		method, path string
		status       int
		code         string
		ran          bool
	}{
		"allowed":                         {"GET", "/orders/7", 200, "", true},
		"HEAD is what GET is":             {"HEAD", "/orders/7", 200, "", true},
		"denied":                          {"DELETE", "/orders/7", 403, pep.CodeDenied, false},
		"an unknown obligation":           {"PUT", "/orders/7", 403, pep.CodeUnmet, false},
		"the handler's own error":         {"POST", "/orders", http.StatusTeapot, "", false},
		"an escaped id, left escaped":     {"GET", "/orders/%61", 403, pep.CodeUnmapped, false},
		"a place that has no template":    {"GET", "/elsewhere/7", 403, pep.CodeUnmapped, false},
		"an id that is too long to count": {"GET", "/orders/" + strings.Repeat("x", 2000), 403, pep.CodeUnmapped, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fiber.Config{}, Table(li, rules()))
			status, refusal := r.do(tt.method, tt.path)
			if status != tt.status || refusal.Code != tt.code || len(r.ran) > 0 != tt.ran {
				t.Errorf("%d %+v, ran %d times", status, refusal, len(r.ran))
			}
			if tt.ran && <-r.ran != "d1" {
				t.Error("the handler had no decision")
			}
		})
	}
}

func TestAnUnescapedIDIsWhatTheHandlerSees(t *testing.T) {
	r := newRig(t, fiber.Config{UnescapePath: true}, Table(li, rules()))
	r.do("GET", "/orders/first%20one")
	if req := <-r.asked; req.Resource.ID != "first one" || req.Action.Name != "order.read" || req.Subject.ID != "li.wei" {
		t.Errorf("asked for %+v", req)
	}
}

// keeper keeps what it is asked, as an engine's records do.
type keeper struct{ kept []authz.Request }

func (k *keeper) Guard(ctx context.Context, req authz.Request, do func(context.Context) error) error {
	k.kept = append(k.kept, req)
	return do(ctx)
}

// Fiber reuses a request's memory for the next one.
func TestWhatIsAskedIsCopiedOutOfTheCall(t *testing.T) {
	k := &keeper{}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	mapper := Table(func(c *fiber.Ctx) (string, authz.Entity, error) {
		return c.Get("Tenant"), authz.Entity{Type: "user", ID: c.Get("User")}, nil
	}, rules())
	app.Get("/orders/:id", New(k, mapper, nil), func(c *fiber.Ctx) error { return c.SendString("done") })
	handler := app.Handler()
	var call fasthttp.RequestCtx // one for both, as on one connection
	for _, text := range []string{"first", "other"} {
		call.Request.Reset()
		call.Request.SetRequestURI("/orders/" + text)
		call.Request.Header.Set("Tenant", text)
		call.Request.Header.Set("User", text)
		handler(&call)
	}
	if first := k.kept[0]; first.Resource.ID != "first" || first.Tenant != "first" || first.Subject.ID != "first" {
		t.Errorf("the first call's request became %+v", first)
	}
}

func TestAMapperThatFailsOrPanicsRefuses(t *testing.T) {
	for name, mapper := range map[string]Mapper{
		"fails":       func(*fiber.Ctx) (authz.Request, error) { return authz.Request{}, errors.New("cause") },
		"panics":      func(*fiber.Ctx) (authz.Request, error) { panic("cause") },
		"no identity": Table(nil, rules()),
		"nobody":      Table(func(*fiber.Ctx) (string, authz.Entity, error) { return "", authz.Entity{}, nil }, rules()),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fiber.Config{}, mapper)
			if status, refusal := r.do("GET", "/orders/7"); status != 403 || refusal.Code != pep.CodeUnmapped || len(r.ran) > 0 || len(r.asked) > 0 {
				t.Errorf("%d %+v", status, refusal)
			}
		})
	}
}
