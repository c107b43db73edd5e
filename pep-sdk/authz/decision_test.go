package authz

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// decisionJSON is the answer as encoding/json would write it: what AppendJSON
// must equal.
func decisionJSON(t *testing.T, d Decision) []byte {
	t.Helper()
	data, err := json.Marshal(struct {
		ID          string       `json:"decision_id"`
		Effect      Effect       `json:"effect"`
		Decision    bool         `json:"decision"`
		Revision    Revision     `json:"revision"`
		Stale       bool         `json:"stale"`
		Reasons     []Reason     `json:"reasons"`
		Obligations []Obligation `json:"obligations"`
		Limits      []Limit      `json:"limits"`
		Route       *Route       `json:"route"`
		Approval    *Approval    `json:"approval"`
		Permit      *string      `json:"permit"`
	}{d.ID, d.Effect, d.Allowed(), d.Revision, d.Stale,
		append([]Reason{}, d.Reasons...), append([]Obligation{}, d.Obligations...), append([]Limit{}, d.Limits...),
		d.Route, d.Approval, d.Permit})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decoded(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return v
}

func TestDecisionAppendsWhatEncodingJSONWrites(t *testing.T) {
	permit := "eyJ.<&>.sig"
	full := Decision{
		ID: "01K", Effect: Review, Revision: Revision{42, 7}, Stale: true,
		Reasons: []Reason{
			{Policy: "platform/network", Rule: "public_ip", Effect: Deny, Message: "say \"no\" <b>&\u2028\n", MessageZH: "不行",
				Path: "/resource/properties/a~1b", Severity: "high", Grant: "g1", Cause: "policy_error", Location: "a.rego:3", FailedRule: "x"},
			{Rule: RuleNoAllow, Effect: Allow},
		},
		Obligations: []Obligation{{Policy: "p", Rule: "r", ID: "encrypt", Must: true, Params: MustValue(map[string]any{"days": 3})}, {ID: "none"}},
		Limits: []Limit{
			{Policy: "p", Rule: "r", Key: "k", Rate: 0.5, Burst: 3, Window: "1h", Quota: &Quota{Max: 9, Reset: "day"}, Cost: 2},
			{Key: "whole", Rate: 1e21, Burst: -1}, {Key: "tiny", Rate: 1e-7}, {},
		},
		Route:    &Route{Policy: "p", Rule: "r", Pool: "a", Standby: "b"},
		Approval: &Approval{ID: "cheq-1", Status: "PENDING", ExpiresAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 8*3600))},
		Permit:   &permit,
	}
	for name, d := range map[string]Decision{
		"the zero decision": {}, "every member": full, "an allow": {Effect: Allow, Route: &Route{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, want := d.AppendJSON([]byte("x"))[1:], decisionJSON(t, d)
			if !reflect.DeepEqual(decoded(t, got), decoded(t, want)) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			marshalled, err := json.Marshal(d)
			if err != nil || !reflect.DeepEqual(decoded(t, marshalled), decoded(t, want)) {
				t.Errorf("json.Marshal: %v\n%s", err, marshalled)
			}
		})
	}
}

// The members of each part are compared with the struct's, so that one added
// there and forgotten in the encoder is noticed.
func TestDecisionEncoderKnowsEveryField(t *testing.T) {
	d := Decision{Reasons: make([]Reason, 1), Obligations: make([]Obligation, 1), Limits: make([]Limit, 1),
		Route: &Route{}, Approval: &Approval{}, Permit: new(string)}
	fill(reflect.ValueOf(&d).Elem())
	got, want := d.AppendJSON(nil), decisionJSON(t, d)
	if !reflect.DeepEqual(decoded(t, got), decoded(t, want)) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(3)
	case reflect.Uint64:
		v.SetUint(4)
	case reflect.Float64:
		v.SetFloat(2.5)
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() || v.Type() == reflect.TypeFor[Value]() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

func TestDecisionIsAlwaysJSON(t *testing.T) {
	d := Decision{ID: "\xff", Reasons: []Reason{{Message: "broken \xc3("}}, Limits: []Limit{{Rate: math.NaN()}, {Rate: math.Inf(1)}}}
	data := d.AppendJSON(nil)
	if !json.Valid(data) || !utf8.Valid(data) {
		t.Errorf("not JSON: %q", data)
	}
}

func TestTextIsWrittenAsItIsRepairedAndQuoted(t *testing.T) {
	pieces := []string{"a", " ", "\"", "\\", "\n", "\x7f", "é", "ࠀ", "策", "略", "，", "퟿", "\ue000", "\u2028", "\U0001f600", "\x80", "\xe7\xad", "\xe7(", "\xe0\x80\x80", "\xed\xa0\x80", "\xef\xbc", "\xff"}
	for _, a := range pieces {
		for _, b := range pieces {
			for _, c := range pieces {
				text := a + b + c
				if got, want := appendText(nil, text), AppendQuoted(nil, strings.ToValidUTF8(text, "\uFFFD")); string(got) != string(want) {
					t.Fatalf("%q is written %q, want %q", text, got, want)
				}
			}
		}
	}
}

func BenchmarkDecisionAppendJSON(b *testing.B) {
	d := Decision{ID: "01K", Reasons: []Reason{{Policy: "platform/network", Rule: "public_ip", Message: "no", Path: "/a"}}}
	var buf []byte
	for b.Loop() {
		buf = d.AppendJSON(buf[:0])
	}
}
