//go:build unix

package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

type object = map[string]any

// caller calls the server past all proxies. It is safe for concurrent use.
type caller struct {
	url, token string
	client     *http.Client
}

// call is one call. Method defaults to POST where there is a body, else to GET.
type call struct {
	method, path string
	body         any
	header       map[string]string
}

type answer struct {
	status   int
	header   http.Header
	body     []byte
	answered time.Time // when the answer was here
}

// try calls; the error says that no whole answer came.
func (c caller) try(ctx context.Context, what call) (answer, error) {
	body, method := []byte(nil), http.MethodGet
	if what.body != nil {
		var err error
		if body, err = json.Marshal(what.body); err != nil {
			return answer{}, err
		}
		method = http.MethodPost
	}
	if what.method != "" {
		method = what.method
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+what.path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range what.header {
		request.Header.Set(name, value)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, text, time.Now()}, err
}

// want calls and wants a status.
func (c caller) want(ctx context.Context, status int, what call) (answer, error) {
	a, err := c.try(ctx, what)
	if err == nil && a.status != status {
		err = fmt.Errorf("%s %s: %d, want %d: %.1000s", what.method, what.path, a.status, status, a.body)
	}
	return a, err
}

func (c caller) must(t *testing.T, status int, what call) answer {
	t.Helper()
	a, err := c.want(t.Context(), status, what)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// read decodes an answer.
func read[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

// revision is the one that the answer to a write names.
func (a answer) revision() (authz.Revision, error) {
	return authz.ParseRevision(a.header.Get("Xiezhi-Revision"))
}

// list reads all pages of a list.
func list[T any](t *testing.T, c caller, path string, query url.Values) []T {
	t.Helper()
	query.Set("limit", "1000")
	var all []T
	for {
		page := read[struct {
			Items []T
			Next  string `json:"next_cursor"`
		}](t, c.must(t, http.StatusOK, call{path: path + "?" + query.Encode()}))
		all = append(all, page.Items...)
		if page.Next == "" {
			return all
		}
		query.Set("cursor", page.Next)
	}
}

type token struct{ ID, Token string }

// enrol adds a tenant with a PEP's subject.
func enrol(t *testing.T, admin caller, tenant string) (binding string) {
	t.Helper()
	admin.must(t, http.StatusCreated, call{path: "/api/v1/tenants", body: object{"id": tenant}})
	admin.must(t, http.StatusCreated, call{path: "/api/v1/subjects", body: object{"tenant": tenant, "type": "service", "id": "shop"}})
	return bind(t, admin, tenant)
}

func bind(t *testing.T, admin caller, tenant string) (id string) {
	t.Helper()
	return read[struct{ ID string }](t, admin.must(t, http.StatusCreated, call{path: "/api/v1/bindings", body: object{"tenant": tenant, "subject": "service:shop", "role": "pep"}})).ID
}

func newToken(t *testing.T, admin caller, tenant string) token {
	t.Helper()
	return read[token](t, admin.must(t, http.StatusCreated, call{path: "/api/v1/tokens", body: object{
		"tenant": tenant, "subject": "service:shop", "rights": []string{"*"}, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339),
	}}))
}
