package regoeval_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
)

// guardrails are policies of the kind that ships: sets that scan lists, look
// up tables of the tenant and call a library.
var guardrails = files{
	"tables/regions.yaml": "tenants: {acme: {allowed: [cn-hangzhou, cn-shanghai]}}",
	"platform/network.rego": `package xiezhi.platform.network

import data.xiezhi.platform.lib.ports

` + declared("admin_port") + `deny contains {"rule": "admin_port", "path": sprintf("/resource/properties/ingress/%d", [i]), "args": {"port": object.get(entry, "port", "a range")}} if {
	some i, entry in input.resource.properties.ingress
	some port in [22, 3389]
	ports.opens(entry, port)
}

` + declared("only_443") + `deny contains {"rule": "only_443", "path": sprintf("/resource/properties/ingress/%d", [i])} if {
	some i, entry in input.resource.properties.ingress
	not ports.opens(entry, 443)
}

` + declared("public") + `review contains {"rule": "public", "path": sprintf("/resource/properties/ingress/%d", [i])} if {
	some i, entry in input.resource.properties.ingress
	some cidr in entry.cidrs
	not startswith(cidr, "10.")
}

obligations contains {"rule": "public", "id": "flow_log", "params": {"days": 30}} if count(review) > 0
`,
	"platform/lib/ports.rego": `package xiezhi.platform.lib.ports

opens(entry, port) if entry.port == port

opens(entry, port) if {
	entry.from <= port
	port <= entry.to
}`,
	"platform/regions.rego": `package xiezhi.platform.regions

allowed := data.xiezhi.tenants[input.tenant].tables.regions.allowed

` + declared("region") + `deny contains {"rule": "region", "args": {"allowed": allowed}} if not input.resource.properties.region in allowed
`,
	"platform/sizes.rego": `package xiezhi.platform.sizes

` + declared("size") + `deny contains {"rule": "size"} if not [input.resource.properties.cpu, input.resource.properties.memory_gib] in {[2, 4], [4, 8], [8, 16]}

` + declared("roles") + `allow contains {"rule": "roles"} if startswith(input.action.name, "ecs.")
`,
	"platform/tags.rego": `package xiezhi.platform.tags

` + declared("tag_missing") + `deny contains {"rule": "tag_missing", "path": concat("", ["/resource/properties/tags/", tag]), "args": {"tag": tag}} if {
	some tag in ["itsm:owner", "itsm:tenant_code", "itsm:cost_center", "itsm:expire_at"]
	not input.resource.properties.tags[tag]
}
`,
}

const guardrailRequest = `{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"ecs.instance.create",
	"resource":{"type":"ecs.instance","id":"req-42/web","properties":{"cpu":2,"memory_gib":4,"region":"cn-hangzhou",
		"ingress":[{"port":443,"cidrs":["203.0.113.0/24"]},{"from":20,"to":30,"cidrs":["10.0.0.0/8"]}],
		"data_classification":"internal","tags":{"itsm:owner":"li.wei","itsm:tenant_code":"acme"}}},
	"context":{"source_ip":"198.51.100.7","run_id":"run-7"}}`

// preparedQuery asks OPA itself the joint question, with Go maps in.
func preparedQuery(b *testing.B, f files, p pdp.Program) func(ctx context.Context, input map[string]any) {
	b.Helper()
	var members []string
	for _, policy := range p.Policies() {
		seen := map[pdp.RuleKind]bool{}
		for _, r := range policy.Rules {
			seen[r.Kind] = true
		}
		if policy.ID == "platform/network" {
			seen[pdp.KindObligation] = true // whose rule is declared elsewhere
		}
		for kind := range seen {
			members = append(members, fmt.Sprintf("%q: data.xiezhi.%s.%s", policy.ID+"/"+kind.String(), strings.ReplaceAll(policy.ID, "/", "."), kind))
		}
	}
	options := []func(*rego.Rego){
		rego.Query("findings := {" + strings.Join(members, ", ") + "}"), rego.StrictBuiltinErrors(true),
		rego.Store(inmem.NewFromObject(map[string]any{"xiezhi": map[string]any{"tenants": map[string]any{"acme": map[string]any{"tables": map[string]any{
			"regions": map[string]any{"allowed": []any{"cn-hangzhou", "cn-shanghai"}}}}}}})),
	}
	for path, text := range f {
		if strings.HasSuffix(path, ".rego") {
			options = append(options, rego.Module(path, text))
		}
	}
	prepared, err := rego.New(options...).PrepareForEval(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return func(ctx context.Context, input map[string]any) {
		results, err := prepared.Eval(ctx, rego.EvalInput(input), rego.EvalTime(clock))
		if err != nil || len(results) != 1 {
			b.Fatal(results, err)
		}
	}
}

// BenchmarkEvaluate compares with OPA's prepared query on the same modules, in
// turns; "x-opa" is our time divided by its. tests/bench holds the gate.
func BenchmarkEvaluate(b *testing.B) {
	p := compile(b, guardrails)
	in := input(b, guardrailRequest)
	if got, want := spoke(p.Evaluate(b.Context(), in, p.Policies(), nil)),
		"platform/network/admin_port platform/network/only_443 platform/network/public platform/sizes/roles platform/tags/tag_missing platform/tags/tag_missing"; got != want {
		b.Fatalf("spoke: %s", got)
	}
	opa, maps := preparedQuery(b, guardrails, p), in.Value.Any().(map[string]any)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	const turn = 50
	var ours, theirs time.Duration
	rounds := 0
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range turn {
			in.Value = in.Request.Value() // the core builds it for each decision
			p.Evaluate(ctx, in, p.Policies(), nil)
		}
		middle := time.Now()
		b.StopTimer()
		for range turn {
			opa(ctx, maps)
		}
		ours, theirs = ours+middle.Sub(start), theirs+time.Since(middle)
		rounds++
		b.StartTimer()
	}
	b.ReportMetric(float64(ours)/float64(theirs), "x-opa")
	b.ReportMetric(float64(ours)/float64(rounds*turn), "ns/decision")
}

// BenchmarkCompile compiles many policies with and without a plan, in turns;
// "x-topdown" is the time with divided by the time without.
func BenchmarkCompile(b *testing.B) {
	f := files{}
	for i := range 200 {
		text := strings.Replace(guardrails["platform/network.rego"], "package xiezhi.platform.network", fmt.Sprintf("package xiezhi.platform.p%d", i), 1)
		f[fmt.Sprintf("platform/p%d.rego", i)] = text
	}
	f["platform/lib/ports.rego"] = guardrails["platform/lib/ports.rego"]
	var with, without time.Duration
	for b.Loop() {
		for e, spent := range map[regoeval.Engine]*time.Duration{regoeval.Compiled: &with, regoeval.Topdown: &without} {
			start := time.Now()
			if _, err := loadWith(b, regoeval.NewWith(regoeval.Options{Engine: e}), f); err != nil {
				b.Fatal(err)
			}
			*spent += time.Since(start)
		}
	}
	b.ReportMetric(float64(with)/float64(without), "x-topdown")
}
