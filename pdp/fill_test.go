package pdp

import (
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestMessagesAreFilled(t *testing.T) {
	request := authz.MustValue(map[string]any{
		"resource": map[string]any{"size": 4, "tags": []any{"a", "b"}, "a~1b": "odd"},
		"long":     strings.Repeat("页", 50), "rude": "a\x1b\u202eb\u2028c",
	})
	args := authz.MustValue(map[string]any{"size": "own"})
	for text, want := range map[string]string{
		"No {size}.":                        "No own.",
		"{resource.size}":                   "4",
		"{resource.tags.1}":                 "b",
		"{resource.tags.01}":                "?",
		"{resource.tags}":                   `["a","b"]`,
		"{resource.size.deeper}":            "?",
		"{resource.a~1b}":                   "odd",
		"{resource.none} {":                 "? {",
		"{rude}":                            "abc",
		"{long}":                            strings.Repeat("页", 40) + "…",
		"nothing to fill":                   "nothing to fill",
		strings.Repeat("x", 300) + "{size}": strings.Repeat("x", 300) + "own",
	} {
		if got := fillText(text, args, request); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
