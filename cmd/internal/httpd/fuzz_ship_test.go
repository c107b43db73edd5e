package httpd

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// FuzzShipDoor holds the door of decision records to three promises: no body is
// answered with 5xx, every record of an answered batch is accounted for once,
// and what is stored is the caller's, in its own tenant, with a time that is past.
func FuzzShipDoor(f *testing.F) {
	r := build(f, openPolicies(), Config{})
	handler := r.app.Handler()
	record := decided("acme", newTestID(), time.Now())
	good := string(record.AppendJSON(nil))
	for _, seed := range []string{
		r.example("DecisionRecords"), `{"records":[` + good + `]}`, `{"records":[` + good + `,` + good + `,{}]}`, `{"records":[1,null,[],{"id":1}]}`,
		`{"records":[]}`, `{"records":null}`, `{}`, ``, `[`, `{"records":[{"id":"\u0000","body":{"a":"\u0000"}}]}`, "{\"records\":[{\"id\":\"\xff\"}]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		status, text := post(handler, "/api/v1/audit/decisions", r.tokens["pep"], "application/json", body)
		if status >= http.StatusInternalServerError {
			t.Fatalf("%d %s\n%q", status, text, body)
		}
		if status != http.StatusOK {
			return
		}
		var answer struct {
			Accepted, Duplicates int
			Refused              []struct{ ID, Reason string }
		}
		var sent struct{ Records []json.RawMessage }
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &sent); err != nil {
			t.Fatalf("an answer to what is not JSON: %v: %q", err, body)
		}
		if n := answer.Accepted + answer.Duplicates + len(answer.Refused); n != len(sent.Records) {
			t.Fatalf("%d records sent and %d accounted for: %s\n%q", len(sent.Records), n, text, body)
		}
		stored, err := r.node.store.Decisions(t.Context(), "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stored {
			if s.Actor != "service:gateway" || s.Tenant != "acme" || s.Kind != authz.AuditDecision || s.Time.After(time.Now().Add(6*time.Minute)) {
				t.Fatalf("stored %s", s.AppendJSON(nil))
			}
		}
	})
}
