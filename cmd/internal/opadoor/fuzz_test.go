package opadoor

import (
	"bytes"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
)

func FuzzLogs(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{"decision_id":"a","timestamp":"2026-06-01T08:00:00Z","input":{"tenant":"acme"},"result":[1e400]}]`,
		`[{"decision_id":"a","bundles":{"x":{"revision":"r18446744073709551615"}},"error":{"code":"x"}},{"decision_id":"b","erased":["/a"]}]`,
		`[{"decision_id":"a","timestamp":"0000-01-01T00:00:00Z"}`, `{}`, `[[[[`,
	} {
		f.Add([]byte(seed))
	}
	caller := access.Caller{Type: "service", ID: "agent", Tenant: "acme"}
	f.Fuzz(func(t *testing.T, body []byte) {
		_ = readEvents(bytes.NewReader(body), func(e *event, _ int) error {
			id := recordID(caller, e)
			if e.DecisionID == "" || len(id) != 26 || id[0] > '7' || id != recordID(caller, e) {
				t.Errorf("%+v has the id %s", e, id)
			}
			if revision := revisionOf(e.Bundles); revision != "" && revision[0] != 'r' {
				t.Error(revision)
			}
			_, _ = plain(e.Input), plain(e.Result)
			return nil
		})
	})
}

func FuzzStatus(f *testing.F) {
	for _, seed := range []string{
		`{"labels":{"id":"a","version":"1.22.2"},"bundles":{"x":{"active_revision":"r1","errors":[{}]}}}`,
		`{"labels":{"id":"a"},"bundle":{"name":"x","code":"y"}}`, `{"labels":{"id":"\u0000"}}`, `{}`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := readReport(bytes.NewReader(body))
		if err != nil {
			return
		}
		p := r.pep(access.Caller{Type: "service", ID: "agent", Tenant: "acme"}, time.Unix(0, 0))
		if _, err := pap.NewestPEPs([]pap.PEP{p}); err != nil || p.Tenant != "acme" || len(p.Tenants) != 1 {
			t.Errorf("%+v: %v", p, err)
		}
	})
}
