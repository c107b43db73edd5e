package policies_test

import (
	"context"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/policies"
)

func compile(t *testing.T) *pdp.Release {
	t.Helper()
	content, err := bundles.ReadFS(policies.FS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, regoeval.New(), cedareval.New(), celeval.New())
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func TestEveryCaseHoldsAndReachesEverything(t *testing.T) {
	report := policytest.Run(context.Background(), compile(t), policytest.Options{})
	for _, f := range report.Faults {
		t.Error(f)
	}
	for _, f := range report.Failed {
		t.Errorf("%s:%d: %s: %v", f.File, f.Line, f.Name, f.Differences)
	}
	for _, u := range report.Uncovered {
		t.Error(u)
	}
	t.Logf("%d cases and unit tests hold", report.Passed)
}
