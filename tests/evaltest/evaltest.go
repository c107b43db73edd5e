package evaltest

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

// The languages that rows are written in.
const (
	Rego  = "rego"
	Cedar = "cedar"
	CEL   = "cel"
)

// Language is one evaluator: Name says which of the languages it takes.
type Language struct {
	Name     string
	Compiler pdp.Compiler
}

// Run takes the evaluator through the suite.
func Run(t *testing.T, l Language) {
	t.Run("rows", func(t *testing.T) {
		for _, r := range slices.Concat(findingRows, numberRows, valueRows, errorRows, contributionRows, surroundingRows) {
			if why, without := r.without[l.Name]; without {
				t.Logf("not in %s: %q: %s", l.Name, r.name, why)
				continue
			}
			t.Run(r.name, func(t *testing.T) { l.row(t, r) })
		}
	})
	t.Run("only the policies asked for are answered, each once", l.answersWhatIsAsked)
	t.Run("a context that has ended denies what is left", l.cancelled)
	t.Run("a rule that takes too long is interrupted", l.interrupted)
	t.Run("explain traces every declared rule", l.explains)
	t.Run("coverage counts both outcomes", l.covers)
	t.Run("parallel evaluations agree", l.parallel)
	t.Run("a rule's digest follows what the rule can reach", l.digests)
	t.Run("odd requests get one outcome each", l.oddRequests)
	t.Run("messages are filled", l.messages)
	t.Run("reads are declared or found", l.reads)
	t.Run("faults have a place", l.faults)
}

// files are a release by path.
type files map[string]string

// load compiles a release as the server does, with this language only.
func (l Language) load(t testing.TB, f files) (*pdp.Release, error) {
	t.Helper()
	var all []bundles.File
	for path, text := range f {
		all = append(all, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(all)
	if err != nil {
		t.Fatal(err)
	}
	return pdp.Compile(context.Background(), 1, content, l.Compiler)
}

func (l Language) compile(t testing.TB, f files) *pdp.Release {
	t.Helper()
	release, err := l.load(t, f)
	if err != nil {
		t.Fatalf("%v\n%s", err, f)
	}
	return release
}

// program compiles policies and what stands beside them.
func (l Language) program(t testing.TB, beside files, policies ...policy) pdp.Program {
	t.Helper()
	return l.compile(t, l.files(beside, policies...)).Programs()[0]
}

func (l Language) files(beside files, policies ...policy) files {
	f := files{}
	for path, text := range beside {
		f[path] = text
	}
	for _, p := range policies {
		path, text := p.render(l.Name)
		f[path] = text
	}
	return f
}

// String lists the files with line numbers, for failures.
func (f files) String() string {
	var b strings.Builder
	for path, text := range f {
		fmt.Fprintf(&b, "--- %s\n", path)
		for i, line := range strings.Split(text, "\n") {
			fmt.Fprintf(&b, "%3d %s\n", i+1, line)
		}
	}
	return b.String()
}

// ask is one request and what the policies say of it. Empty members take the
// defaults of the base request.
type ask struct {
	name         string
	tenant       string // default acme
	subject      string // JSON of the subject's properties
	action       string // default a.do
	resourceType string // default ecs.instance
	properties   string // JSON of the resource's properties; "-": none at all
	context      string // JSON object
	now          string // RFC 3339; default 2026-06-01T08:00:00Z

	want string // see say
	but  map[string]string
}

func (a ask) input(t testing.TB) *pdp.Input {
	t.Helper()
	or := func(text, otherwise string) string {
		if text == "" {
			return otherwise
		}
		return text
	}
	member := func(name, text string) string {
		if text == "" || text == "-" {
			return ""
		}
		return `,"` + name + `":` + text
	}
	text := fmt.Sprintf(`{"tenant":%q,"subject":{"type":"user","id":"li.wei"%s},"action":{"name":%q},"resource":{"type":%q,"id":"r-1"%s}%s}`,
		or(a.tenant, "acme"), member("properties", a.subject), or(a.action, "a.do"),
		or(a.resourceType, "ecs.instance"), member("properties", or(a.properties, "{}")), member("context", a.context))
	v, err := authz.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	r, err := authz.RequestOf(v)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	now, err := time.Parse(time.RFC3339, or(a.now, "2026-06-01T08:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	return &pdp.Input{Request: &r, Value: r.Value(), Now: now}
}

// row is one behaviour.
type row struct {
	name     string
	without  map[string]string // languages that cannot have it, and why
	policies []policy
	beside   files // tables, attributes, templates
	asks     []ask
}

func (l Language) row(t *testing.T, r row) {
	program := l.program(t, r.beside, r.policies...)
	for i, a := range r.asks {
		name := a.name
		if name == "" {
			name = fmt.Sprintf("%d %s%s", i, a.properties, a.context)
		}
		t.Run(name, func(t *testing.T) {
			want, ok := a.but[l.Name]
			if !ok {
				want = a.want
			}
			out := evaluate(t, program, a.input(t))
			if got := say(out); got != want {
				t.Errorf("says %q, want %q\n%s", got, want, l.files(nil, r.policies...))
			}
			for _, o := range out {
				placed(t, o)
			}
		})
	}
}

// evaluate asks every policy and holds the program to one outcome for each.
func evaluate(t testing.TB, p pdp.Program, in *pdp.Input) []pdp.Outcome {
	t.Helper()
	out := p.Evaluate(context.Background(), in, p.Policies(), nil)
	answered := map[*pdp.Policy]int{}
	for _, o := range out {
		answered[o.Policy]++
	}
	for _, policy := range p.Policies() {
		if answered[policy] != 1 {
			t.Fatalf("%s is answered %d times", policy.ID, answered[policy])
		}
	}
	if len(out) != len(p.Policies()) {
		t.Fatalf("%d outcomes for %d policies", len(out), len(p.Policies()))
	}
	return out
}

// say puts outcomes into words: "deny big at /path, review ask; p fails
// policy_error big", sorted, the policy named where there are several.
func say(out []pdp.Outcome) string {
	var all []string
	for _, o := range out {
		prefix := ""
		if len(out) > 1 {
			prefix = strings.TrimPrefix(o.Policy.ID, "platform/") + ": "
		}
		for _, f := range o.Findings {
			text := prefix + f.Rule.Kind.String() + " " + f.Rule.ID
			if f.Path != "" {
				text += " at " + f.Path
			}
			if f.Args.Len() > 0 {
				text += " with " + string(f.Args.AppendJSON(nil))
			}
			all = append(all, text)
		}
		for _, ob := range o.Obligations {
			all = append(all, fmt.Sprintf("%sobligation %s must=%t %s", prefix, ob.ID, ob.Must, ob.Params.AppendJSON(nil)))
		}
		for _, lim := range o.Limits {
			text := fmt.Sprintf("%slimit %s rate=%v burst=%d window=%q cost=%d", prefix, lim.Key, lim.Rate, lim.Burst, lim.Window, lim.Cost)
			if lim.Quota != nil {
				text += fmt.Sprintf(" quota=%d/%s", lim.Quota.Max, lim.Quota.Reset)
			}
			all = append(all, text)
		}
		for _, r := range o.Routes {
			all = append(all, fmt.Sprintf("%sroute %s standby=%q", prefix, r.Pool, r.Standby))
		}
		if o.Err != nil {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%sfails %s %s", prefix, o.Err.Cause, o.Err.Rule)))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// placed checks that what an outcome says leads back to its policy.
func placed(t testing.TB, o pdp.Outcome) {
	t.Helper()
	for _, f := range o.Findings {
		if declared, ok := o.Policy.Rule(f.Rule.ID); !ok || declared != f.Rule {
			t.Errorf("finding %s is not one of the policy's own rules", f.Rule.ID)
		}
	}
	for _, ob := range o.Obligations {
		if _, ok := o.Policy.Rule(ob.Rule); !ok || ob.Policy != o.Policy.ID {
			t.Errorf("obligation %+v does not name its rule", ob)
		}
	}
	for _, lim := range o.Limits {
		if _, ok := o.Policy.Rule(lim.Rule); !ok || lim.Policy != o.Policy.ID {
			t.Errorf("limit %+v does not name its rule", lim)
		}
	}
	for _, r := range o.Routes {
		if _, ok := o.Policy.Rule(r.Rule); !ok || r.Policy != o.Policy.ID {
			t.Errorf("route %+v does not name its rule", r)
		}
	}
	if o.Err == nil {
		return
	}
	if o.Err.File != o.Policy.File || o.Err.Line < 1 || o.Err.Message == "" {
		t.Errorf("error %s:%d %q does not say where; the policy is %s", o.Err.File, o.Err.Line, o.Err.Message, o.Policy.File)
	}
	if rule, ok := o.Policy.Rule(o.Err.Rule); ok && o.Err.Line < rule.Line {
		t.Errorf("error on line %d, before rule %s on line %d", o.Err.Line, rule.ID, rule.Line)
	}
}

// faultsOf compiles what must not compile.
func (l Language) faultsOf(t testing.TB, f files) pdp.Faults {
	t.Helper()
	_, err := l.load(t, f)
	var faults pdp.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("compiled, or failed without faults: %v\n%s", err, f)
	}
	return faults
}
