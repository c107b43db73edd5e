package celeval_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// files are a release by path.
type files map[string]string

// load compiles a whole release as the server does, with rule documents only.
func load(t testing.TB, f files) (*pdp.Release, error) {
	t.Helper()
	var all []bundles.File
	for path, text := range f {
		all = append(all, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(all)
	if err != nil {
		t.Fatal(err)
	}
	return pdp.Compile(context.Background(), 1, content, celeval.New())
}

func compile(t testing.TB, f files) pdp.Coverable {
	t.Helper()
	release, err := load(t, f)
	if err != nil {
		t.Fatal(err)
	}
	return release.Programs()[0].(pdp.Coverable)
}

// faults compiles what must not compile.
func faults(t testing.TB, f files) pdp.Faults {
	t.Helper()
	_, err := load(t, f)
	var faults pdp.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("compiled, or failed without faults: %v", err)
	}
	return faults
}

// rules is a platform document with the given JSON rules.
func rules(text string) files {
	return files{"platform/test.policy.json": `{"id":"test","rules":[` + text + `]}`}
}

// when is a platform document with one DENY.
func when(condition string) files {
	return rules(`{"effect":"DENY","condition":` + string(authz.AppendQuoted(nil, condition)) + `}`)
}

func input(t testing.TB, request string) *pdp.Input {
	t.Helper()
	v, err := authz.Parse([]byte(request))
	if err != nil {
		t.Fatal(err)
	}
	r, err := authz.RequestOf(v)
	if err != nil {
		t.Fatal(err)
	}
	return &pdp.Input{Request: &r, Value: r.Value(), Now: time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)}
}

const request = `{"tenant":"acme","subject":{"type":"user","id":"li.wei","properties":{"roles":["engineer","auditor"]}},
	"action":"agent.register",
	"resource":{"type":"ecs.instance","id":"req-42/web","properties":{
		"cpu":2,"memory_gib":4.0,"load":0.5,"nothing":null,"tiny":0.00001,"big":9007199254740991,"small":-9007199254740991,
		"ingress":[{"port":443,"cidrs":["203.0.113.0/24"]},{"port":22,"cidrs":["0.0.0.0/0"]}],
		"tags":{"itsm:owner":"li.wei"},"nfc":"\u00e9","nfd":"e\u0301"}},
	"context":{"run_id":"run-7","source_ip":"198.51.100.7"}}`

// evaluate asks every policy of the program.
func evaluate(t testing.TB, p pdp.Program, in *pdp.Input) []pdp.Outcome {
	t.Helper()
	out := p.Evaluate(context.Background(), in, p.Policies(), nil)
	if len(out) != len(p.Policies()) {
		t.Fatalf("%d outcomes for %d policies", len(out), len(p.Policies()))
	}
	return out
}

func found(o pdp.Outcome) []string {
	var ids []string
	for _, f := range o.Findings {
		ids = append(ids, f.Rule.Kind.String()+" "+f.Rule.ID)
	}
	return ids
}
