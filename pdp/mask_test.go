package pdp_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// tells is a policy whose messages show what it masks.
const tells = `{"id":"tells","name":"Tells","masks":["/resource/properties/password","/resource/properties/keys/*/secret","/resource/properties/a~1b"],"rules":[
	{"id":"all","condition":"true","effect":"ALLOW","message":{"en":"{resource.properties.password} for {resource.properties.cpu}","zh":"{resource.properties.password}"}},
	{"id":"whole","condition":"true","effect":"REVIEW","admits":false,"message":{"en":"{resource.properties.keys}","zh":"{resource.properties.keys}"}}]}`

func TestRecordsHoldNothingThatIsMasked(t *testing.T) {
	j := &journal{}
	p := newPDP(&pdp.Snapshot{Release: compile(t, 1, files{"platform/tells.policy.json": tells})}, func(c *pdp.Config) { c.Recorder = j })
	for name, properties := range map[string]map[string]any{
		"a text":            {"password": "hunter2", "cpu": 2},
		"a number":          {"password": 271828, "cpu": 2},
		"a list":            {"password": []any{"hunter2", map[string]any{"x": "hunter3"}}, "cpu": 2},
		"deep in a list":    {"keys": []any{map[string]any{"secret": "hunter2", "open": "o"}}, "cpu": 2},
		"an escaped name":   {"a/b": "hunter2", "cpu": 2},
		"another form":      {"keys": "hunter2", "cpu": 2},
		"yet another":       {"keys": []any{"hunter2"}, "cpu": 2},
		"a text that spans": {"password": strings.Repeat("hunter2", 100), "cpu": 2},
	} {
		t.Run(name, func(t *testing.T) {
			j.records = nil
			req := request()
			req.Resource.Properties = authz.MustValue(properties)
			d, err := p.Decide(t.Context(), req, pdp.Caller{})
			if err != nil || d.Effect != authz.Review || len(d.Reasons) != 2 {
				t.Fatalf("%+v, %v", d, err)
			}
			record := j.records[0]
			asked, _ := record.Request.MarshalJSON()
			told, _ := record.Decision.MarshalJSON()
			for _, text := range []string{string(asked), string(told)} {
				if strings.Contains(text, "hunter") || strings.Contains(text, "271828") {
					t.Errorf("recorded %s", text)
				}
			}
			if !strings.Contains(string(asked), `"cpu":2`) || record.Decision.ID != d.ID || record.Decision.Effect != d.Effect || len(record.Decision.Reasons) != 2 {
				t.Errorf("recorded %s %s", asked, told)
			}
		})
	}
}

func TestAMaskThatWouldHideNothingIsAFault(t *testing.T) {
	for _, pointer := range []string{"/resource/id", "/resource/properties", "/resource/properties/", "/context", "/properties/password", "/Context/x"} {
		text := strings.Replace(tells, `"/resource/properties/password"`, strconv.Quote(pointer), 1)
		content, err := bundles.NewContent([]bundles.File{{Path: "platform/tells.policy.json", Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pdp.Compile(t.Context(), 1, content, celeval.New()); err == nil || !strings.Contains(err.Error(), "want a JSON pointer") {
			t.Errorf("%s: %v", pointer, err)
		}
	}
}
