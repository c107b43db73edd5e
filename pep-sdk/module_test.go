package pep_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A service that embeds the SDK carries these modules and no others.
func TestTheModuleAloneStaysSmall(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	allowed := []string{
		"github.com/xiezhi-project/xiezhi/pep-sdk", "github.com/xiezhi-project/xiezhi/bundles",
		"github.com/coder/websocket",
		"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/trace", "go.opentelemetry.io/otel/metric",
		"go.opentelemetry.io/auto/sdk", "github.com/go-logr/logr", "github.com/go-logr/stdr", "github.com/cespare/xxhash/v2", // of OpenTelemetry's API
	}
	known := map[string]bool{"": true}
	for _, module := range allowed {
		known[module] = true
	}
	for module := range strings.Lines(string(out)) {
		if module = strings.TrimSpace(module); !known[module] {
			known[module] = true
			t.Errorf("the SDK pulls %s", module)
		}
	}
}
