package cedareval

import (
	"strings"
	"testing"
)

func TestFormatSettlesWhiteSpaceAndKeepsComments(t *testing.T) {
	const ragged = "\r\n\n// @policy({})  \r\n\n\n\n@id(\"a  \")\t\r\npermit (principal, action,  resource) // all \n  when { true };\n\n\n"
	const want = "// @policy({})\n\n@id(\"a  \")\npermit (principal, action,  resource) // all\n  when { true };\n"
	got, err := Format("platform/a.cedar", []byte(ragged))
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	if again, err := Format("platform/a.cedar", got); err != nil || string(again) != want {
		t.Errorf("formatted twice: %q, %v", again, err)
	}
	if got, err := Format("schema.cedarschema", []byte("entity a; // x \n\n\n")); err != nil || string(got) != "entity a; // x\n" {
		t.Errorf("schema: %q, %v", got, err)
	}
}

func TestFormatRefusesWhatDoesNotParse(t *testing.T) {
	for path, text := range map[string]string{
		"a.cedar":            "permit (principal);\n",
		"b.cedar":            "permit (principal, action, resource)",
		"c.cedar":            "\xff",
		"schema.cedarschema": "entity ;",
		"d.cedarschema":      strings.Repeat("(", 1000),
		"e.rego":             "package x",
	} {
		if got, err := Format(path, []byte(text)); err == nil || got != nil || !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}
