package local_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp/local"
	"github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

const (
	quick = "package xiezhi.platform.quick\n# METADATA\n# custom: {id: r}\nallow contains {\"rule\": \"r\"} if input.tenant == \"acme\"\n"
	slow  = "package xiezhi.platform.slow\n# METADATA\n# custom: {id: r}\ndeny contains {\"rule\": \"r\"} if h.w.b == 3\n" +
		"h[x].a := 1 if some x in [\"u\"]\nh[x].b := 2 if {\n\th.u.a == 1\n\tsome x in [\"w\"]\n}\n"
)

func TestAReleaseSaysOnceWhatEvaluatesItsRego(t *testing.T) {
	for name, c := range map[string]struct {
		engine, level     string
		slow              bool
		compiled, topdown int
		settled, compared uint64
	}{
		"all compiled":     {"compiled", "INFO", false, 1, 0, 0, 0},
		"one is not":       {"", "WARN", true, 1, 1, 1, 0},
		"none is to be":    {"topdown", "INFO", true, 0, 2, 0, 0},
		"compared on both": {"both", "WARN", true, 1, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			engine, err := local.ParseRegoEngine(c.engine)
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			e := local.New(local.Options{Rego: local.RegoOptions{Engine: engine, Log: slog.New(slog.NewTextHandler(&log, nil))}})
			files := map[string]string{"platform/quick.rego": quick}
			if c.slow {
				files["platform/slow.rego"] = slow
			}
			compiled, err := e.Compile(t.Context(), 3, content(t, files))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Apply(pep.Change{Release: compiled, Reset: true, Entries: []stream.Entry{}, Position: 1}); err != nil {
				t.Fatal(err)
			}
			if told := log.String(); strings.Count(told, "\n") != 1 || !strings.Contains(told, "level="+c.level) ||
				strings.Contains(told, "platform/slow.rego:") != (c.level == "WARN") {
				t.Errorf("log %s", told)
			}
			decide(t, e, request("read", 1), fresh())
			if s := e.RegoStats(); s.Compiled != c.compiled || s.Topdown != c.topdown || s.Settled["platform/slow"] != c.settled || s.Compared != c.compared || s.Differences+s.Panics != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestStatsBeforeARelease(t *testing.T) {
	if s := local.New(local.Options{}).RegoStats(); s.Compiled+s.Topdown != 0 || s.Settled != nil {
		t.Errorf("%+v", s)
	}
}
