package cheq

import (
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
)

func TestTemplatesAreHeldToEachOther(t *testing.T) {
	const fire = "title: {en: Fire, zh: 火警}\nkind: break_glass\ndecide_by: 1h\ngrant_for: {default: 30m, ceiling: 1h}\nreview_within: 24h\n" +
		"notify: [{channel: matrix, to: '!room:example.org'}]\nall_of:\n  - {title: {en: All, zh: 全员}, role: all, approvals: 1}\n"
	named := waiver + "break_glass: fire\n"
	for _, row := range []struct {
		name, fire, path, want string
	}{
		{"as it should be", fire, "approvals/fire.yaml", ""},
		{"in the other extension", fire, "approvals/fire.yml", ""},
		{"under another name", fire, "approvals/flood.yaml", "approvals/waiver.yaml:15: break_glass: there is no approval template \"fire\" of the kind break_glass"},
		{"for no emergency", waiver, "approvals/fire.yaml", "approvals/waiver.yaml:15: break_glass: there is no"},
		{"one that cannot be read is one fault", fire + "more: 1\n", "approvals/fire.yaml", "approvals/fire.yaml:9: "},
	} {
		faults := CheckTemplates([]bundles.File{{Path: row.path, Data: []byte(row.fire)}, {Path: "approvals/waiver.yaml", Data: []byte(named)}})
		if (len(faults) == 1) != (row.want != "") || len(faults) > 0 && !strings.HasPrefix(faults[0].Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, faults, row.want)
		}
	}
}
