package regoeval_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// mutations is how many requests are made of each one that ships, itself among
// them; forty times as many with XIEZHI_TEST_LONG=1.
const mutations = 2

// TestShippedPoliciesAnswerAlikeOnRequestsThatAreWrong asks both engines about
// the requests of the shipped cases and examples, and about those with members
// that are missing, of another type, far larger, or another's.
func TestShippedPoliciesAnswerAlikeOnRequestsThatAreWrong(t *testing.T) {
	if engine != regoeval.Both {
		t.Skip("the test names its engine")
	}
	count := mutations
	if os.Getenv("XIEZHI_TEST_LONG") == "1" {
		count *= 40
	}
	c := newCompiler(t)
	release := shipped(t, c)
	program := release.Programs()[0].(*regoeval.Program)
	if left := program.Fallbacks(); len(left) > 0 {
		t.Errorf("topdown alone answers for %+v", left)
	}
	m := mutator{Rand: rand.New(rand.NewPCG(1, 2))}
	asked, refused, failed, spoken := 0, 0, 0, map[string]bool{}
	requests := requestsOf(t, release)
	for _, text := range requests {
		for i := range count {
			var doc any
			if err := json.Unmarshal(text, &doc); err != nil {
				t.Fatal(err)
			}
			for range min(i, 1+m.IntN(3)) { // the first is as it ships
				m.mutate(m.part(doc), 0)
			}
			changed, _ := json.Marshal(doc)
			in, ok := inputOf(changed)
			if !ok {
				refused++ // at the door
				continue
			}
			asked++
			before := c.Stats().Differences
			outcomes := program.Evaluate(t.Context(), in, policiesFor(program, in.Request.Tenant), nil)
			if c.Stats().Differences > before {
				t.Fatalf("the engines differ about %s", changed)
			}
			for _, o := range outcomes {
				if o.Err != nil {
					failed++
				}
				for _, f := range o.Findings {
					spoken[o.Policy.ID+"/"+f.Rule.ID] = true
				}
			}
		}
	}
	t.Logf("%d requests, %d asked of them and %d refused; %d errors, %d rules spoke; settled by topdown: %v",
		len(requests), asked, refused, failed, len(spoken), c.Stats().Settled)
	if len(requests) < 100 || asked < count*len(requests)/2 || len(spoken) < 30 {
		t.Error("the requests show little")
	}
}

func shipped(t testing.TB, compiler pdp.Compiler) *pdp.Release {
	t.Helper()
	content, err := bundles.ReadFS(os.DirFS("../../policies"), func(p string) bool { return path.Ext(p) != ".go" })
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, compiler)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// requestsOf are the requests of cases, with the attributes that are answered
// there, and the examples.
func requestsOf(t *testing.T, release *pdp.Release) (all [][]byte) {
	t.Helper()
	cases, _ := policytest.Cases(release) // but those of policies that are not written in Rego
	for i := range cases {
		v := cases[i].Request.Value()
		for name, answer := range cases[i].Answers {
			owner, name, _ := strings.Cut(name, ".")
			if of, ok := v.Get(owner); ok {
				properties, _ := of.Get("properties")
				if properties.Kind() != authz.KindObject {
					properties, _ = authz.ObjectValue()
				}
				v = v.With(owner, of.With("properties", properties.With(name, answer)))
			}
		}
		all = append(all, v.AppendJSON(nil))
	}
	examples, err := fs.Glob(os.DirFS("../../policies"), "examples/*.json")
	if err != nil || len(examples) == 0 {
		t.Fatal(examples, err)
	}
	for _, name := range examples {
		text, err := fs.ReadFile(os.DirFS("../../policies"), name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	return all
}

func inputOf(text []byte) (*pdp.Input, bool) {
	v, err := authz.Parse(text)
	if err != nil {
		return nil, false
	}
	r, err := authz.RequestOf(v)
	if err != nil {
		return nil, false
	}
	return &pdp.Input{Request: &r, Value: r.Value(), Now: clock}, true
}

// mutator changes documents.
type mutator struct{ *rand.Rand }

// part is what a policy reads, or now and then the whole request.
func (m *mutator) part(doc any) any {
	path := [][]string{{"resource", "properties"}, {"resource", "properties"}, {"resource", "properties"}, {"context"}, {"subject", "properties"}, nil}[m.IntN(6)]
	below := doc
	for _, name := range path {
		if of, ok := below.(map[string]any); ok {
			below = of[name]
		}
	}
	if of, ok := below.(map[string]any); ok && len(of) > 0 {
		return of
	}
	return doc
}

// mutate changes one member of the document, at any depth.
func (m *mutator) mutate(doc any, depth int) {
	switch doc := doc.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(doc))
		if len(names) == 0 {
			doc["new"] = m.other(nil)
			return
		}
		name := names[m.IntN(len(names))]
		if below := doc[name]; m.goesOn(below, depth) {
			m.mutate(below, depth+1)
			return
		}
		switch m.IntN(6) {
		case 0:
			delete(doc, name)
		case 1:
			doc[strings.ToUpper(name)] = doc[name]
		case 2:
			with := names[m.IntN(len(names))]
			doc[name], doc[with] = doc[with], doc[name]
		default:
			doc[name] = m.other(doc[name])
		}
	case []any:
		i := m.IntN(len(doc))
		if m.goesOn(doc[i], depth) {
			m.mutate(doc[i], depth+1)
			return
		}
		doc[i] = m.other(doc[i])
	}
}

func (m *mutator) goesOn(below any, depth int) bool {
	switch below := below.(type) {
	case map[string]any:
		return m.IntN(8) != 0 || depth == 0
	case []any:
		return len(below) > 0 && m.IntN(4) != 0
	}
	return false
}

// other is a value of another type, or one that is wider or stranger.
func (m *mutator) other(v any) any {
	if m.IntN(3) == 0 {
		switch v := v.(type) {
		case string:
			return []any{v + v, strings.ToUpper(v), strings.Repeat(v, 200), v + " ", "é" + v, strings.TrimSuffix(v, v[len(v)/2:])}[m.IntN(6)]
		case float64:
			return []any{v + 0.5, -v, v * 1e12, v + 1, 0}[m.IntN(5)]
		case []any:
			return append(slices.Clone(v), v...)
		}
	}
	return []any{
		nil, true, false, 0, -1, 1.5, 1e15, "", "*", "0.0.0.0/0", "::/0", "10.0.0.0/33", "%s%d", "2026-13-45T00:00:00Z", "../..",
		[]any{}, []any{v}, []any{v, v, nil}, map[string]any{}, map[string]any{"a": v}, map[string]any{"": nil},
	}[m.IntN(21)]
}

// BenchmarkShipped evaluates the shipped policies for the examples, into
// outcomes that are used again.
func BenchmarkShipped(b *testing.B) {
	release := shipped(b, newCompiler(b))
	program := release.Programs()[0].(*regoeval.Program)
	for _, name := range []string{"allow", "deny", "review"} {
		text, err := fs.ReadFile(os.DirFS("../../policies"), "examples/"+name+".json")
		if err != nil {
			b.Fatal(err)
		}
		in, ok := inputOf(text)
		if !ok {
			b.Fatal(name)
		}
		asked := policiesFor(program, in.Request.Tenant)
		b.Run(name, func(b *testing.B) {
			var out []pdp.Outcome
			b.ReportAllocs()
			for b.Loop() {
				out = program.Evaluate(b.Context(), in, asked, out[:0])
			}
		})
	}
}
