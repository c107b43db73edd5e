package httpd

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// dataPolicies beside the test policies: a package with sets alone, one with a
// helper that holds a table, one of a tenant.
func dataPolicies() map[string]string {
	files := testPolicies()
	meta := func(pkg, id string) string {
		return "# METADATA\n# scope: package\n# title: T\n# custom:\n#   masks: [/context/secret]\n#   reads: [context.secret, subject.roles]\npackage xiezhi." + pkg +
			"\n\n# METADATA\n# scope: rule\n# title: R\n# custom:\n#   id: " + id + "\n#   message: {en: M., zh: 一。}\n#   severity: low\n"
	}
	files["platform/sets.rego"] = meta("platform.sets", "a") +
		"deny contains {\"rule\": \"a\", \"path\": \"/context/secret\", \"args\": {\"html\": \"<&>\", \"shown\": input.context.secret}} if input.action.name == \"a\"\n" +
		"deny contains {\"rule\": \"a\"} if to_number(input.resource.id) == 1\ndeny contains {\"rule\": \"a\"} if input.subject.properties.roles[_] == \"boss\"\n"
	files["platform/helped.rego"] = meta("platform.helped", "b") + "deny contains {\"rule\": \"b\"} if secrets.secret == \"x\"\n\nsecrets := data.xiezhi.tenants[input.tenant].tables.limits\n"
	files["platform/lib/l.rego"] = "package xiezhi.platform.lib.l\n\nv := 1\n"
	files["tenants/acme/mine.rego"] = meta("tenants.acme.mine", "c") + "deny contains {\"rule\": \"c\"}\n"
	return files
}

const dataInput = `{"input":{"tenant":"acme","subject":{"type":"user","id":"u"},"action":{"name":"a"},"resource":{"type":"t","id":"1"},"context":{"secret":"hunter2"}}}`

func (r *rig) data(as, path, body string) got {
	r.t.Helper()
	return r.do(ask{as: as, method: http.MethodPost, path: "/v1/data" + path, body: body})
}

// withoutID cuts the one member that is another each time.
func withoutID(g got) string {
	_, rest, _ := strings.Cut(g.text, `",`)
	if g.json["decision_id"] == nil || !strings.HasPrefix(g.text, `{"decision_id":"`) {
		return g.text
	}
	if rest == "" {
		return "{}\n"
	}
	return "{" + rest
}

func TestDataAnswersInOPAsWords(t *testing.T) {
	r := newRig(t, dataPolicies())
	for name, c := range map[string]struct{ path, body, want string }{
		"a set": {"/xiezhi/platform/sets/deny", dataInput,
			`{"result":[{"args":{"html":"\u003c\u0026\u003e","shown":"hunter2"},"path":"/context/secret","rule":"a"},{"rule":"a"}]}` + "\n"},
		"a package":                   {"/xiezhi/tenants/acme/mine", dataInput, `{"result":{"deny":[{"rule":"c"}]}}` + "\n"},
		"a set that nobody declares":  {"/xiezhi/platform/sets/route", dataInput, "{}\n"},
		"a package that is not there": {"/xiezhi/platform/nothing/deny", dataInput, "{}\n"},
		"empty steps":                 {"//xiezhi//tenants/acme/mine/deny/", dataInput, `{"result":[{"rule":"c"}]}` + "\n"},
		"no body":                     {"/xiezhi/tenants/acme/mine/deny", "", `{"result":[{"rule":"c"}],"warning":{"code":"api_usage_warning","message":"'input' key missing from the request"}}` + "\n"},
		"a null input":                {"/xiezhi/tenants/acme/mine/deny", `{"input":null}`, `{"result":[{"rule":"c"}],"warning":{"code":"api_usage_warning","message":"'input' key missing from the request"}}` + "\n"},
		"members beside the input":    {"/xiezhi/tenants/acme/mine/deny", dataInput[:len(dataInput)-1] + `,"com.example/x":1}`, `{"result":[{"rule":"c"}]}` + "\n"},
		"a long number":               {"/xiezhi/tenants/acme/mine/deny", `{"input":{"tenant":"acme","n":123456789012345678901234567890}}`, `{"result":[{"rule":"c"}]}` + "\n"},
		"unknown parameters":          {"/xiezhi/tenants/acme/mine/deny?x=y&x=z&explain=off&instrument=false", dataInput, `{"result":[{"rule":"c"}]}` + "\n"},
	} {
		g := r.data("pep", c.path, c.body)
		if g.status != http.StatusOK || withoutID(g) != c.want {
			t.Errorf("%s: %d %s\nwant %s", name, g.status, g.text, c.want)
		}
	}
	g := r.do(ask{as: "pep", path: "/v1/data/xiezhi/tenants/acme/mine/deny?input=%7B%22tenant%22:%22acme%22%7D"})
	if withoutID(g) != `{"result":[{"rule":"c"}]}`+"\n" {
		t.Errorf("GET: %d %s", g.status, g.text)
	}
	g = r.data("pep", "/xiezhi/tenants/acme/mine/deny?pretty&metrics&provenance=true", dataInput)
	if !strings.Contains(g.text, "\n  \"result\": [\n    {\n      \"rule\": \"c\"\n    }\n  ]\n}\n") || g.at("/provenance/bundles/xiezhi/revision") != g.header.Get(HeaderRevision) || g.at("/metrics/timer_rego_query_eval_ns") == nil {
		t.Error(g.text)
	}
}

func TestDataErrorsAreInOPAsForm(t *testing.T) {
	r := newRig(t, dataPolicies())
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for name, c := range map[string]struct {
		as, path, body string
		status         int
		code           string
	}{
		"no credential":            {"", "/xiezhi/platform/sets/deny", dataInput, 401, opaUnauthorized},
		"no right":                 {"author", "/xiezhi/platform/sets/deny", dataInput, 403, opaUnauthorized},
		"for somebody else":        {"shop", "/xiezhi/platform/sets/deny", dataInput, 403, opaUnauthorized},
		"another tenant":           {"globexshop", "/xiezhi/platform/sets/deny", dataInput, 403, opaUnauthorized},
		"no tenant":                {"pep", "/xiezhi/platform/sets/deny", `{"input":{}}`, 400, opaInvalidParameter},
		"a tenant of another type": {"pep", "/xiezhi/platform/sets/deny", `{"input":{"tenant":1}}`, 400, opaInvalidParameter},
		"an input that is a list":  {"pep", "/xiezhi/platform/sets/deny", `{"input":[]}`, 400, opaInvalidParameter},
		"a body that is a list":    {"pep", "/xiezhi/platform/sets/deny", `[]`, 400, opaInvalidParameter},
		"half a body":              {"pep", "/xiezhi/platform/sets/deny", `{"input":`, 400, opaInvalidParameter},
		"two bodies":               {"pep", "/xiezhi/platform/sets/deny", dataInput + dataInput, 400, opaInvalidParameter},
		"too deep":                 {"pep", "/xiezhi/platform/sets/deny", `{"input":{"tenant":"acme","x":` + deep + `}}`, 400, opaInvalidParameter},
		"a quote in the path":      {"pep", "/xiezhi/%22", dataInput, 400, opaInvalidParameter},
		"explain":                  {"pep", "/xiezhi/platform/sets/deny?explain=full", dataInput, 400, opaInvalidParameter},
		"instrument":               {"pep", "/xiezhi/platform/sets/deny?instrument", dataInput, 400, opaInvalidParameter},
		"rule labels":              {"pep", "/xiezhi/platform/sets/deny?rule_labels=TRUE", dataInput, 400, opaInvalidParameter},
		"a failing built-in":       {"pep", "/xiezhi/platform/sets/deny?strict-builtin-errors=true", strings.Replace(dataInput, `"1"`, `"x"`, 1), 500, opaInternal},
		"everything":               {"pep", "", dataInput, 403, opaUnauthorized},
		"a level above packages":   {"pep", "/xiezhi/platform", dataInput, 403, opaUnauthorized},
		"a library":                {"pep", "/xiezhi/platform/lib/l", dataInput, 403, opaUnauthorized},
		"a helper":                 {"pep", "/xiezhi/platform/helped/secrets", dataInput, 403, opaUnauthorized},
		"an entry of a set":        {"pep", "/xiezhi/platform/sets/deny/0", dataInput, 403, opaUnauthorized},
		"a package with helpers":   {"pep", "/xiezhi/platform/helped", dataInput, 403, opaUnauthorized},
		"raw data":                 {"pep", "/xiezhi/tenants/acme/tables/limits", dataInput, 403, opaUnauthorized},
		"raw data, its own admin":  {"tenantadmin", "/xiezhi/tenants/acme/tables/limits", dataInput, 403, opaUnauthorized},
	} {
		g := r.data(c.as, c.path, c.body)
		if g.status != c.status || g.code() != c.code || !strings.HasPrefix(g.text, "{\n  \"code\": ") || g.json["message"] == "" {
			t.Errorf("%s: %d %s", name, g.status, g.text)
		}
		if strings.Contains(g.text, "acme-secret") {
			t.Errorf("%s tells a secret: %s", name, g.text)
		}
	}
	g := r.data("pep", "/xiezhi/platform/sets/deny", strings.Replace(dataInput, `"1"`, `"x"`, 1))
	if g.status != http.StatusOK { // without strict, what fails is undefined
		t.Errorf("%d %s", g.status, g.text)
	}
	if g := r.data("pep", "/xiezhi/platform/sets/deny?strict-builtin-errors=true", strings.Replace(dataInput, `"1"`, `"x"`, 1)); g.at("/errors/0/code") != "eval_builtin_error" {
		t.Error(g.text)
	}
}

func TestDataOfAnotherTenantIsUndefined(t *testing.T) {
	r := newRig(t, dataPolicies())
	own := strings.Replace(dataInput, `"acme"`, `"globex"`, 1)
	r.subject("globexpep", "globex", "service", "gw")
	r.bind("globex", "service:gw", "pep")
	for _, path := range []string{"/xiezhi/tenants/acme/mine", "/xiezhi/tenants/acme/mine/deny", "/xiezhi/tenants/acme", "/xiezhi/tenants/acme/tables", "/xiezhi/tenants/acme/tables/limits"} {
		if g := r.data("globexpep", path, own); g.status != http.StatusOK || withoutID(g) != "{}\n" {
			t.Errorf("%s: %d %s", path, g.status, g.text)
		}
	}
}

func TestRawDataTakesThePlatformsRight(t *testing.T) {
	r := newRig(t, dataPolicies())
	g := r.do(ask{as: "admin", path: "/v1/data/xiezhi/tenants/acme/tables/limits/secret"})
	if g.status != http.StatusOK || g.json["result"] != "acme-secret" {
		t.Errorf("%d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "admin", path: "/v1/data/xiezhi/tenants/acme/tables/none"}); g.status != http.StatusOK || withoutID(g) != "{}\n" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestACallerAsksDataForItselfWithoutVouching(t *testing.T) {
	r := newRig(t, dataPolicies())
	self := strings.Replace(dataInput, `{"type":"user","id":"u"}`, `{"type":"service","id":"shop"}`, 1)
	if g := r.data("shop", "/xiezhi/platform/sets/deny", self); g.status != http.StatusOK {
		t.Errorf("%d %s", g.status, g.text)
	}
	vouched := strings.Replace(self, `"id":"shop"`, `"id":"shop","properties":{"roles":["boss"]}`, 1)
	if g := r.data("shop", "/xiezhi/platform/sets/deny", vouched); g.status != http.StatusForbidden {
		t.Errorf("roles of its own: %d %s", g.status, g.text)
	}
	if g := r.data("pep", "/xiezhi/platform/sets/deny", vouched); g.status != http.StatusOK {
		t.Errorf("by a PEP: %d %s", g.status, g.text)
	}
}

func TestDataIsRecordedLikeADecisionAndMasked(t *testing.T) {
	r := newRig(t, dataPolicies())
	r.record.take()
	g := r.data("pep", "/xiezhi/platform/sets/deny", dataInput)
	records := r.record.take()
	if len(records) != 1 {
		t.Fatalf("%d records", len(records))
	}
	record, err := records[0].Audit()
	if err != nil {
		t.Fatal(err)
	}
	text := string(record.Body.AppendJSON(nil))
	if record.ID != g.json["decision_id"] || record.Kind != authz.AuditDecision || record.Tenant != "acme" || record.Actor != "service:gateway" ||
		record.Subject != "user:u" || record.Action != "a" || record.Resource != "t:1" || record.Revision != g.header.Get(HeaderRevision) {
		t.Errorf("%+v", record)
	}
	if strings.Contains(text, "hunter2") || !strings.Contains(text, `"path":"xiezhi/platform/sets/deny"`) || !strings.Contains(text, `"secret":"***"`) || !strings.Contains(text, `"shown":"***"`) {
		t.Error(text)
	}
	r.data("pep", "/xiezhi/platform/sets/deny?strict-builtin-errors", strings.Replace(dataInput, `"1"`, `"x"`, 1))
	if records = r.record.take(); len(records) != 1 || !strings.Contains(records[0].Data.Error, "to_number") {
		t.Errorf("a failure is recorded too: %+v", records)
	}
	r.record.breakWith(errors.New("disk full"))
	if g := r.data("pep", "/xiezhi/platform/sets/deny", dataInput); g.status != http.StatusServiceUnavailable || g.code() != opaInternal {
		t.Errorf("unrecorded: %d %s", g.status, g.text)
	}
}

func TestDataIsPackedBothWaysWithinLimits(t *testing.T) {
	r := newRig(t, dataPolicies())
	zip := func(text string) string {
		packed, err := pack([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(packed)
	}
	send := func(body, encoding string) got {
		return r.do(ask{as: "pep", method: http.MethodPost, path: "/v1/data/xiezhi/tenants/acme/mine/deny", body: body, header: map[string]string{"Content-Encoding": encoding}})
	}
	if g := send(zip(dataInput), "gzip"); g.status != http.StatusOK || withoutID(g) != `{"result":[{"rule":"c"}]}`+"\n" {
		t.Errorf("%d %s", g.status, g.text)
	}
	for name, g := range map[string]got{
		"a bomb": send(zip(`{"input":"`+strings.Repeat("x", 30<<20)+`"}`), "gzip"), "no gzip": send(dataInput, "gzip"), "another": send(dataInput, "br"),
		"large": r.data("pep", "/xiezhi/tenants/acme/mine/deny", `{"input":{"tenant":"acme","x":"`+strings.Repeat("x", MaxBody)+`"}}`),
	} {
		if g.status != http.StatusBadRequest || g.code() != opaInvalidParameter {
			t.Errorf("%s: %d %s", name, g.status, g.text)
		}
	}
	long := strings.Replace(dataInput, "hunter2", strings.Repeat("long ", 1000), 1)
	req, err := http.NewRequest(http.MethodPost, r.url+"/v1/data/xiezhi/platform/sets/deny", strings.NewReader(long))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.tokens["pep"])
	req.Header.Set("Accept-Encoding", "br, gzip;q=0.5")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it is read whole
	packed, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Content-Encoding") != "gzip" || resp.Header.Get("Vary") != "Accept-Encoding" || len(packed) > 1000 {
		t.Fatalf("%v %v %d bytes", err, resp.Header, len(packed))
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(unzipped); err != nil || !json.Valid(plain) || len(plain) < 5000 {
		t.Errorf("%v %d", err, len(plain))
	}
}

func TestAcceptEncodingIsReadByItsWeights(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br, gzip": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzip;q=0.1": true, "gzip;q=1": true, "xgzip": false, "*": false,
	} {
		if got := acceptsGzip(header); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

func (r *rig) bind(tenant, subject, role string) {
	r.t.Helper()
	if _, _, err := r.node.pap.CreateBinding(r.t.Context(), admin.LocalActor(), pap.Binding{Tenant: tenant, Subject: subject, Role: role}); err != nil {
		r.t.Fatal(err)
	}
}
