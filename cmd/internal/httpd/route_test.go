package httpd

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestARouteWithoutARightCannotBeRegistered(t *testing.T) {
	answer := func(*call) error { return nil }
	whole := Route{Method: "GET", Path: "/x", Operation: "x", Summary: "x", Status: 200, Rights: []string{"x.read"}, handle: answer}
	change := func(edit func(*Route)) []Route {
		r := whole
		edit(&r)
		return []Route{r}
	}
	for name, routes := range map[string][]Route{
		"no right and not public": change(func(r *Route) { r.Rights = nil }),
		"an empty right":          change(func(r *Route) { r.Rights = []string{""} }),
		"public with a right":     change(func(r *Route) { r.Public = true }),
		"no handler":              change(func(r *Route) { r.handle = nil }),
		"no operation":            change(func(r *Route) { r.Operation = "" }),
		"the same place twice":    {whole, whole},
	} {
		t.Run(name, func(t *testing.T) {
			if checkRoutes(routes) == nil {
				t.Error("it was accepted")
			}
		})
	}
	if err := checkRoutes([]Route{whole}); err != nil {
		t.Errorf("a whole route is refused: %v", err)
	}
}

func TestPublicRoutesAreTheseAndNoOthers(t *testing.T) {
	want := []string{"/.well-known/authzen-configuration", "/.well-known/xiezhi", "/access/v1/jwks", "/api/v1/channels/{channel}", "/api/v1/policy/source/webhook", "/healthz", "/openapi.json", "/readyz"}
	var public []string
	for _, r := range Routes() {
		if r.Public {
			public = append(public, r.Path)
		}
	}
	slices.Sort(public)
	if !slices.Equal(public, want) {
		t.Errorf("public: %q", public)
	}
}

func TestTheRouterServesTheTableAndNothingElse(t *testing.T) {
	r := build(t, nil, Config{})
	table := map[string]bool{}
	for _, route := range Routes() {
		table[route.Method+" "+route.fiberPath()] = true
		if route.Method == http.MethodGet {
			table[http.MethodHead+" "+route.fiberPath()] = true
		}
	}
	for _, served := range r.app.GetRoutes() {
		place := served.Method + " " + served.Path
		if !table[place] {
			t.Errorf("served and not in the table: %s", place)
		}
		delete(table, place)
	}
	for place := range table {
		t.Errorf("in the table and not served: %s", place)
	}
}

// sample fills a route's path and body so that nothing but the right is missing.
func (r *rig) sample(route *Route) ask {
	path := strings.NewReplacer("{path...}", "tenants/acme/own.policy.json", "{number}", "1", "{from}", "1", "{to}", "1",
		"{subject}", "service:shop", "{name}", "engineer", "{id}", "grt-1").Replace(route.Path)
	a := ask{method: route.Method, path: path, header: map[string]string{"If-Match": `"1"`}}
	if route.Method == http.MethodGet && route.Operation == "listDynamic" {
		a.path += "?tenant=acme"
	}
	if route.Body != "" {
		a.body = r.example(route.Body)
	}
	return a
}

func TestEveryRouteRefusesWhoHasNoCredential(t *testing.T) {
	r := newRig(t, testPolicies())
	for _, route := range Routes() {
		if route.Public {
			continue
		}
		for name, header := range map[string]string{
			"none": "", "another scheme": "Basic dXNlcjpwYXNz", "nonsense": "Bearer nonsense",
			"an unknown token": "Bearer xz_pat_01k_" + strings.Repeat("a", 43),
		} {
			a := r.sample(&route)
			if header != "" {
				a.header["Authorization"] = header
			}
			g := r.do(a)
			if g.status != http.StatusUnauthorized || g.header.Get("WWW-Authenticate") != `Bearer realm="xiezhi"` {
				t.Errorf("%s with %s: %d %s", route.Operation, name, g.status, g.text)
			}
		}
	}
}

func TestEveryRouteRefusesWhoHasNoRight(t *testing.T) {
	r := newRig(t, testPolicies())
	r.subject("nobody", "acme", "user", "nobody")
	before := r.head()
	for _, route := range Routes() {
		if route.Public {
			continue
		}
		a := r.sample(&route)
		a.as = "nobody"
		g := r.do(a)
		hidden := g.status == http.StatusNotFound && strings.Contains(route.Path, "{id}") // whose it is may not be told
		if g.status != http.StatusForbidden && !hidden {
			t.Errorf("%s %s: %d %s", a.method, a.path, g.status, g.text)
		}
	}
	if after := r.head(); after != before {
		t.Errorf("something was written: %s became %s", before, after)
	}
}

// A token carries what it was made for, whatever its owner may do.
func TestATokenIsBoundToItsRights(t *testing.T) {
	r := newRig(t, testPolicies())
	r.token("narrow", "acme", "service:gateway", "audit.report")
	body := `{` + machine + `,"properties":{"cpu":2}}}`
	if g := r.do(ask{as: "narrow", path: "/api/v1/decide", body: body}); g.status != http.StatusForbidden || g.at("/right") != "decide.on_behalf" {
		t.Errorf("decide: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "narrow", path: "/api/v1/audit", body: `{"action":"seen"}`}); g.status != http.StatusCreated {
		t.Errorf("report: %d %s", g.status, g.text)
	}
}

func TestAnAnswerForWhichNoRightWasAskedIsWithheld(t *testing.T) {
	r := build(t, testPolicies(), Config{})
	r.register(&Route{Method: "GET", Path: "/leak", Operation: "leak", Rights: []string{"x"}, Status: 200, handle: func(c *call) error {
		return c.answer(200, "secret")
	}})
	g := r.inProcess(ask{as: "admin", path: "/leak"})
	if g.status != http.StatusInternalServerError || strings.Contains(g.text, "secret") {
		t.Errorf("%d %s", g.status, g.text)
	}
}
