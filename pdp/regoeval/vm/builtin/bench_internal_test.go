package builtin

import (
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// hot are calls as guardrails make them.
var hot = []struct {
	name, args string
	allocates  bool // beside the heap
}{
	{"lte", `[22, 443]`, false},
	{"plus", `[1, 2]`, false},
	{"count", `[[1, 2, 3]]`, false},
	{"sum", `[[1, 2, 3]]`, false},
	{"max", `[[1, 3, 2]]`, false},
	{"sort", `[["b", "a", "c"]]`, false},
	{"internal.member_2", `["b", ["a", "b", "c"]]`, false},
	{"minus", `[{"a", "b"}, {"b"}]`, false},
	{"or", `[{"a", "b"}, {"c"}]`, false},
	{"array.concat", `[["a"], ["b"]]`, false},
	{"object.get", `[{"a": {"b": 1}}, ["a", "b"], 0]`, false},
	{"object.union", `[{"a": 1}, {"b": 2}]`, false},
	{"object.keys", `[{"a": 1, "b": 2}]`, false},
	{"startswith", `["10.0.0.0/8", "10."]`, false},
	{"contains", `["prod-db-1", "db"]`, false},
	{"lower", `["Owner"]`, false},
	{"split", `["a.b.c", "."]`, false},
	{"concat", `["/", ["a", "b", "c"]]`, false},
	{"trim_prefix", `["arn:x", "arn:"]`, false},
	{"replace", `["a-b-c", "-", "_"]`, false},
	{"substring", `["abcdef", 1, 3]`, false},
	{"sprintf", `["port %d of %s", [22, "x"]]`, false},
	{"internal.template_string", `[["port ", {22}]]`, false},
	{"format_int", `[4711, 10]`, false},
	{"regex.match", `["^[a-z][a-z0-9-]{2,30}$", "prod-db-1"]`, false},
	{"glob.match", `["api.*.com", ["."], "api.x.com"]`, false},
	{"net.cidr_contains", `["10.0.0.0/8", "10.1.2.0/24"]`, false},
	{"net.cidr_intersects", `["10.0.0.0/8", "2001:db8::/32"]`, false},
	{"net.cidr_is_valid", `["10.0.0.0/8"]`, false},
	{"strings.any_prefix_match", `["prod-db", ["dev-", "prod-"]]`, false},
	{"time.now_ns", `[]`, false},
	{"time.parse_rfc3339_ns", `["2026-01-02T03:04:05Z"]`, false},
	{"time.weekday", `[[1700000000000000000, "Asia/Shanghai"]]`, false},
	{"time.clock", `[1700000000000000000]`, false},
	{"type_name", `[1]`, false},
	{"to_number", `["4711"]`, false},
	{"units.parse", `["16Gi"]`, false},
	{"semver.compare", `["1.10.0", "1.9.0-rc.1"]`, false},
	{"base64.decode", `["YWJj"]`, false},
	{"json.marshal", `[{"a": [1, "x"]}]`, false},
	{"walk", `[{"a": [1, "x"]}]`, false},
	{"numbers.range", `[1, 10]`, false},
	{"regex.replace", `["a1b2", "[0-9]", "#"]`, true},
	{"regex.find_n", `["[0-9]+", "a1b22", -1]`, true},
}

// BenchmarkBuiltins compares each with OPA's function as the engine would call
// it, its arguments and its result converted: foreign/native is how many times
// as long that takes.
func BenchmarkBuiltins(b *testing.B) {
	for _, call := range hot {
		b.Run(call.name, func(b *testing.B) {
			h := &value.Heap{}
			c := newCall(h)
			args := parsed(b, nil, call.args)
			masked := make([]value.Value, len(args))
			if len(args) > 0 {
				masked[0] = args[0]
			}
			run := func(f Func) time.Duration {
				start := time.Now()
				for range b.N {
					if _, err := f(c, args); err != nil {
						b.Fatal(err)
					}
					h.Reset()
				}
				return time.Since(start)
			}
			f, _ := Lookup(call.name)
			b.ReportAllocs()
			native := run(f)
			b.StopTimer()
			b.ReportMetric(float64(run(foreign(call.name)))/float64(native), "foreign/native")
			if bound := Bind(call.name, masked); bound != nil {
				b.ReportMetric(float64(native)/float64(run(bound)), "native/bound")
			}
		})
	}
}
