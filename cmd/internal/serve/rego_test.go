package serve

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
)

func TestTheConfiguredEngineEvaluatesAndIsCounted(t *testing.T) {
	shipped, err := engine.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for name, compiled := range map[string]bool{"": true, "compiled": true, "both": true, "topdown": false} {
		t.Run(name, func(t *testing.T) {
			c := config.Defaults()
			c.Data, c.RegoEngine = t.TempDir(), name
			var told bytes.Buffer
			core := openLogging(t, c, slog.New(slog.NewTextHandler(&told, nil)))
			if s := core.policies.regoStats(core.PDP.Active()); s.Compiled+s.Topdown != 0 {
				t.Errorf("before a release: %+v", s)
			}
			if _, err := admin.Bootstrap(t.Context(), core.PAP, "root", time.Hour, shipped, false); err != nil {
				t.Fatal(err)
			}
			s := core.policies.regoStats(core.PDP.Active())
			if (s.Compiled > 0) != compiled || (s.Topdown > 0) == compiled || len(s.Settled) != 0 || s.Differences+s.Panics != 0 {
				t.Errorf("%+v", s)
			}
			if n := strings.Count(told.String(), "Rego is ready"); n != 1 {
				t.Errorf("told %d times:\n%s", n, told.String())
			}
		})
	}
	c := config.Defaults()
	c.Data, c.RegoEngine = t.TempDir(), "wasm"
	if _, err := OpenCore(t.Context(), c, nil, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "wasm") {
		t.Errorf("another engine: %v", err)
	}
}
