package policytest

import (
	"testing"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func parse(t *testing.T, text string) authz.Value {
	t.Helper()
	v, err := authz.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The examples of RFC 7396, appendix A, whose numbers and texts a request can
// carry.
func TestMergeFollowsItsStandard(t *testing.T) {
	for _, row := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		if got := merge(parse(t, row.target), parse(t, row.patch)); !got.Equal(parse(t, row.want)) {
			t.Errorf("%s merged into %s: got %s, want %s", row.patch, row.target, got.AppendJSON(nil), row.want)
		}
	}
}

func TestSetReachesWhatIsThere(t *testing.T) {
	for _, row := range []struct{ in, pointer, value, want string }{
		{`{"a":1}`, "/a", `null`, `{"a":null}`},
		{`{"a":1}`, "/b", `2`, `{"a":1,"b":2}`},
		{`{"a":{"b":1}}`, "/a/b", `[]`, `{"a":{"b":[]}}`},
		{`{"a":[1,2]}`, "/a/1", `3`, `{"a":[1,3]}`},
		{`{"a":[1]}`, "/a/-", `2`, `{"a":[1,2]}`},
		{`{"x/y":{"~":1}}`, "/x~1y/~0", `2`, `{"x/y":{"~":2}}`},
		{`{"":1}`, "/", `2`, `{"":2}`},
	} {
		got, err := setAt(parse(t, row.in), steps(row.pointer), parse(t, row.value))
		if err != nil || !got.Equal(parse(t, row.want)) {
			t.Errorf("%s at %s of %s: got %s, %v, want %s", row.value, row.pointer, row.in, got.AppendJSON(nil), err, row.want)
		}
	}
	for _, row := range []struct{ in, pointer string }{
		{`{"a":1}`, "/b/c"},
		{`{"a":1}`, "/a/b"},
		{`{"a":[1]}`, "/a/1"},
		{`{"a":[1]}`, "/a/01"},
		{`{"a":[1]}`, "/a/-/b"},
		{`{"a":[1]}`, "/a/-1"},
		{`{"a":null}`, "/a/b"},
	} {
		if got, err := setAt(parse(t, row.in), steps(row.pointer), authz.Value{}); err == nil {
			t.Errorf("%s of %s: got %s, want an error", row.pointer, row.in, got.AppendJSON(nil))
		}
	}
}
