//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestInputsAreTheSameInEveryRun(t *testing.T) {
	first, err := generate(inputCount)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) < 1000 {
		t.Errorf("%d inputs, want at least 1,000", len(first))
	}
	second, err := generate(inputCount)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(first, second, func(a, b input) bool {
		return a.request.Value().Equal(b.request.Value()) && reflect.DeepEqual(a.ours, b.ours) && reflect.DeepEqual(a.peers, b.peers)
	}) {
		t.Error("two runs differ")
	}
	distinct := map[[sha256.Size]byte]bool{}
	for _, in := range first {
		text, err := json.Marshal(in.request)
		if err != nil {
			t.Fatal(err)
		}
		distinct[sha256.Sum256(text)] = true
	}
	if len(distinct) < len(first)*9/10 {
		t.Errorf("only %d of %d inputs are distinct", len(distinct), len(first))
	}
}

// The library and OPA must find the same on every input, or the benchmark
// compares different work; and the inputs must exercise every effect.
func TestLibraryFindsWhatOPAFinds(t *testing.T) {
	inputs, content, ours := shipped(t, inputCount)
	theirs, of := peer(t, content, ours, inputs)
	if err := agree(t.Context(), ours, theirs, of, inputs); err != nil {
		t.Error(err)
	}
	effects := map[authz.Effect]int{}
	for i := range inputs {
		d, err := ours.decideMaps(t.Context(), inputs[i].ours)
		if err != nil {
			t.Fatal(err)
		}
		effects[d.Effect]++
	}
	for _, effect := range []authz.Effect{authz.Allow, authz.Review, authz.Deny} {
		if effects[effect] < inputCount/10 {
			t.Errorf("%d of %d inputs give %s: too few to show what it costs (%v)", effects[effect], inputCount, effect, effects)
		}
	}
}

func TestDisagreementIsNoticed(t *testing.T) {
	inputs, content, ours := shipped(t, 20)
	theirs, of := peer(t, content, ours, inputs)
	inputs[7].peers["subject"].(map[string]any)["properties"].(map[string]any)["roles"] = []any{"nobody"}
	if err := agree(t.Context(), ours, theirs, of, inputs); err == nil || !strings.Contains(err.Error(), "input 7") {
		t.Errorf("error %v, want one about input 7", err)
	}
}

// About ten statements apply to any input, however many are loaded, and they
// say the same.
func TestCedarReleasesAnswerAlikeWhateverElseIsLoaded(t *testing.T) {
	inputs, err := generate(50)
	if err != nil {
		t.Fatal(err)
	}
	var answers []string
	for _, others := range []int{0, 200} {
		for _, form := range cedarForms() {
			content, err := form.build(others)
			if err != nil {
				t.Fatal(err)
			}
			e, err := newEngine(t.Context(), content)
			if err != nil {
				t.Fatalf("%s: %v", form.name, err)
			}
			var effects strings.Builder
			for i := range inputs {
				d, err := e.decideMaps(t.Context(), inputs[i].ours)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := findingsOf(&d); err != nil {
					t.Fatalf("%s: %v", form.name, err)
				}
				fmt.Fprintf(&effects, "%s %d\n", d.Effect, len(d.Reasons))
			}
			answers = append(answers, effects.String())
		}
	}
	if len(slices.Compact(slices.Clone(answers))) != 1 {
		t.Errorf("the releases answer differently: %q", answers)
	}
	if !strings.Contains(answers[0], "ALLOW") || !strings.Contains(answers[0], "DENY") {
		t.Errorf("want both effects among the answers: %q", answers[0])
	}
}

func TestContestTakesTurnsAndReportsMedians(t *testing.T) {
	var turns []string
	nth := map[string]int{}
	worker := func(name string, perOp ...time.Duration) side {
		return side{name, func(time.Duration) (sample, error) {
			turns = append(turns, name)
			d := perOp[nth[name]]
			nth[name]++
			return sample{ops: 10, wall: 10 * d, cpu: 20 * d}, nil
		}}
	}
	c, err := contest(t.Context(), "test", 3, time.Second, [2]side{
		worker("a", 999, 10, 50, 30),
		worker("b", 999, 100, 100, 200),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(turns, ""), "abbaabba"; got != want {
		t.Errorf("turns %s, want %s", got, want)
	}
	if a := c.Sides[0]; a.WallPerOp != 30 || a.CPUPerOp != 60 || len(a.Rounds) != 3 {
		t.Errorf("side a: %+v, want the median 30 of 3 rounds, the first left out", a)
	}
	// The rounds' ratios are 0.1, 0.5 and 0.15.
	if c.Ratio != 0.15 {
		t.Errorf("ratio %v, want the median of the rounds' ratios 0.15", c.Ratio)
	}
}

func TestContestEndsWithTheFirstErrorOrTheContext(t *testing.T) {
	broken := errors.New("broken")
	works := side{"works", func(time.Duration) (sample, error) { return sample{ops: 1, wall: 1}, nil }}
	if _, err := contest(t.Context(), "test", 5, 0, [2]side{works, {"fails", func(time.Duration) (sample, error) { return sample{}, broken }}}); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if _, err := contest(t.Context(), "test", 5, 0, [2]side{works, {"idles", func(time.Duration) (sample, error) { return sample{}, nil }}}); err == nil {
		t.Error("a side that did nothing is an error")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := contest(ended, "test", 5, 0, [2]side{works, works}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestGatesPassUpToTheirLimit(t *testing.T) {
	tests := []struct {
		name string
		gate gate
		want bool
	}{
		{"at most, below", atMost(1.15, comparison{Ratio: 1.1}), true},
		{"at most, at the limit", atMost(1.15, comparison{Ratio: 1.15}), true},
		{"at most, above", atMost(1.15, comparison{Ratio: 1.16}), false},
		{"at least, twice as fast", atLeast(1.3, comparison{Ratio: 0.5}), true},
		{"at least, too slow", atLeast(1.3, comparison{Ratio: 0.8}), false},
		{"at most, its aim missed", atMost(2, comparison{Ratio: 1.9}).aiming(1.5), true},
		{"p99, below", p99AtMost(3, comparison{P99Ratio: 2.9}), true},
		{"p99, above", p99AtMost(3, comparison{P99Ratio: 3.1}), false},
		{"p99, not measured", p99AtMost(3, comparison{}), false},
		{"CPU, not measured", cpuAtMost(3, comparison{Ratio: 1}), false},
		{"reported", reported("x", 99), true},
	}
	for _, tt := range tests {
		if tt.gate.Passed != tt.want {
			t.Errorf("%s: passed %v, want %v", tt.name, tt.gate.Passed, tt.want)
		}
	}
}

func TestTableNamesEveryMissedGate(t *testing.T) {
	c := comparison{Name: "race", Ratio: 2, Ratios: []float64{1.5, 2, 3}, Sides: [2]outcome{{Name: "hare", WallPerOp: 2000, CPUPerOp: 1000}, {Name: "tortoise", WallPerOp: 1000}}}
	r := results{Comparisons: []comparison{c}, Gates: []gate{atMost(1, c)}}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hare", "tortoise", "2.000 (1.500–3.000)", "≤ 1.00", "MISSED"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestClientReadsEveryFramingOfAnAnswer(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer secret" || string(body) != `{"a":1}` {
			http.Error(w, "not what was sent", http.StatusTeapot)
			return
		}
		switch r.URL.Path {
		case "/length":
			fmt.Fprint(w, "short")
		case "/chunks":
			fmt.Fprint(w, long[:50_000])
			w.(http.Flusher).Flush()
			fmt.Fprint(w, long[50_000:])
		case "/refused":
			http.Error(w, "because", http.StatusForbidden)
		}
	}))
	defer web.Close()
	host := strings.TrimPrefix(web.URL, "http://")
	c, err := dialClient(host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for range 2 { // the connection is kept, also after a refusal
		for path, want := range map[string]string{"/length": "short", "/chunks": long} {
			if body, err := c.do(prepare(host, path, "secret", []byte(`{"a":1}`))); err != nil || string(body) != want {
				t.Errorf("%s: %d bytes, error %v; want %d bytes", path, len(body), err, len(want))
			}
		}
		if _, err := c.do(prepare(host, "/refused", "secret", []byte(`{"a":1}`))); err == nil || !strings.Contains(err.Error(), "403: because") {
			t.Errorf("error %v, want the status and the body", err)
		}
	}
}

func TestLoadSendsEveryRequestAndMeasures(t *testing.T) {
	seen := make(chan string, 1<<20)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.URL.Path
		fmt.Fprint(w, "ok")
	}))
	defer web.Close()
	host := strings.TrimPrefix(web.URL, "http://")
	var requests [][]byte
	for i := range 5 {
		requests = append(requests, prepare(host, fmt.Sprintf("/%d", i), "", []byte("{}")))
	}
	l, err := newLoad(host, func() time.Duration { return 0 }, 8, requests)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	got, err := l.run(50 * time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.ops != len(seen) || got.ops < 8 || got.wall < 50*time.Millisecond || got.p99 == 0 {
		t.Errorf("%+v after %d requests", got, len(seen))
	}
	paths := map[string]bool{}
	for range got.ops {
		paths[<-seen] = true
	}
	if len(paths) != len(requests) {
		t.Errorf("only %d of %d requests were sent", len(paths), len(requests))
	}
}

func TestResultsAreWrittenWhole(t *testing.T) {
	path := t.TempDir() + "/results.json"
	r := results{Inputs: 1200, Gates: []gate{{Name: "g", Limit: 2, Value: 1, Passed: true}}, Passed: true}
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back results
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&back); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("%+v, error %v; want %+v", back, err, r)
	}
}

// BenchmarkDecide is for profiles: go test -bench Decide -cpuprofile cpu.out ./tests/bench
func BenchmarkDecide(b *testing.B) {
	inputs, _, e := shipped(b, inputCount)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := e.decideMaps(b.Context(), inputs[i%len(inputs)].ours); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRequests is BenchmarkDecide from requests: of all inputs, and of
// those that are allowed.
func BenchmarkRequests(b *testing.B) {
	inputs, _, e := shipped(b, inputCount)
	requests := map[string][]authz.Request{}
	for i := range inputs {
		d, err := e.decideMaps(b.Context(), inputs[i].ours)
		if err != nil {
			b.Fatal(err)
		}
		requests["all"] = append(requests["all"], inputs[i].request)
		requests[d.Effect.String()] = append(requests[d.Effect.String()], inputs[i].request)
	}
	for name, of := range requests {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := e.pdp.Decide(b.Context(), of[i%len(of)], pdp.Caller{Name: "service:bench"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSayable is what [bench.compareSayable] compares.
func BenchmarkSayable(b *testing.B) {
	content, err := sayableRelease(os.DirFS("../../policies"))
	if err != nil {
		b.Fatal(err)
	}
	ours, err := newEngine(b.Context(), content)
	if err != nil {
		b.Fatal(err)
	}
	inputs, err := generate(inputCount)
	if err != nil {
		b.Fatal(err)
	}
	theirs, err := newCedarPeer(inputs)
	if err != nil {
		b.Fatal(err)
	}
	provisions, err := agreeSayable(b.Context(), ours, theirs, inputs)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("xiezhi", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			req, err := provisions[i%len(provisions)].request()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := ours.pdp.Decide(b.Context(), req, pdp.Caller{Name: "service:bench"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cedar-go", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			theirs.decide(&provisions[i%len(provisions)])
		}
	})
}

func TestWaitersAreReleasedOrTheContextEndsThem(t *testing.T) {
	held, _, err := waitTogether(t.Context(), 1000)
	if err != nil || held <= 0 {
		t.Errorf("each holds %v bytes, error %v; want some and all released", held, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := waitTogether(over, 1000); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of waiters that gave up, want that they did", err)
	}
}

// shipped returns n inputs, and the shipped Rego with an engine that decides by it.
func shipped(t testing.TB, n int) ([]input, *bundles.Content, *engine) {
	t.Helper()
	content, err := regoRelease(os.DirFS("../../policies"))
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := generate(n)
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEngine(t.Context(), content)
	if err != nil {
		t.Fatal(err)
	}
	return inputs, content, e
}

// peer returns OPA with the questions of the inputs, and which input asks which.
func peer(t testing.TB, content *bundles.Content, e *engine, inputs []input) (*opa, []int) {
	t.Helper()
	asked, of := questions(e.release.Policies(), inputs)
	o, err := newOPA(t.Context(), content, asked)
	if err != nil {
		t.Fatal(err)
	}
	return o, of
}
