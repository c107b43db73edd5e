package cedareval

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// applicable is how many of the loaded statements can apply to benchRequest.
const applicable = 10

const benchRequest = `{
	"subject":{"type":"user","id":"u0","properties":{"roles":["engineer","on_call"]}},
	"action":"ecs.a0",
	"resource":{"type":"ecs.instance","id":"web","properties":{"cpu":2,"memory_gib":4,"region":"cn-hangzhou","data_classification":"internal",
		"ingress":[{"port":443,"cidrs":["203.0.113.0/24"]}],"tags":{"itsm:owner":"li.wei","env":"prod"}}},
	"context":{"run_id":"run-7"}}`

// benchStatements are n statements of three kinds; ten of them can apply.
func benchStatements(n int) []string {
	statements := make([]string, n)
	for i := range statements {
		group := i / applicable
		scope := [...]string{
			fmt.Sprintf(`principal, action == Action::"ecs.a%d", resource`, group),
			fmt.Sprintf(`principal == user::"u%d", action == Action::"ecs.a%d", resource is ecs::instance`, group, group),
			fmt.Sprintf(`principal, action in [Action::"ecs.a%d", Action::"ecs.b%d"], resource is ecs::instance`, group, group),
		}[i%3]
		statements[i] = fmt.Sprintf(`@id("s%d") forbid (%s) when { resource.cpu > 8 || resource.region != "cn-hangzhou" };`, i, scope)
	}
	return statements
}

func benchFile(statements []string) string {
	return `// @policy({"scope":{"actions":["ecs.*"]}})` + "\n" + strings.Join(statements, "\n")
}

// oneFile has all statements in one policy; manyFiles each in a policy of its
// own, all of which the matcher hands over.
func oneFile(n int) files { return files{"platform/p.cedar": benchFile(benchStatements(n))} }

func manyFiles(n int) files {
	f := files{}
	for i, s := range benchStatements(n) {
		f[fmt.Sprintf("platform/p%d.cedar", i)] = benchFile([]string{s})
	}
	return f
}

func BenchmarkEvaluate(b *testing.B) {
	for _, layout := range []struct {
		name string
		of   func(int) files
	}{{"one file", oneFile}, {"a file each", manyFiles}} {
		for _, n := range []int{10, 1_000, 100_000} {
			if n > 1_000 && layout.name != "one file" {
				continue
			}
			b.Run(fmt.Sprintf("%s/%d", layout.name, n), func(b *testing.B) {
				program := layout.of(n).compile(b)
				in, policies := request(b, benchRequest), program.Policies()
				var out []pdp.Outcome
				b.ReportAllocs()
				for b.Loop() {
					out = program.Evaluate(b.Context(), in, policies, out[:0])
				}
			})
		}
	}
}

// BenchmarkCedarGo is cedar-go's own linear scan, the request and the entities
// built once.
func BenchmarkCedarGo(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set, err := cedar.NewPolicySetFromBytes("", []byte(strings.Join(benchStatements(n), "\n")))
			if err != nil {
				b.Fatal(err)
			}
			resource := types.NewEntityUID("ecs::instance", "web")
			properties, _ := read(request(b, benchRequest).Request.Resource.Properties, nil)
			entities := types.EntityMap{resource: {UID: resource, Attributes: properties.(types.Record)}}
			req := cedar.Request{Principal: types.NewEntityUID("user", "u0"), Action: types.NewEntityUID("Action", "ecs.a0"), Resource: resource}
			b.ReportAllocs()
			for b.Loop() {
				cedar.Authorize(set, entities, req)
			}
		})
	}
}

// TestCostFollowsWhatCanApply is the gate: many statements loaded cost at most
// twice what ten cost, to decide and, each, to compile and to hold. It counts
// processor time, which other processes do not spend, in rounds taken in turns.
func TestCostFollowsWhatCanApply(t *testing.T) {
	sizes := []int{10, 1_000, 10_000}
	if os.Getenv("XIEZHI_TEST_LONG") != "" {
		sizes = append(sizes, 100_000)
	}
	programs := map[int]*program{}
	for _, n := range sizes {
		start, before := cpuTime(t), heap()
		programs[n] = oneFile(n).compile(t)
		t.Logf("%d statements: %v and %.0f bytes each", n, (cpuTime(t)-start)/time.Duration(n), (heap()-before)/float64(n))
	}
	in := request(t, benchRequest)
	round := func(n int) time.Duration {
		policies := programs[n].Policies()
		start := cpuTime(t)
		for range 1000 {
			programs[n].Evaluate(t.Context(), in, policies, nil)
		}
		return cpuTime(t) - start
	}
	for _, n := range sizes[1:] {
		var ratios []float64
		round(n)
		for range 15 {
			ratios = append(ratios, float64(round(n))/float64(round(sizes[0])))
		}
		slices.Sort(ratios)
		median := ratios[len(ratios)/2]
		t.Logf("%d statements cost %.2f times what 10 cost", n, median)
		if median > 2 {
			t.Error("want at most 2")
		}
	}
}

func heap() float64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// TestEvaluatingAllocatesLittle is a bound on what one request with ten
// candidates takes: nothing where they are simple, else 17, most of them
// cedar-go's, and more where the race detector empties pools.
func TestEvaluatingAllocatesLittle(t *testing.T) {
	program, in := oneFile(10).compile(t), request(t, benchRequest)
	policies := program.Policies()
	var out []pdp.Outcome
	evaluate := func() { out = program.Evaluate(t.Context(), in, policies, out[:0]) }
	if got := testing.AllocsPerRun(100, evaluate); got > 8 {
		t.Errorf("%v allocations where all is simple, want at most 8", got)
	}
	program.leaveToCedarGo()
	if got := testing.AllocsPerRun(100, evaluate); got > 28 {
		t.Errorf("%v allocations, want at most 28", got)
	}
}

// cpuTime is what this process has used so far, its garbage collection
// included.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
