package policies_test

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/policies"
)

var now = time.Date(2026, time.June, 1, 8, 0, 0, 0, time.UTC)

func compile(t testing.TB) *pdp.Release {
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

// decider answers requests by the shipped policies for a subject with every
// duty that a tenant gives, so that only guardrails can deny.
func decider(t testing.TB) func(authz.Request) authz.Decision {
	t.Helper()
	roles := policytest.Answers{"subject.roles": authz.Strings("tenant_admin", "landing_zone_operator")}
	p := pdp.New(pdp.Config{Budget: time.Minute, Now: func() time.Time { return now }, NewID: func() string { return "id" }})
	p.Activate(&pdp.Snapshot{Release: compile(t), Dynamic: &pdp.Dynamic{}, Directory: roles})
	return func(req authz.Request) authz.Decision {
		t.Helper()
		d, err := p.Decide(context.Background(), req, pdp.Caller{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func TestEveryCaseHoldsAndReachesEverything(t *testing.T) {
	report := policytest.Run(t.Context(), compile(t), policytest.Options{})
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

func TestEveryRegoUnitTestHolds(t *testing.T) {
	for _, program := range compile(t).Programs() {
		rego, ok := program.(*regoeval.Program)
		if !ok {
			continue
		}
		results, err := rego.Test(t.Context(), now, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(results) == 0 {
			t.Error("no unit test was found")
		}
		for _, r := range results {
			if !r.Passed {
				t.Errorf("%s:%d: %s: %s", r.File, r.Line, r.Name, r.Why)
			}
		}
	}
}

func TestEveryRuleSaysWhatItIsInBothLanguages(t *testing.T) {
	for _, p := range compile(t).Policies() {
		for _, r := range p.Rules {
			switch name := p.ID + "/" + r.ID; {
			case r.Title.EN == "" || r.Title.ZH == "":
				t.Errorf("%s has no title in one language", name)
			case r.Message.EN == "" || r.Message.ZH == "":
				t.Errorf("%s has no message in one language", name)
			case !slices.Contains([]string{"low", "medium", "high", "critical"}, r.Severity):
				t.Errorf("%s has the severity %q", name, r.Severity)
			case len(r.Requirement) == 0:
				t.Errorf("%s names no requirement", name)
			case r.Template == "" && (r.Kind == pdp.KindReview || r.Waivable):
				t.Errorf("%s names no approval template", name)
			}
		}
	}
}

func TestExamplesAnswerAsTheirNamesSay(t *testing.T) {
	decide := decider(t)
	for name, want := range map[string]authz.Effect{"allow": authz.Allow, "deny": authz.Deny, "review": authz.Review} {
		data, err := fs.ReadFile(policies.FS(), "examples/"+name+".json")
		if err != nil {
			t.Fatal(err)
		}
		var req authz.Request
		if err := req.UnmarshalJSON(data); err != nil {
			t.Fatalf("%s.json: %v", name, err)
		}
		d := decide(req)
		if d.Effect != want {
			t.Errorf("%s.json: effect %v, reasons %+v", name, d.Effect, d.Reasons)
		}
		for _, r := range d.Reasons {
			if strings.Contains(r.Message, "?") || strings.Contains(r.MessageZH, "?") {
				t.Errorf("%s.json: %s/%s: a placeholder found nothing: %s %s", name, r.Policy, r.Rule, r.Message, r.MessageZH)
			}
		}
	}
}

// full are requests with every property that their type has, all allowed or
// under review.
var full = []string{
	`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"ecs.instance.create","resource":{"type":"ecs.instance","id":"r",
	 "properties":{"tenant":"acme","region":"cn-hangzhou","zone_id":"cn-hangzhou-h","name":"web","cpu":2,"memory_gib":4,
	 "instance_type":"ecs.c7.large","image_id":"aliyun_3","disk_gib":40,"encrypted":true,"deletion_protection":true,"user_data":"#!","vpc_id":"vpc-bp1acme0hangzhou",
	 "vswitch_id":"vsw-bp1acme0public","ingress":[{"port":443,"protocol":"tcp","cidrs":["203.0.113.0/24"]}],"public_ip":true,
	 "bandwidth_mbps":5,"data_classification":"internal","tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"ecs.security_group.create","resource":{"type":"ecs.security_group","id":"r",
	 "properties":{"tenant":"acme","region":"cn-hangzhou","name":"web","vpc_id":"vpc-bp1acme0hangzhou","ingress":[{"port":443,"cidrs":["203.0.113.0/24"]}],"tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"rds.instance.create","resource":{"type":"rds.instance","id":"r",
	 "properties":{"tenant":"acme","region":"cn-hangzhou","zone_id":"cn-hangzhou-h","name":"db","engine":"mysql","engine_version":"8.0","cpu":4,"memory_gib":8,
	 "instance_class":"mysql.x2.large.2c","storage_gib":100,"encrypted":true,"deletion_protection":true,"vpc_id":"vpc-bp1acme0hangzhou",
	 "vswitch_id":"vsw-bp1acme0private","ingress":[{"port":3306,"cidrs":["10.8.0.0/16"]}],"data_classification":"internal","tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"oss.bucket.create","resource":{"type":"oss.bucket","id":"r",
	 "properties":{"tenant":"acme","region":"cn-hangzhou","name":"logs","acl":"private","storage_class":"IA","versioning":true,"encrypted":true,"data_classification":"internal","tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"vpc.eip.allocate","resource":{"type":"vpc.eip","id":"r",
	 "properties":{"tenant":"acme","region":"cn-hangzhou","name":"web","instance_id":"i-bp1","bandwidth_mbps":5,"ingress":[{"port":443,"cidrs":["203.0.113.0/24"]}],"tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"ram.policy.create","resource":{"type":"ram.policy","id":"r",
	 "properties":{"tenant":"acme","name":"p","template":"oss-bucket-reader","principal":"svc","policy_document":{"Version":"1","Statement":[]},"tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"ram.role.create","resource":{"type":"ram.role","id":"r",
	 "properties":{"tenant":"acme","name":"p","template":"oss-bucket-reader","policy_document":{"Version":"1","Statement":[]},"tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"ram.user.create","resource":{"type":"ram.user","id":"r",
	 "properties":{"tenant":"acme","name":"p","template":"oss-bucket-reader","policy_document":{"Version":"1","Statement":[]},"tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"service","id":"builder"},"action":"vpc.vswitch.create","resource":{"type":"vpc.vswitch","id":"r",
	 "properties":{"tenant":"acme","region":"cn-hangzhou","zone_id":"cn-hangzhou-h","name":"n","vpc_id":"vpc-bp1acme0hangzhou","cidr":"10.8.16.0/24","tags":TAGS}}}`,
	`{"tenant":"acme","subject":{"type":"service","id":"host"},"action":"plugin.call","resource":{"type":"plugin","id":"invoice-ocr",
	 "properties":{"capability":"extract","region":"cn-hangzhou","environment":"production"}}}`,
}

const fullTags = `{"itsm:tenant_code":"acme","itsm:request_id":"req-42","itsm:expire_at":"2026-12-31T00:00:00Z","itsm:cost_center":"CC-1001","itsm:data_classification":"internal","itsm:owner":"li.wei","itsm:managed":"true","itsm:landing_zone":"true"}`

func fullRequests(t testing.TB) []authz.Request {
	t.Helper()
	requests := make([]authz.Request, len(full))
	for i, text := range full {
		if err := requests[i].UnmarshalJSON([]byte(strings.Replace(text, "TAGS", fullTags, 1))); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return requests
}

func TestObligationsMustBeMetAndCarryTheirParameters(t *testing.T) {
	decide := decider(t)
	for class, days := range map[string]int64{"sensitive": 180, "regulated": 1825} {
		req := fullRequests(t)[0]
		tags, _ := req.Resource.Properties.Get("tags")
		req.Resource.Properties = req.Resource.Properties.
			With("data_classification", authz.StringValue(class)).
			With("tags", tags.With("itsm:data_classification", authz.StringValue(class))).
			With("ingress", authz.MustValue([]any{map[string]any{"port": 22, "cidrs": []any{"10.8.255.0/28"}}})).
			Without("public_ip")
		d := decide(req)
		if d.Effect != authz.Review {
			t.Fatalf("%s: %v, %+v", class, d.Effect, d.Reasons)
		}
		params := map[string]authz.Value{}
		for _, o := range d.Obligations {
			if !o.Must {
				t.Errorf("%s: %s need not be met", class, o.ID)
			}
			params[o.ID] = o.Params
		}
		if v, _ := params["retention"].Get("days"); v.Int() != days {
			t.Errorf("%s: retention is %v days, want %d", class, v.Any(), days)
		}
		if v, _ := params["bastion_access"].Get("instance"); v.Text() != "bastionhost-cn-acme0hz" {
			t.Errorf("%s: the bastion is %q", class, v.Text())
		}
	}
}

func TestFullRequestsAreNotDenied(t *testing.T) {
	decide := decider(t)
	for _, req := range fullRequests(t) {
		if d := decide(req); d.Effect == authz.Deny {
			t.Errorf("%s: %+v", req.Action.Name, d.Reasons)
		}
	}
}

// strange are values of every kind; one of the kind that a property has is no
// fault by itself, save those that no property takes.
var strange = []any{
	nil, true, false, -1, 0.5, authz.MaxInt, -authz.MaxInt, "", "\u202e2", []any{}, []any{nil}, []any{[]any{}},
	map[string]any{}, map[string]any{"0": "x"}, strings.Repeat("x", 40_000),
}

func TestStrangePropertiesAreDeniedAndNamed(t *testing.T) {
	decide := decider(t)
	for _, req := range fullRequests(t) {
		properties := req.Resource.Properties
		for i := range properties.Len() {
			name, good := properties.Name(i), properties.Index(i)
			for _, raw := range strange {
				bad := authz.MustValue(raw)
				if bad.Kind() == good.Kind() && (bad.Kind() == authz.KindBool || bad.Kind() == authz.KindList && bad.Len() == 0 || bad.Text() == "\u202e2" || bad.Kind() == authz.KindObject && name == "tags") {
					continue // its own kind: what it says is judged by the test cases
				}
				req.Resource.Properties = properties.With(name, bad)
				expectNamed(t, decide(req), req, "/resource/properties/"+name)
			}
			expectOddCaseNamed(t, decide, req, properties, name)
		}
	}
}

func TestStrangeTagsAreDeniedAndNamed(t *testing.T) {
	decide := decider(t)
	for _, req := range fullRequests(t) {
		tags, ok := req.Resource.Properties.Get("tags")
		for i := range tags.Len() {
			for _, raw := range strange {
				if !ok || raw == "\u202e2" && tags.Name(i) == "itsm:owner" {
					continue
				}
				name := tags.Name(i)
				changed := req
				changed.Resource.Properties = req.Resource.Properties.With("tags", tags.With(name, authz.MustValue(raw)))
				expectNamed(t, decide(changed), changed, "/resource/properties/tags/"+name)
			}
		}
	}
}

func expectOddCaseNamed(t *testing.T, decide func(authz.Request) authz.Decision, req authz.Request, properties authz.Value, name string) {
	t.Helper()
	odd := strings.ToUpper(name[:1]) + name[1:]
	value, _ := properties.Get(name)
	req.Resource.Properties = properties.Without(name).With(odd, value)
	expectNamed(t, decide(req), req, "/resource/properties/"+odd)
}

// expectNamed expects a DENY by a guardrail that names the place, and no
// policy that fails, save Cedar's where it cannot express the value.
func expectNamed(t *testing.T, d authz.Decision, req authz.Request, place string) {
	t.Helper()
	named := false
	for _, r := range d.Reasons {
		named = named || r.Effect == authz.Deny && (r.Path == place || strings.HasPrefix(r.Path, place+"/"))
		if r.Rule == authz.RuleEvaluationError && r.Cause != string(pdp.CauseUnsupportedValue) {
			t.Errorf("%s: a policy failed: %s: %s", describe(req), r.Location, r.Message)
		}
	}
	if d.Effect != authz.Deny || !named {
		t.Errorf("%s: want DENY at %s, got %v with %+v", describe(req), place, d.Effect, d.Reasons)
	}
}

func describe(req authz.Request) string {
	text, _ := req.MarshalJSON()
	return fmt.Sprintf("%.300s…", text)
}

func BenchmarkDecideReview(b *testing.B) {
	data, err := fs.ReadFile(policies.FS(), "examples/review.json")
	if err != nil {
		b.Fatal(err)
	}
	var req authz.Request
	if err := req.UnmarshalJSON(data); err != nil {
		b.Fatal(err)
	}
	decide := decider(b)
	for b.Loop() {
		decide(req)
	}
}
