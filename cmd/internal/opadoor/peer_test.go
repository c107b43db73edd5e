//go:build unix

package opadoor_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/xiezhi-project/xiezhi/cmd/internal/opabundle"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/tests/evaltest"
	"github.com/xiezhi-project/xiezhi/tests/process"
)

// stock builds the stock OPA once.
var stock = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "xiezhi-opa-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "opa")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "./opa")
	build.Dir = "../../../tests/peers"
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the stock OPA: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return path, nil
})

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer func() {
		if path, err := stock(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path)) // a temporary folder
		}
	}()
	return m.Run()
}

// agent is a stock `opa run` that polls the rig's door long.
type agent struct {
	rig  *rig
	name string // of its bundle
	url  string
	log  string // file
}

// config is what docs/opa.md shows, with shorter times.
func (r *rig) config(name, token string) string {
	der, err := x509.MarshalPKIXPublicKey(r.key.Public())
	if err != nil {
		r.t.Fatal(err)
	}
	public := strings.ReplaceAll(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))), "\n", "\n      ")
	return `services:
  xiezhi:
    url: ` + r.door + `
    credentials: {bearer: {token: ` + token + `}}
keys:
  ` + kid + `:
    algorithm: ES256
    key: |
      ` + public + `
bundles:
  xiezhi:
    service: xiezhi
    resource: bundles/` + name + `
    polling: {long_polling_timeout_seconds: 30, min_delay_seconds: 1, max_delay_seconds: 1}
    signing: {}
decision_logs:
  service: xiezhi
  resource: logs
  reporting: {min_delay_seconds: 1, max_delay_seconds: 1}
status:
  service: xiezhi
  partition_name: agents
`
}

func (r *rig) agent(name, as string) *agent {
	r.t.Helper()
	dir := must[string](r.t)(os.MkdirTemp("", "xiezhi-agent-"))
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(r.config(name, r.tokens[as])), 0o600); err != nil {
		r.t.Fatal(err)
	}
	listener := must[net.Listener](r.t)(net.Listen("tcp", "127.0.0.1:0"))
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		r.t.Fatal(err)
	}
	a := &agent{rig: r, name: name, url: "http://" + address, log: filepath.Join(dir, "opa.log")}
	log := must[*os.File](r.t)(os.Create(a.log))
	defer log.Close() //nolint:errcheck // the agent has it
	cmd := exec.Command(must[string](r.t)(stock()), "run", "--server", "--addr", address, "--config-file", filepath.Join(dir, "config.yaml"), "--disable-telemetry", "--log-level", "info")
	cmd.Stdout, cmd.Stderr = log, log
	server, err := process.Start(r.t.Context(), cmd, dir, syscall.SIGTERM, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/health?bundles", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // only its status counts
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	if err != nil {
		text, _ := os.ReadFile(a.log)
		r.t.Fatalf("%v\n%s", err, text)
	}
	r.t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			r.t.Error(err)
		}
	})
	return a
}

// holds waits until the agent decides by a release.
func (a *agent) holds(release uint64) {
	a.rig.t.Helper()
	await(a.rig.t, fmt.Sprintf("the agent of %s holds release %d", a.name, release), func() bool {
		return a.revision() == opabundle.Revision(release)
	})
}

func (a *agent) revision() string {
	var answer struct {
		Provenance struct {
			Bundles map[string]struct{ Revision string }
		}
	}
	text := a.rig.ask("", http.MethodGet, a.url+"/v1/data/none?provenance", "", nil).text
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		a.rig.t.Fatal(err)
	}
	return answer.Provenance.Bundles["xiezhi"].Revision
}

// same asks the agent and us, and holds result and status to be the same
// bytes. It returns whether the answer is an error.
func (a *agent) same(entry string, input authz.Value) (failed bool) {
	a.rig.t.Helper()
	body := `{"input":` + string(input.AppendJSON(nil)) + `}`
	path := "/v1/data/" + entry + "?strict-builtin-errors=true"
	theirs := a.rig.ask("", http.MethodPost, a.url+path, body, nil)
	ours := a.rig.ask("platform", http.MethodPost, a.rig.api+path, body, nil)
	if ours.status != theirs.status || resultOf(a.rig.t, ours) != resultOf(a.rig.t, theirs) {
		a.rig.t.Errorf("%s\ninput %s\nours   %d %s\ntheirs %d %s", entry, body, ours.status, ours.text, theirs.status, theirs.text)
	}
	if ours.status == http.StatusInternalServerError && errorOf(ours) != errorOf(theirs) {
		a.rig.t.Errorf("%s\ninput %s\nours   %s\ntheirs %s", entry, body, ours.text, theirs.text)
	}
	return ours.status != http.StatusOK
}

func resultOf(t testing.TB, g got) string {
	t.Helper()
	var answer struct {
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal([]byte(g.text), &answer); err != nil {
		t.Fatalf("%v: %s", err, g.text)
	}
	return string(answer.Result)
}

// errorOf is an error's codes and messages; places are of the agent's own
// names for files.
func errorOf(g got) string {
	var answer struct {
		Code, Message string
		Errors        []struct{ Code, Message string }
	}
	_ = json.Unmarshal([]byte(g.text), &answer)
	return fmt.Sprint(answer)
}

// entries are what is offered of one policy: its package and its sets.
func entries(p *pdp.Policy) []string {
	paths := []string{"xiezhi/" + p.ID}
	for _, r := range p.Rules {
		if path := paths[0] + "/" + r.Kind.String(); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// readsClock reports whether a module, or one that it names, reads the clock.
func readsClock(files map[string]string, path string, seen map[string]bool) bool {
	if seen[path] {
		return false
	}
	seen[path] = true
	text := files[path]
	if strings.Contains(text, "time.now_ns") || strings.Contains(text, "io.jwt.decode_verify") {
		return true
	}
	for other := range files {
		module := "data.xiezhi." + strings.ReplaceAll(strings.TrimSuffix(other, ".rego"), "/", ".")
		if strings.HasSuffix(other, ".rego") && other != path && strings.Contains(text, module) && readsClock(files, other, seen) {
			return true
		}
	}
	return false
}

// withAnswers is a case's request with its attributes in it.
func withAnswers(c *policytest.Case) authz.Value {
	v := c.Request.Value()
	for _, name := range slices.Sorted(maps.Keys(c.Answers)) {
		if c.Answers[name].Kind() == authz.KindNull {
			continue // the source does not answer
		}
		entity, property, _ := strings.Cut(name, ".")
		part, _ := v.Get(entity)
		properties, _ := part.Get("properties")
		if properties.Kind() != authz.KindObject {
			properties, _ = authz.ObjectValue()
		}
		v = v.With(entity, part.With("properties", properties.With(property, c.Answers[name])))
	}
	return v
}

func TestStockOPAAnswersEveryShippedCaseAsWeDo(t *testing.T) {
	files := shippedFiles(t)
	r := newRig(t, files)
	cases, faults := policytest.Cases(r.pdp.Active().Release)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	agents := map[string]*agent{}
	asked, left := 0, map[string]int{}
	compare := func() {
		for i := range cases {
			c := &cases[i]
			for _, p := range r.pdp.Active().Release.Policies() {
				about := c.Policy == "" || c.Policy == p.ID
				switch {
				case p.Layer == pdp.LayerSelf, p.Layer == pdp.LayerTenant && p.Tenant != c.Request.Tenant:
				case c.Layer == pdp.LayerSelf:
					left["asked of the self policies"]++
				case about && p.Language != "rego":
					left[p.ID+" is not Rego"]++
				case about && readsClock(files, p.File, map[string]bool{}):
					left[p.ID+" reads the clock"]++
				case about:
					for _, path := range entries(p) {
						agents[c.Request.Tenant].same(path, withAnswers(c))
						asked++
					}
				}
			}
		}
	}
	for i := range cases {
		if tenant := cases[i].Request.Tenant; cases[i].Layer != pdp.LayerSelf && agents[tenant] == nil {
			agents[tenant] = r.agent(tenant, "platform")
		}
	}
	compare()
	files["tables/tenant_region_mapping.yaml"] = strings.Replace(files["tables/tenant_region_mapping.yaml"], "cn-hangzhou", "cn-shenzhen", 1)
	files["platform/afterwards.rego"] = "# METADATA\n# scope: package\n# title: Afterwards\npackage xiezhi.platform.afterwards\n\n" +
		"# METADATA\n# scope: rule\n# title: Late\n# custom:\n#   id: late\n#   message: {en: Late., zh: 迟了。}\n#   severity: low\ndeny contains {\"rule\": \"late\", \"args\": {\"n\": count(input.action.name), \"html\": \"<&>\"}}\n"
	release := r.publish(files)
	for _, a := range agents {
		a.holds(release)
	}
	compare()
	for why, n := range left {
		t.Logf("left out %d times: %s", n, why)
	}
	t.Logf("%d cases of %d tenants, %d comparisons", len(cases), len(agents), asked)
	want := []string{
		"asked of the self policies", "platform/agents_elsewhere is not Rego", "platform/isolation is not Rego", "platform/policy-001 is not Rego",
		"platform/tags reads the clock", "tenants/acme/change_freeze is not Rego", "tenants/globex/exposure is not Rego",
	}
	if got := slices.Sorted(maps.Keys(left)); !slices.Equal(got, want) || asked < 1000 {
		t.Errorf("left out %q, want %q; asked %d", got, want, asked)
	}
}

func TestStockOPAAnswersTheEvaluatorsSuiteAsWeDo(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	agents := map[string]*agent{}
	asked, failed := 0, 0
	for _, row := range evaltest.Rows(t, evaltest.Rego) {
		for path := range row.Files {
			if readsClock(row.Files, path, map[string]bool{}) {
				t.Logf("left out, since the policy reads the clock: %s", row.Name)
				row.Asks = nil
			}
		}
		if len(row.Asks) == 0 {
			continue
		}
		release := r.publish(row.Files)
		for _, in := range row.Asks {
			tenant := in.Request.Tenant
			if agents[tenant] == nil {
				agents[tenant] = r.agent(tenant, "platform")
			}
			agents[tenant].holds(release)
			for _, p := range r.pdp.Active().Release.Policies() {
				if p.Language != "rego" || p.Layer == pdp.LayerTenant && p.Tenant != tenant {
					continue
				}
				for _, path := range entries(p) {
					asked++
					if agents[tenant].same(path, in.Value) {
						failed++
					}
				}
			}
		}
	}
	t.Logf("%d comparisons, %d of them of errors", asked, failed)
	if asked < 200 || failed == 0 {
		t.Errorf("asked %d, of which %d are errors", asked, failed)
	}
}

// repack changes one file of a bundle and leaves its signature.
func repack(t testing.TB, bundle []byte, edit func(name string, data []byte) []byte) []byte {
	t.Helper()
	unzipped := must[*gzip.Reader](t)(gzip.NewReader(bytes.NewReader(bundle)))
	in := tar.NewReader(unzipped)
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	out := tar.NewWriter(zipped)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		data := edit(header.Name, must[[]byte](t)(io.ReadAll(in)))
		header.Size = int64(len(data))
		if err := errors.Join(err, out.WriteHeader(header)); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(out.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

const toy = `# METADATA
# scope: package
# title: Toy
package xiezhi.platform.toy

# METADATA
# scope: rule
# title: Never
# custom:
#   id: never
#   message: {en: Never., zh: 不可。}
#   severity: low
deny contains {"rule": "never"} if input.action.name == "FORBIDDEN"
`

func toyFiles(action string) map[string]string {
	return map[string]string{"platform/toy.rego": strings.ReplaceAll(toy, "FORBIDDEN", action)}
}

func TestStockOPARefusesATamperedBundleAndReportsIt(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	a := r.agent("acme", "acme")
	a.holds(1)
	r.mu.Lock()
	r.between = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !strings.HasPrefix(req.URL.Path, "/bundles/") {
				next.ServeHTTP(w, req)
				return
			}
			var answer httptest.ResponseRecorder
			answer.Body = &bytes.Buffer{}
			next.ServeHTTP(&answer, req)
			body := answer.Body.Bytes()
			if answer.Code == http.StatusOK {
				body = repack(t, body, func(name string, data []byte) []byte {
					return bytes.ReplaceAll(data, []byte(`== "b"`), []byte(`== "c"`))
				})
			}
			maps.Copy(w.Header(), answer.Header())
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.WriteHeader(answer.Code)
			_, _ = w.Write(body)
		})
	}
	r.mu.Unlock()
	// The poll under way still goes past the tampering: what it is woken with
	// is honest, and the next release is not.
	a.holds(r.publish(toyFiles("x")))
	if number := r.publish(toyFiles("b")); number != 3 {
		t.Fatal(number)
	}
	var pep pap.PEP
	await(t, "the agent reports that it refused", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, pep = range r.reports {
			if pep.Rejected != nil {
				return true
			}
		}
		return false
	})
	if a.revision() != "r2" || pep.Revision.Release != 2 || pep.Kind != "opa" || pep.Tenant != "acme" || pep.Subject != "service:agent" ||
		!strings.Contains(pep.Rejected.Reason, "digest") || !slices.Equal(pep.Tenants, []string{"acme"}) {
		t.Errorf("holds %s; %+v, rejected %+v", a.revision(), pep, pep.Rejected)
	}
	if active := r.pdp.Active().Release.Number; active != 3 {
		t.Errorf("here release %d is active", active)
	}
	r.mu.Lock()
	r.between = nil
	r.mu.Unlock()
	a.holds(3) // an honest bundle is taken again
}

func TestDecisionsOfAStockOPAReachTheAudit(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	a := r.agent("acme", "acme")
	const asked = 50
	for i := range asked {
		body := fmt.Sprintf(`{"input":{"tenant":"acme","subject":{"type":"user","id":"u%d"},"action":{"name":"a"},"resource":{"type":"t","id":"x"}}}`, i)
		r.ask("", http.MethodPost, a.url+"/v1/data/xiezhi/platform/toy/deny", body, nil)
	}
	var records []authz.AuditRecord
	await(t, "all decisions are in the audit", func() bool {
		found := must[[]authz.AuditRecord](t)(r.store.QueryAudit(t.Context(), pap.AuditFilter{Tenant: "acme", Kind: authz.AuditDecision, Action: "a"}, 1000))
		records = found
		return len(found) >= asked
	})
	if len(records) != asked {
		t.Fatalf("%d records of %d decisions", len(records), asked)
	}
	told := string(records[0].Body.AppendJSON(nil))
	if records[0].Actor != "service:agent" || records[0].Revision != "r1.g0" || records[0].Resource != "t:x" ||
		!strings.Contains(told, `"path":"xiezhi/platform/toy/deny"`) || !strings.Contains(told, `"result":[{"rule":"never"}]`) {
		t.Errorf("%+v\n%s", records[0], told)
	}
}
