//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// An Idempotency-Key is its caller's own: nobody else gets the answer that was
// kept under it, and it opens nothing to its caller either.
func TestAKeptAnswerIsItsCallersOwn(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	boss, chief := s.member("acme", "user:boss", "admin"), s.member("globex", "user:boss", "admin")
	namesake := s.member("", "user:boss", "auditor")
	second := s.member("acme", "user:second", "admin")
	key := map[string]string{"Idempotency-Key": "the-key"}
	create := call{
		as: boss, path: "/api/v1/tokens", header: key,
		body: encode(object{"subject": "user:boss", "name": "kept", "rights": []string{"policy.read"}, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339)}),
	}
	first := s.must(http.StatusCreated, create)
	id, text := first.textAt("/id"), first.textAt("/token")
	if text == "" {
		t.Fatalf("no token: %s", first.text)
	}

	// A retry is the same answer, without what is shown once.
	again := s.must(http.StatusCreated, create)
	if again.textAt("/id") != id || again.header.Get("Idempotency-Replayed") != "true" || strings.Contains(again.text, text) {
		t.Errorf("the retry: %v %s", again.header, again.text)
	}
	another := create
	another.body = strings.Replace(create.body, "kept", "other", 1)
	s.refused(another, http.StatusUnprocessableEntity)
	other := create
	other.path, other.body = "/api/v1/roles", `{"name":"mine"}`
	s.refused(other, http.StatusUnprocessableEntity)

	// The same key and body from others are calls of their own.
	for _, as := range []string{second, chief, namesake, "author", "admin", ""} {
		c := create
		c.as = as
		a := s.do(c)
		if a.header.Get("Idempotency-Replayed") != "" || a.textAt("/id") == id || strings.Contains(a.text, text) {
			t.Errorf("%q got the answer of another: %d %s", as, a.status, a.text)
		}
		if as == chief && a.textAt("/tenant") != "globex" {
			t.Errorf("globex's namesake: %d %s", a.status, a.text)
		}
	}

	// One of the caller's tokens that may do less than the first gets nothing
	// that it could not get by itself.
	narrow := create
	narrow.as = s.token("acme", "user:boss", "policy.read")
	s.refused(narrow, http.StatusForbidden)
	s.must(http.StatusOK, call{as: "admin", method: http.MethodPatch, path: "/api/v1/subjects/user:boss?tenant=acme", body: `{"disabled":true}`})
	s.refused(create, http.StatusUnauthorized)

	for name, key := range map[string]string{"too long": strings.Repeat("k", 300), "not ASCII": "schlüssel", "with a tab": "a\tb"} {
		a := s.refused(call{as: second, path: "/api/v1/roles", body: `{"name":"mine"}`, header: map[string]string{"Idempotency-Key": key}}, http.StatusBadRequest)
		if a.textAt("/errors/0/parameter") != "Idempotency-Key" {
			t.Errorf("a key %s: %s", name, a.text)
		}
	}
}
