package authz

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestParseRefusesWhatReadersDisagreeAbout(t *testing.T) {
	for name, c := range map[string]struct{ text, path string }{
		"a name given twice":           {`{"a":1,"b":{"x":1,"x":2}}`, "/b/x"},
		"a name twice through escapes": {`{"a":1,"\u0061":2}`, "/a"},
		"bytes after the value":        {`{} {}`, ""},
		"invalid UTF-8 in a string":    {"{\"a\":\"\xff\"}", "/a"},
		"invalid UTF-8 in a name":      {"{\"\xff\":1}", ""},
		"invalid UTF-8 after escapes":  {"{\"a\":\"\\n\xff\"}", "/a"},
		"half a surrogate pair":        {`["\ud800"]`, "/0"},
		"a pair the wrong way round":   {`["\udc00\ud800"]`, "/0"},
		"a raw control character":      {"[\"\n\"]", "/0"},
		"an unknown escape":            {`["\x41"]`, "/0"},
		"a comma too many":             {`[1,]`, "/1"},
		"a missing comma":              {`[1 2]`, ""},
		"a fault in a list of a list":  {`[[0,01]]`, "/0/1"},
		"a missing colon":              {`{"a" 1}`, "/a"},
		"a name without quotes":        {`{a:1}`, ""},
		"single quotes":                {`{'a':1}`, ""},
		"leading zeros":                {`[01]`, "/0"},
		"a plus sign":                  {`[+1]`, "/0"},
		"a bare point":                 {`[1.]`, "/0"},
		"a point first":                {`[.5]`, "/0"},
		"an empty exponent":            {`[1e]`, "/0"},
		"NaN":                          {`[NaN]`, "/0"},
		"an integer over 2^53-1":       {`[9007199254740992]`, "/0"},
		"the same below zero":          {`[-9007199254740992]`, "/0"},
		"the same with an exponent":    {`[9007199254740992e0]`, "/0"},
		"a huge exponent":              {`[1e400]`, "/0"},
		"an endless exponent":          {`[1e99999999999]`, "/0"},
		"a fraction of 16 digits":      {`[0.1234567890123456]`, "/0"},
		"a number of 65 characters":    {`[1` + strings.Repeat("0", 64) + `]`, "/0"},
		"an underflowing fraction":     {`[1e-320]`, "/0"},
		"the empty text":               {``, ""},
		"an open object":               {`{"a":1`, ""},
		"an open string":               {`"a`, ""},
		"a backslash at the end":       {`"\`, ""},
		"truncated \\u":                {`"\u12"`, ""},
		"signed \\u":                   {`"\u+123"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Parse([]byte(c.text))
			var field *FieldError
			if !errors.As(err, &field) {
				t.Fatalf("got %s, %v; want a FieldError", v.AppendJSON(nil), err)
			}
			if field.Path != c.path {
				t.Errorf("path %q, want %q (%s)", field.Path, c.path, field.Detail)
			}
		})
	}
}

func TestParseBoundsDepth(t *testing.T) {
	deep := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if _, err := Parse(deep(MaxDepth + 1)); err != nil {
		t.Errorf("%d levels: %v", MaxDepth, err)
	}
	if _, err := Parse(deep(MaxDepth + 2)); err == nil {
		t.Errorf("more than %d levels pass", MaxDepth)
	}
	if _, err := Parse(deep(1 << 20)); err == nil {
		t.Error("a million levels pass")
	}
}

func TestSpellingsOfOneNumberAreOneValue(t *testing.T) {
	for _, c := range []struct {
		kind      Kind
		want      string
		spellings []string
	}{
		{KindInt, "2", []string{"2", "2.0", "2e0", "0.2e1", "20e-1", "2.000"}},
		{KindInt, "0", []string{"0", "-0", "0.0", "0e9", "-0.0e-9"}},
		{KindInt, "-120", []string{"-120", "-1.2e2", "-12E1"}},
		{KindInt, "9007199254740991", []string{"9007199254740991", "9007199254740991.0", "9.007199254740991e15"}},
		{KindFloat, "0.1", []string{"0.1", "1e-1", "0.10"}},
		{KindFloat, "1.5", []string{"1.5", "15e-1", "0.15E+1"}},
		{KindFloat, "1e-7", []string{"1e-7", "0.0000001"}},
	} {
		for _, s := range c.spellings {
			v, err := Parse([]byte(s))
			if err != nil || v.Kind() != c.kind || string(v.AppendJSON(nil)) != c.want {
				t.Errorf("%s: %s %s, %v; want %s %s", s, v.Kind(), v.AppendJSON(nil), err, c.kind, c.want)
			}
		}
	}
}

func TestFloatValueHoldsTheSameRulesAsText(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), 1 << 53, -1 << 53, 1e300, 0.1234567890123456} {
		if v, err := FloatValue(f); err == nil {
			t.Errorf("%v passes as %s", f, v.Number())
		}
	}
	if v, err := FloatValue(2); err != nil || v.Kind() != KindInt {
		t.Errorf("2.0 is %s, %v", v.Kind(), err)
	}
}

func TestValueOfNamesThePathOfWhatItRefuses(t *testing.T) {
	for path, data := range map[string]any{
		"/a/1/b~1c": map[string]any{"a": []any{1, map[string]any{"b/c": make(chan int)}}},
		"/n":        map[string]any{"n": json.Number("1e400")},
		"/s/0":      map[string]any{"s": []string{"\xff"}},
		"/u":        map[string]any{"u": uint64(math.MaxUint64)},
	} {
		_, err := ValueOf(data)
		var field *FieldError
		if !errors.As(err, &field) || field.Path != path {
			t.Errorf("got %v, want an error at %s", err, path)
		}
	}
}

func TestLookupFollowsJSONPointers(t *testing.T) {
	v := MustValue(map[string]any{"a": []any{1, map[string]any{"x/y": "found", "": "empty"}}})
	for pointer, want := range map[string]string{
		"": string(v.AppendJSON(nil)), "/a/1/x~1y": `"found"`, "/a/1/": `"empty"`, "/a/0": "1",
		"/a/2": "", "/a/01": "", "/a/-1": "", "/b": "", "a": "", "/a/0/x": "",
	} {
		got, ok := v.Lookup(pointer)
		if ok != (want != "") || ok && string(got.AppendJSON(nil)) != want {
			t.Errorf("%q: %s, %v; want %q", pointer, got.AppendJSON(nil), ok, want)
		}
	}
}

func TestWithAndWithoutLeaveTheOriginalAlone(t *testing.T) {
	v := MustValue(map[string]any{"b": 2})
	more, less := v.With("a", BoolValue(true)), v.Without("b")
	if got := string(v.AppendJSON(nil)) + string(more.AppendJSON(nil)) + string(less.AppendJSON(nil)); got != `{"b":2}{"a":true,"b":2}{}` {
		t.Error(got)
	}
	if got := string(v.With("b", Value{}).AppendJSON(nil)); got != `{"b":null}` {
		t.Error(got)
	}
}
