package httpmw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Identity says who calls, and in which tenant, by what the service has
// verified itself. An error refuses the call.
type Identity func(r *http.Request) (tenant string, subject authz.Entity, err error)

// Certificate identifies clients by the common name of their verified TLS
// certificate, as subjects of the type in the tenant. The server must verify
// client certificates (tls.RequireAndVerifyClientCert).
func Certificate(tenant, subjectType string) Identity {
	return func(r *http.Request) (string, authz.Entity, error) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
			return "", authz.Entity{}, errors.New("the client has no verified certificate")
		}
		name := r.TLS.VerifiedChains[0][0].Subject.CommonName
		if name == "" {
			return "", authz.Entity{}, errors.New("the client's certificate has no common name")
		}
		return tenant, authz.Entity{Type: subjectType, ID: name}, nil
	}
}

// Rule says what the calls of one pattern do.
type Rule struct {
	Action string
	Type   string // of the resource
	// ID names the wildcard of the pattern whose value is the resource's id,
	// unescaped. Empty: the resource is the collection, whose id is its type.
	ID string
	// Add puts properties and context onto the request, such as the amount of
	// an order; nil adds nothing. An error refuses the call.
	Add func(r *http.Request, req *authz.Request) error
}

// Table maps calls by method and route template. A call that no pattern takes
// is refused.
type Table struct {
	identity Identity
	mux      *http.ServeMux
}

// NewTable reads rules by pattern, as [http.ServeMux] writes them:
// "GET /orders/{id}". It refuses patterns that contradict each other and rules
// that say too little.
func NewTable(identity Identity, rules map[string]Rule) (*Table, error) {
	if identity == nil {
		return nil, errors.New("httpmw: no identity: say who calls, such as Certificate")
	}
	t := &Table{identity: identity, mux: http.NewServeMux()}
	for pattern, rule := range rules {
		if rule.Action == "" || rule.Type == "" {
			return nil, fmt.Errorf("httpmw: %s: want an action and the type of the resource", pattern)
		}
		if rule.ID != "" && !regexp.MustCompile(`\{`+regexp.QuoteMeta(rule.ID)+`(\.\.\.)?\}`).MatchString(pattern) {
			return nil, fmt.Errorf("httpmw: %s: has no wildcard {%s}", pattern, rule.ID)
		}
		if err := handle(t.mux, pattern, rule); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// handle registers a rule; ServeMux panics at what it does not like.
func handle(mux *http.ServeMux, pattern string, rule Rule) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("httpmw: %v", p)
		}
	}()
	mux.Handle(pattern, found{rule})
	return nil
}

// Map is the [Mapper].
func (t *Table) Map(r *http.Request) (authz.Request, error) {
	var m match
	t.mux.ServeHTTP(nowhere{}, r.WithContext(context.WithValue(r.Context(), matchKey{}, &m)))
	if !m.found { // no pattern, or a path that is to be redirected to its clean form
		return authz.Request{}, fmt.Errorf("no rule takes %s %s", r.Method, r.URL.Path)
	}
	tenant, subject, err := t.identity(r)
	if err != nil {
		return authz.Request{}, err
	}
	req := authz.Request{
		Tenant: tenant, Subject: subject, Action: authz.Action{Name: m.rule.Action},
		Resource: authz.Entity{Type: m.rule.Type, ID: m.rule.Type},
	}
	if m.rule.ID != "" {
		req.Resource.ID = m.id
	}
	if m.rule.Add != nil {
		if err := m.rule.Add(r, &req); err != nil {
			return authz.Request{}, err
		}
	}
	return req, nil
}

// match is what a ServeMux found out about a call.
type match struct {
	found bool
	rule  Rule
	id    string
}

type matchKey struct{}

// found is a rule as a handler: it notes that the mux chose it.
type found struct{ rule Rule }

func (f found) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	m := r.Context().Value(matchKey{}).(*match)
	m.found, m.rule = true, f.rule
	if f.rule.ID != "" {
		m.id = r.PathValue(f.rule.ID)
	}
}

// nowhere takes what the mux itself answers: redirects and refusals.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
