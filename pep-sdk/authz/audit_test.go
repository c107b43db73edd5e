package authz

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func fullAuditRecord() AuditRecord {
	return AuditRecord{
		ID: "01K", Time: time.Date(2026, 11, 21, 8, 0, 0, 123456789, time.UTC), Kind: AuditDecision,
		Tenant: "acme", Actor: "service:web", Subject: "user:李伟", Action: "ecs.instance.create",
		Resource: "ecs.instance:web\x00\"", Effect: "ALLOW", Revision: "r1.g2", Body: MustValue(map[string]any{"a": 1}),
	}
}

func TestAuditRecordSurvivesItsJSON(t *testing.T) {
	for name, r := range map[string]AuditRecord{
		"every member": fullAuditRecord(),
		"only required": {
			ID: "01K", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)).UTC(), Kind: AuditChange, Actor: "a", Action: "b",
		},
		"zero": {},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			var got AuditRecord
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			if !got.Body.Equal(r.Body) {
				t.Errorf("body %s, want %s", got.Body.AppendJSON(nil), r.Body.AppendJSON(nil))
			}
			got.Body, r.Body = Value{}, Value{}
			if !got.Time.Equal(r.Time) {
				t.Errorf("time %v, want %v", got.Time, r.Time)
			}
			got.Time, r.Time = time.Time{}, time.Time{}
			if gotJSON, want := string(got.AppendJSON(nil)), string(r.AppendJSON(nil)); gotJSON != want {
				t.Errorf("got %s, want %s", gotJSON, want)
			}
		})
	}
}

func TestAuditRecordHoldsTheDeepestRequest(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth) + "1" + strings.Repeat("]", MaxDepth)
	v, err := Parse([]byte(deep))
	if err != nil {
		t.Fatal(err)
	}
	r := fullAuditRecord()
	r.Body, _ = ObjectValue(Member{"request", v})
	got, err := ParseAuditRecord(r.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Body.Equal(r.Body) {
		t.Error("the body changed")
	}
	if body, err := ParseAuditBody(r.Body.AppendJSON(nil)); err != nil || !body.Equal(r.Body) {
		t.Errorf("body alone: %v", err)
	}
}

func TestAuditRecordRepairsTextThatIsNotUTF8(t *testing.T) {
	r := fullAuditRecord()
	r.Subject = "user:\xff"
	got, err := ParseAuditRecord(r.AppendJSON(nil))
	if err != nil || got.Subject != "user:\uFFFD" {
		t.Errorf("got %q, %v", got.Subject, err)
	}
}

func TestAuditRecordRefusesForeignJSON(t *testing.T) {
	for _, text := range []string{`[]`, `{"id":1}`, `{"id":"a","id":"b"}`, `{"extra":"a"}`, `{"time":"yesterday"}`, `{"id":"a"} x`, ``} {
		if r, err := ParseAuditRecord([]byte(text)); err == nil {
			t.Errorf("%s was read as %+v", text, r)
		}
	}
}
