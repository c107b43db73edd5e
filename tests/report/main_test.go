package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	tests := map[string]struct {
		events string
		ok     bool
		want   []string
		not    string
	}{
		"passing tests are counted, their output is not shown": {
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"pass","Package":"p","Elapsed":1.5}`,
			ok:   true,
			want: []string{"ok    p", "1.50s", "1 passed, 0 failed, 0 skipped"},
			not:  "chatter",
		},
		"a failed test shows its output": {
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p","Elapsed":1}`,
			want: []string{"a_test.go:7: got 1, want 2", "FAIL  p", "  p TestA", "0 passed, 1 failed"},
		},
		"a skipped test is named with its reason": {
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: no disk to fill\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			ok:   true,
			want: []string{"p TestA: a_test.go:3: no disk to fill", "1 passed, 0 failed, 1 skipped"},
		},
		"a build that fails is a failure": {
			events: `{"Action":"build-output","ImportPath":"p.test","Output":"p.go:1: undefined: x\n"}
{"Action":"build-fail","ImportPath":"p.test"}
{"Action":"fail","Package":"p","FailedBuild":"p.test"}`,
			want: []string{"p.go:1: undefined: x", "FAIL  p", "1 failed"},
		},
		"a test that never ended is named, one that had not begun is not": {
			events: `{"Action":"output","Package":"p","Test":"TestHang","Output":"panic: test timed out\n"}
{"Action":"output","Package":"p","Test":"TestLater","Output":"=== PAUSE TestLater\n"}
{"Action":"fail","Package":"p","Elapsed":480}`,
			want: []string{"did not end: TestHang", "panic: test timed out", "1 failed"},
			not:  "TestLater",
		},
		"a package that fails after its tests passed is a failure": {
			events: `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"exit status 66: data race\n"}
{"Action":"fail","Package":"p"}`,
			want: []string{"data race", "1 passed, 1 failed"},
		},
		"nothing run is a failure": {
			events: `{"Action":"skip","Package":"p"}`,
			want:   []string{"no test ran"},
		},
		"a line that is no event is shown": {
			events: "go: cannot find main module\n",
			want:   []string{"go: cannot find main module"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			if err := r.read(strings.NewReader(tt.events)); err != nil {
				t.Fatal(err)
			}
			if ok := r.finish(); ok != tt.ok {
				t.Errorf("finish() = %v, want %v", ok, tt.ok)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the report lacks %q:\n%s", want, out.String())
				}
			}
			if tt.not != "" && strings.Contains(out.String(), tt.not) {
				t.Errorf("the report shows %q:\n%s", tt.not, out.String())
			}
		})
	}
}

func TestSlowestPackagesComeFirst(t *testing.T) {
	var out strings.Builder
	r := newReport(&out)
	for _, e := range []event{
		{Action: "pass", Package: "quick", Test: "T"}, {Action: "pass", Package: "quick", Elapsed: 1},
		{Action: "pass", Package: "slow", Test: "T"}, {Action: "pass", Package: "slow", Elapsed: 9},
	} {
		r.add(e)
	}
	r.finish()
	_, list, _ := strings.Cut(out.String(), "slowest packages (2 in all, 10s of tests)")
	if slow, quick := strings.Index(list, "slow"), strings.Index(list, "quick"); slow < 0 || quick < slow {
		t.Errorf("want slow before quick:\n%s", out.String())
	}
}
