package serve

import (
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestAProgramIsAskedAsItIsConfigured(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.Header.Get("Authorization") != "Bearer s3cret" {
			t.Error("it was asked without its token")
		}
		_, _ = io.WriteString(w, `{"found":true,"value":["user:li.wei"]}`)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fine := config.AttributeSource{
		URL: server.URL, TokenFile: write("token", "s3cret\n"), AllowInternal: true,
		CAFile: write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))),
	}
	for name, row := range map[string]struct {
		change  func(*config.AttributeSource)
		refused string // at the start
		answers bool
	}{
		"as it should be":             {func(*config.AttributeSource) {}, "", true},
		"inside, and not told so":     {func(s *config.AttributeSource) { s.AllowInternal = false }, "", false},
		"of an authority not known":   {func(s *config.AttributeSource) { s.CAFile = "" }, "", false},
		"with no certificates":        {func(s *config.AttributeSource) { s.CAFile = s.TokenFile }, "ca_file", false},
		"with no token":               {func(s *config.AttributeSource) { s.TokenFile = write("empty", "") }, "token_file", false},
		"with a file that is missing": {func(s *config.AttributeSource) { s.TokenFile += "x" }, "token_file", false},
	} {
		s := fine
		row.change(&s)
		before := calls.Load()
		sources, err := openHTTPSources(config.Server{Sources: map[string]config.AttributeSource{"cmdb": s}}, slog.New(slog.DiscardHandler))
		if (err == nil) != (row.refused == "") || err != nil && (!strings.Contains(err.Error(), "sources.cmdb: "+row.refused) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		known := map[string]pdp.AttributeSource{}
		sources.add(known)
		q := pdp.AttributeQuery{Name: "resource.owners", Tenant: "acme", Entity: &authz.Entity{Type: "door", ID: "1"}}
		if _, ok, err := known["cmdb"].Attribute(t.Context(), q); ok != row.answers || (err == nil) != row.answers || calls.Load() > before != row.answers {
			t.Errorf("%s: %v, %v, %d calls", name, ok, err, calls.Load()-before)
		}
		sources.drops()["cmdb"]()
		if _, ok, _ := known["cmdb"].Attribute(t.Context(), q); ok && calls.Load() != before+2 {
			t.Errorf("%s: %d calls after a drop", name, calls.Load()-before)
		}
		sources.close()
	}
}
