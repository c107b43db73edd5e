package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse holds the parser to encoding/json: it takes what that takes, with
// the same meaning, but for what [stricter] names; and a document that is read
// as a large one means the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,2.5,"x",null,true]}`, `"\ud83d\ude00"`, `[1e-5,-0,9007199254740991]`, `{"a":{"a":{}}}`, `[[[[]]]]`, "\"\\u0000\"", `{"":""}`,
		`{"b":1,"a":2,"c":{"b":[],"a":{}}}`, `{"a":1,"\u0061":2}`, `["\ud800","\udc00\ud800"]`, "[\"\xff\"]", `[0.5,-12.50,1.23456789012345,1.234567890123456]`,
		`[123456789012345,1234567890123456,-0.0,1e9999,1E-9999,100.00e-2]`, strings.Repeat("[", MaxDepth+2) + strings.Repeat("]", MaxDepth+2),
		` { "a" : [ 1 , true ] , "b" : "\"\\\/\b\f\n\r\t" } `, `[01]`, `[1.]`, `[-]`, `[+1]`, `{"a":1,}`, `nul`, `[tru]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Parse(data)
		std, stdErr := decodeStd(data)
		var rule string
		if stdErr == nil {
			rule = stricter(data)
		}
		switch {
		case err == nil && (stdErr != nil || rule != ""):
			t.Fatalf("%q passes; encoding/json: %v, rule: %s", data, stdErr, rule)
		case err != nil && stdErr == nil && rule == "":
			t.Fatalf("%q is refused and no rule says so: %v", data, err)
		}
		samePadded(t, data, v, err)
		if err != nil {
			return
		}
		if converted, err := ValueOf(std); err != nil || !converted.Equal(v) {
			t.Fatalf("%q reads as %v, by encoding/json as %v, %v", data, v, converted, err)
		}
		text := v.AppendJSON(nil)
		again, err := Parse(text)
		if err != nil || !again.Equal(v) {
			t.Fatalf("%q is written as %q, which reads as %v, %v", data, text, again, err)
		}
		if converted, err := ValueOf(v.Any()); err != nil || !converted.Equal(v) {
			t.Fatalf("%q through Go values: %v, %v", data, converted, err)
		}
	})
}

// samePadded reads data once more, with enough blanks before it for a large
// document.
func samePadded(t *testing.T, data []byte, v Value, err error) {
	padded, paddedErr := Parse(append(bytes.Repeat([]byte(" "), large), data...))
	if (err == nil) != (paddedErr == nil) || !padded.Equal(v) {
		t.Fatalf("%q reads as %v, %v; as a large document %v, %v", data, v, err, padded, paddedErr)
	}
	var field, paddedField *FieldError
	if errors.As(err, &field) && errors.As(paddedErr, &paddedField) && field.Path != paddedField.Path {
		t.Fatalf("%q: the fault is at %s, in a large document at %s", data, field.Path, paddedField.Path)
	}
}

func decodeStd(data []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one value: %v", err)
	}
	return v, nil
}

// surrogate is an escape that encoding/json repairs where its other half is
// missing.
var surrogate = regexp.MustCompile(`\\u[dD][89a-fA-F]`)

// stricter returns the rule of [Parse] that a document breaks which
// encoding/json takes.
func stricter(data []byte) string {
	if !utf8.Valid(data) {
		return "UTF-8"
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if rule := stricterValue(d, 0); rule != "" {
		return rule
	}
	if surrogate.Match(data) && strings.Count(repaired(data), "\uFFFD") > strings.Count(repaired(surrogateLess(data)), "\uFFFD") {
		return "surrogates"
	}
	return ""
}

// repaired are all texts of a document as encoding/json reads them.
func repaired(data []byte) string {
	var all strings.Builder
	d := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.Token()
		if err != nil {
			return all.String()
		}
		if text, ok := token.(string); ok {
			all.WriteString(text)
		}
	}
}

// surrogateLess has another escape in place of each surrogate's.
func surrogateLess(data []byte) []byte { return surrogate.ReplaceAll(data, []byte(`\u00`)) }

func stricterValue(d *json.Decoder, depth int) string {
	token, err := d.Token()
	if err != nil {
		return err.Error()
	}
	switch token := token.(type) {
	case json.Number:
		return stricterNumber(token.String())
	case json.Delim:
		if depth > MaxDepth {
			return "depth"
		}
		seen := map[string]bool{}
		for d.More() {
			if depth == MaxDepth {
				return "depth"
			}
			if token == '{' {
				name, err := d.Token()
				if err != nil {
					return err.Error()
				}
				if text := name.(string); seen[text] {
					return "a name twice"
				} else {
					seen[text] = true
				}
			}
			if rule := stricterValue(d, depth+1); rule != "" {
				return rule
			}
		}
		_, _ = d.Token() // the end, which More saw
	}
	return ""
}

func stricterNumber(text string) string {
	if len(text) > 64 {
		return "length"
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	if e, ok := new(big.Int).SetString("0"+strings.TrimLeft(exponent, "+-"), 10); !ok || e.Cmp(big.NewInt(9999)) > 0 {
		return "exponent"
	}
	exact, ok := new(big.Rat).SetString(text)
	if !ok {
		return "not a number"
	}
	if exact.IsInt() {
		if exact.Num().CmpAbs(big.NewInt(MaxInt)) > 0 {
			return "integer"
		}
		return ""
	}
	digits := strings.Trim(strings.ReplaceAll(strings.TrimPrefix(mantissa, "-"), ".", ""), "0")
	if len(digits) > MaxDigits {
		return "digits"
	}
	if exact.Abs(exact).Cmp(new(big.Rat).SetFloat64(0x1p-1022)) < 0 {
		return "range"
	}
	return ""
}
