package authz

import "testing"

func TestRequestWritesWhatItsValueHolds(t *testing.T) {
	for name, r := range map[string]Request{
		"bare": {Tenant: "acme", Subject: Entity{Type: "user", ID: "li \"wei\""}, Action: Action{Name: "vm.create"}, Resource: Entity{Type: "vm", ID: "web"}},
		"full": {
			Tenant: "acme", Subject: Entity{Type: "user", ID: "吴", Properties: MustValue(map[string]any{"a": 1})},
			Action:   Action{Name: "vm.create", Properties: MustValue(map[string]any{"dry": true})},
			Resource: Entity{Type: "vm", ID: "web", Properties: MustValue(map[string]any{})}, Context: MustValue(map[string]any{"ip": "::1"}),
		},
	} {
		if got, want := string(r.AppendJSON(nil)), string(r.Value().AppendJSON(nil)); got != want {
			t.Errorf("%s: wrote %s, want %s", name, got, want)
		}
	}
}
