package httpd

import (
	"net/http"
	"testing"
)

func TestPublishingDoesNotTellWhichDraftsOthersHave(t *testing.T) {
	r := newRig(t, testPolicies())
	if g := r.do(ask{as: "admin", path: "/api/v1/policies", body: `{"path":"tenants/globex/secret.policy.yaml","content":"id: secret"}`}); g.status != http.StatusCreated {
		t.Fatal(g.text)
	}
	for body, status := range map[string]int{
		`{"drafts":["tenants/globex/secret.policy.yaml"]}`:                                  403, // it is there
		`{"drafts":["tenants/globex/nothing.policy.yaml"]}`:                                 403,
		`{"drafts":["tenants/acme/nothing.policy.yaml","tenants/globex/none.policy.yaml"]}`: 403,
		`{"drafts":["tenants/nobody/none.policy.yaml"]}`:                                    403,
		`{"drafts":["tenants/acme/nothing.policy.yaml"]}`:                                   400,
		`{"drafts":["../x"]}`: 400,
	} {
		if g := r.do(ask{as: "author", path: "/api/v1/releases", body: body}); g.status != status {
			t.Errorf("%s: %d %s", body, g.status, g.text)
		}
	}
}
