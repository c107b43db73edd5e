package regoeval_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
)

func dataQuery(path string, input any) *pdp.DataQuery {
	return &pdp.DataQuery{Tenant: "acme", Path: strings.Split(path, "/"), Input: &input, Strict: true, Now: time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)}
}

func TestAnAnswerThatSharesItsPartsCannotExhaustTheServer(t *testing.T) {
	shared := "x0 := 1\n"
	for i := 1; i <= 60; i++ {
		shared += fmt.Sprintf("x%d := [v | some n in [1, 2]; v := x%d]\n", i, i-1)
	}
	p := compile(t, policy(declared("r")+"deny contains {\"rule\": \"r\"}\n"+shared))
	text, err := p.Query(t.Context(), dataQuery("xiezhi/platform/p", map[string]any{}))
	var failed *pdp.DataError
	if !errors.As(err, &failed) || text != nil || !strings.Contains(failed.Message, "more than") {
		t.Errorf("%.100s %v", text, err)
	}
}

func TestAQueryStopsWhenItsTimeIsOver(t *testing.T) {
	p := compile(t, policy(declared("r")+`deny contains {"rule": "r"} if {
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	some c in numbers.range(1, 100000)
	a + b + c == 0
}`))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := p.Query(ctx, dataQuery("xiezhi/platform/p/deny", map[string]any{}))
	var failed *pdp.DataError
	if !errors.As(err, &failed) || !strings.Contains(string(failed.Detail), `"code":"eval_cancel_error"`) {
		t.Errorf("%v", err)
	}
}

func TestAQuerySeesThePlatformAndItsTenantOnly(t *testing.T) {
	f := twoTenants.with("platform/p.rego", "package xiezhi.platform.p\n"+declared("r")+
		`deny contains {"rule": "r", "path": concat("/", ["", data.xiezhi.tenants[input.resource.id].tables.secrets.of])}`)
	f = f.with("tenants/globex/q.rego", "package xiezhi.tenants.globex.q\n"+declared("r")+`deny contains {"rule": "r"}`)
	p := compile(t, f)
	for path, want := range map[string]string{
		"xiezhi/platform/p/deny": "[]", "xiezhi/tenants/globex/q/deny": "", "xiezhi/tenants/globex/tables": "",
		"xiezhi/tenants/acme/tables/secrets/of": `"acme"`,
	} {
		text, err := p.Query(t.Context(), dataQuery(path, map[string]any{"tenant": "acme", "resource": map[string]any{"id": "globex"}}))
		if err != nil || string(text) != want {
			t.Errorf("%s: %s %v", path, text, err)
		}
	}
}
