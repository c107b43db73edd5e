package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// openShop opens a shop whose decisions a server makes: it denies large
// machines, and wants the others encrypted.
func openShop(t *testing.T) *httptest.Server {
	t.Helper()
	decisions := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d := authz.Decision{ID: "d1", Effect: authz.Allow, Obligations: []authz.Obligation{{ID: "encrypt_at_rest", Must: true}}}
		if strings.Contains(string(body), `"cpu":64`) {
			d.Effect = authz.Deny
		}
		_, _ = w.Write(d.AppendJSON(nil))
	}))
	t.Cleanup(decisions.Close)
	log := slog.New(slog.DiscardHandler)
	p, err := pep.New(t.Context(), pep.Config{
		Server: decisions.URL, Token: func() (string, error) { return "token", nil }, Tenants: []string{"acme"}, Obligations: obligations(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	handler, err := newShop(p, "acme", log)
	if err != nil {
		t.Fatal(err)
	}
	shop := httptest.NewServer(handler)
	t.Cleanup(shop.Close)
	return shop
}

func call(t *testing.T, shop *httptest.Server, method, path, session, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, shop.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if session != "" {
		req.Header.Set("Authorization", "Bearer "+session)
	}
	resp, err := shop.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func TestTheShopTakesWhatIsAllowedAndNothingElse(t *testing.T) {
	shop := openShop(t)
	order := `{"id":"req-1/web","properties":{"cpu":2}}`
	status, taken := call(t, shop, "POST", "/orders", "session-li.wei", order)
	if status != http.StatusCreated || taken["buyer"] != "li.wei" || taken["encrypted"] != true || taken["decision_id"] != "d1" {
		t.Errorf("%d %v", status, taken)
	}
	for name, tt := range map[string]struct{ session, body, code string }{
		"too large":           {"session-li.wei", `{"id":"req-1/web","properties":{"cpu":64}}`, pep.CodeDenied},
		"nobody is logged in": {"", order, pep.CodeUnmapped},
		"no such session":     {"li.wei", order, pep.CodeUnmapped},
		"an order without id": {"session-li.wei", `{"properties":{"cpu":2}}`, pep.CodeUnmapped},
		"an order twice":      {"session-li.wei", `{"id":"a","id":"b"}`, pep.CodeUnmapped},
		"an order too long":   {"session-li.wei", `{"id":"` + strings.Repeat("x", maxBody) + `"}`, pep.CodeUnmapped},
	} {
		if status, answer := call(t, shop, "POST", "/orders", tt.session, tt.body); status != http.StatusForbidden || answer["code"] != tt.code {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	if status, answer := call(t, shop, "GET", "/status", "", ""); status != 200 || answer["enforced"].(map[string]any)["allowed"] != 1.0 {
		t.Errorf("%d %v", status, answer)
	}
	request := `{"tenant":"acme","subject":{"type":"user","id":"a"},"action":"x","resource":{"type":"y","id":"z"}}`
	if status, answer := call(t, shop, "POST", "/decide", "", request); status != 200 || answer["decided"] != "remote" || answer["effect"] != "ALLOW" {
		t.Errorf("%d %v", status, answer)
	}
}

func TestTheShopListensOnLoopbackOnly(t *testing.T) {
	err := serve(t.Context(), "0.0.0.0:0", http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "not loopback") {
		t.Error(err)
	}
}

func TestTheShopSaysWhatItLacks(t *testing.T) {
	for _, args := range [][]string{nil, {"--server", "http://127.0.0.1:1"}, {"--server", "http://127.0.0.1:1", "--token-file", "t"}} {
		if err := run(t.Context(), args, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "want --") {
			t.Errorf("%v: %v", args, err)
		}
	}
}
