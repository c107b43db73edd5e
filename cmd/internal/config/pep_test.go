package config

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// sidecar are flags that are enough to start.
func sidecar() map[string]any {
	return map[string]any{"server": "https://x.example", "token_file": "/t", "trust": "/trust.json", "data": "/d", "tenants": "acme,globex"}
}

func TestASidecarIsConfiguredByFlagsAndItsOwnVariables(t *testing.T) {
	p, err := LoadPEP("", []string{
		"XIEZHI_PEP_LABELS=stage=canary,zone=a", "XIEZHI_PEP_STALE_BOUND=10m", "XIEZHI_LISTEN=0.0.0.0:80", "XIEZHI_SERVER=https://other.example",
	}, sidecar())
	if err != nil {
		t.Fatal(err)
	}
	labels, err := p.LabelMap()
	if err != nil || !maps.Equal(labels, map[string]string{"stage": "canary", "zone": "a"}) {
		t.Errorf("labels %v (%v)", labels, err)
	}
	if p.Listen != "127.0.0.1:8181" || p.StaleBound != 10*time.Minute || p.Server != "https://x.example" || len(p.Tenants) != 2 {
		t.Errorf("%+v", p)
	}
}

func TestASidecarUsesTheVariablesOfTheClientCommands(t *testing.T) {
	flags := sidecar()
	delete(flags, "server")
	delete(flags, "token_file")
	p, err := LoadPEP("", []string{"XIEZHI_SERVER=https://s.example", "XIEZHI_TOKEN_FILE=/token"}, flags)
	if err != nil || p.Server != "https://s.example" || p.TokenFile != "/token" {
		t.Errorf("%+v (%v)", p, err)
	}
}

func TestAServerMindsNoVariableOfASidecar(t *testing.T) {
	if _, err := Load("", []string{"XIEZHI_PEP_LISTEN=127.0.0.1:8181"}, nil); err != nil {
		t.Error(err)
	}
}

func TestASidecarIsRefusedAStartThatCouldNotWork(t *testing.T) {
	for key, change := range map[string]map[string]any{
		"server":       {"server": ""},
		"credential":   {"server": "https://user:secret@x.example"},
		"trust":        {"trust": ""},
		"data":         {"data": ""},
		"tenants":      {"tenants": ""},
		"token_file":   {"token_file": ""},
		"tls_cert":     {"tls_cert": "/c"},
		"labels":       {"labels": "stage"},
		"each key":     {"labels": "a=1,a=2"},
		"stale_bound":  {"stale_bound": "-1s"},
		"unknown keys": {"unknown": "x"},
	} {
		flags := sidecar()
		maps.Copy(flags, change)
		want := strings.Fields(key)[0]
		if _, err := LoadPEP("", nil, flags); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v", key, err)
		}
	}
}
