package cedareval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// files are a policy repository: path → text.
type files map[string]string

// attributesFile makes the roles what they are in a real repository.
const attributesFile = `
attributes:
  subject.roles: {trusted: true, source: directory, description: roles}
  resource.landing_zone: {source: cmdb, description: not the caller's to say}
`

// content panics where a path is no path.
func (f files) content() *bundles.Content {
	list := []bundles.File{{Path: pdp.AttributesFile, Data: []byte(attributesFile)}}
	for path, text := range f {
		list = append(list, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(list)
	if err != nil {
		panic(err)
	}
	return content
}

// compile compiles a repository that is expected to be right.
func (f files) compile(t testing.TB) *program {
	t.Helper()
	release, err := pdp.Compile(context.Background(), 1, f.content(), New())
	if err != nil {
		t.Fatal(err)
	}
	return release.Programs()[0].(*program)
}

// faults compiles a repository that is expected to be wrong.
func (f files) faults(t testing.TB) pdp.Faults {
	t.Helper()
	_, err := pdp.Compile(context.Background(), 1, f.content(), New())
	var faults pdp.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("compiled, or failed otherwise: %v", err)
	}
	return faults
}

var testNow = time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)

// request reads a request; what it does not say is filled in.
func request(t testing.TB, text string) *pdp.Input {
	t.Helper()
	v, err := authz.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{
		"tenant":   "acme",
		"subject":  map[string]any{"type": "user", "id": "li.wei"},
		"action":   "ecs.instance.create",
		"resource": map[string]any{"type": "ecs.instance", "id": "web"},
	} {
		if _, given := v.Get(name); !given {
			v = v.With(name, authz.MustValue(value))
		}
	}
	req, err := authz.RequestOf(v)
	if err != nil {
		t.Fatal(err)
	}
	return &pdp.Input{Request: &req, Value: req.Value(), Now: testNow}
}

// say evaluates all policies and returns what they say, one line each finding
// or error.
func (p *program) say(t testing.TB, in *pdp.Input) []string {
	t.Helper()
	return lines(p.Evaluate(t.Context(), in, p.Policies(), nil))
}

func lines(outcomes []pdp.Outcome) []string {
	var said []string
	for _, o := range outcomes {
		for _, f := range o.Findings {
			said = append(said, fmt.Sprintf("%s %s", f.Rule.Kind, f.Rule.ID))
		}
		for _, ob := range o.Obligations {
			said = append(said, fmt.Sprintf("obligation %s by %s", ob.ID, ob.Rule))
		}
		if o.Err != nil {
			said = append(said, fmt.Sprintf("%s %s at %s:%d", o.Err.Cause, o.Err.Rule, o.Err.File, o.Err.Line))
		}
	}
	return said
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestEveryStatementThatHoldsIsAFinding(t *testing.T) {
	p := files{"platform/a.cedar": `
@id("one") permit (principal, action, resource);
@id("two") forbid (principal, action, resource) when { resource.cpu > 2 };
@id("three") @effect("review") forbid (principal, action, resource) when { resource.cpu > 1 };
@id("four") forbid (principal, action, resource) unless { resource.cpu > 1 };
@id("five") @obligation("{\"id\":\"encrypt\",\"params\":{\"with\":\"kms\"}}") permit (principal, action, resource) when { resource.cpu == 4 };
`, "tenants/acme/b.cedar": `@id("one") permit (principal == user::"li.wei", action, resource);`}.compile(t)
	expect(t, p.say(t, request(t, `{"resource":{"type":"ecs.instance","id":"web","properties":{"cpu":4}}}`)),
		"allow one", "deny two", "review three", "allow five", "obligation encrypt by five", "allow one")
}

func TestAnErrorDeniesAndHidesNothing(t *testing.T) {
	p := files{"platform/a.cedar": `
@id("before")
forbid (principal, action, resource);

@id("broken")
forbid (principal, action, resource)
when { true }
when {
  resource.cpu > 2
};
@id("also_broken") permit (principal, action, resource) when { resource.cpu > 2 };
@id("after") forbid (principal, action, resource);
`, "platform/b.cedar": `@id("other") forbid (principal, action, resource);`}.compile(t)
	expect(t, p.say(t, request(t, `{}`)),
		"deny before", "deny after", "policy_error broken at platform/a.cedar:8", "deny other")
	expect(t, p.say(t, request(t, `{"resource":{"type":"ecs.instance","id":"web","properties":{"cpu":"many"}}}`)),
		"deny before", "deny after", "policy_error broken at platform/a.cedar:8", "deny other")
}

func TestPlaceholdersAreFilledFromTheRequest(t *testing.T) {
	p := files{"platform/a.cedar": `// @policy({"reads":["context.run_id"]})
@id("x") @message("{resource.properties.tags.itsm:owner} {subject.id}") @message_zh("{context.run_id} {resource.properties.none} {subject.id}")
@path("/resource/properties/tags")
forbid (principal, action, resource);`}.compile(t)
	in := request(t, `{"resource":{"type":"a","id":"b","properties":{"tags":{"itsm:owner":"li"}}},"context":{"run_id":7}}`)
	finding := p.Evaluate(t.Context(), in, p.Policies(), nil)[0].Findings[0]
	want := `{"context.run_id":7,"resource.properties.none":"?","resource.properties.tags.itsm:owner":"li","subject.id":"li.wei"}`
	if got := string(finding.Args.AppendJSON(nil)); got != want || finding.Path != "/resource/properties/tags" {
		t.Errorf("args %s, path %s", got, finding.Path)
	}
}
