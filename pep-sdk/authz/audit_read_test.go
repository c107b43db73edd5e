package authz

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestAuditRecordIsReadAsItWasWritten(t *testing.T) {
	odd := fullAuditRecord()
	odd.Actor, odd.Subject, odd.Resource = `,"body":{}`, `a,`, "\xff\u2028\\"
	written := fullAuditRecord()
	written.BodyJSON = []byte(`{"body":",\"body\":","b":[-0.5e+7,0,true,false,null,"\u00e9\n",{},[]]}`)
	for name, r := range map[string]AuditRecord{
		"every member":      fullAuditRecord(),
		"only required":     {ID: "01K", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Kind: AuditChange, Actor: "a", Action: "b"},
		"zero":              {},
		"odd names":         odd,
		"a body of its own": written,
	} {
		t.Run(name, func(t *testing.T) {
			data := r.AppendJSON(nil)
			want, err := ParseAuditRecord(data)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ReadAuditRecord(data)
			if err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			if again := got.AppendJSON(nil); string(again) != string(data) {
				t.Errorf("got %s, want %s", again, data)
			}
			body, err := ParseAuditBody(got.BodyJSON)
			if err != nil || !body.Equal(want.Body) {
				t.Errorf("body %s: %v", got.BodyJSON, err)
			}
			got.BodyJSON, want.Body = nil, Value{}
			if g, w := string(got.AppendJSON(nil)), string(want.AppendJSON(nil)); g != w || !got.Time.Equal(want.Time) {
				t.Errorf("got %s, want %s", g, w)
			}
		})
	}
}

func TestAuditRecordIsReadOnlyWhole(t *testing.T) {
	r := fullAuditRecord()
	data := r.AppendJSON(nil)
	for end := range data {
		if _, err := ReadAuditRecord(data[:end]); err == nil {
			t.Errorf("%s was read", data[:end])
		}
	}
	for _, edit := range [][2]string{
		{`{"id":"01K"`, `{"id":"01K","id":"01K"`}, {`"kind"`, `"kinds"`}, {`"id":"01K"`, `"id":1`}, {`,"actor":"service:web"`, ``},
		{`T08:`, `T88:`}, {`李`, "\xff"}, {`{"a":1}`, `{"a":01}`}, {`{"a":1}`, `{"a":1,}`}, {`{"a":1}`, `{"a" 1}`}, {`{"a":1}`, `{a:1}`},
		{`{"a":1}`, `["\x"]`}, {`{"a":1}`, `["\u12g4"]`}, {`{"a":1}`, "[\"\n\"]"}, {`{"a":1}`, "[\"\xff\"]"}, {`{"a":1}`, `[1.]`}, {`{"a":1}`, `[1e]`},
		{`{"a":1}`, `[-]`}, {`{"a":1}`, `[1}`}, {`{"a":1}`, `nul`}, {`{"a":1}`, `1 2`}, {`{"a":1}`, ``},
		{`{"a":1}`, strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20)},
	} {
		text := strings.Replace(string(data), edit[0], edit[1], 1)
		if got, err := ReadAuditRecord([]byte(text)); err == nil || text == string(data) {
			t.Errorf("%.400s was read as %.400s", text, got.AppendJSON(nil))
		}
	}
}

func TestTextsOfAReadRecordAreItsOwn(t *testing.T) {
	r := fullAuditRecord()
	data := r.AppendJSON(nil)
	got, err := ReadAuditRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if got.ID != r.ID || got.Subject != r.Subject {
		t.Errorf("got %+v", got)
	}
}

func FuzzReadAuditRecord(f *testing.F) {
	r := fullAuditRecord()
	f.Add(r.AppendJSON(nil))
	r.BodyJSON = []byte(`[-0.5e+7,"\u00e9",{"a":{}}]`)
	f.Add(r.AppendJSON(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		kept := bytes.Clone(data)
		got, err := ReadAuditRecord(data)
		if !bytes.Equal(kept, data) {
			t.Fatal("the data was changed")
		}
		if err == nil && !json.Valid(data) {
			t.Errorf("%q was read", data)
		}
		parsed, err := ParseAuditRecord(data)
		if err != nil {
			return
		}
		// What the stricter reader takes is read the same once we write it.
		got, err = ReadAuditRecord(parsed.AppendJSON(nil))
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if g, w := string(got.AppendJSON(nil)), string(parsed.AppendJSON(nil)); g != w {
			t.Errorf("got %s, want %s", g, w)
		}
	})
}
