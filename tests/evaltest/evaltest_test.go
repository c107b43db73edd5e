package evaltest_test

import (
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/tests/evaltest"
)

func TestRego(t *testing.T) {
	evaltest.Run(t, evaltest.Language{Name: evaltest.Rego, Compiler: regoeval.New()})
}

func TestCedar(t *testing.T) {
	evaltest.Run(t, evaltest.Language{Name: evaltest.Cedar, Compiler: cedareval.New()})
}

func TestCEL(t *testing.T) {
	evaltest.Run(t, evaltest.Language{Name: evaltest.CEL, Compiler: celeval.New()})
}
