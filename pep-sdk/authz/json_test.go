package authz

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMembersAreSortedHoweverManyThereAre(t *testing.T) {
	for n := range 40 {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%02d", i)
		}
		want := "{"
		for i, name := range names {
			want += fmt.Sprintf("%s%q:%q", strings.Repeat(",", min(i, 1)), name, name)
		}
		want += "}"
		rand.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
		var text []string
		for _, name := range names {
			text = append(text, fmt.Sprintf("%q:%q", name, name))
		}
		v, err := Parse([]byte("{" + strings.Join(text, ",") + "}"))
		if err != nil || v.String() != want {
			t.Errorf("%v: %s, %v", names, v, err)
		}
		if n == 0 {
			continue
		}
		text = append(text, text[rand.IntN(n)])
		if v, err := Parse([]byte("{" + strings.Join(text, ",") + "}")); err == nil {
			t.Errorf("%v: %s, and a name is given twice", text, v)
		}
	}
}

// TestAParserKeepsNothing looks at what the next document's parser begins with.
func TestAParserKeepsNothing(t *testing.T) {
	wide := `{"a":[` + strings.Repeat(`{"b":"c"},`, 100) + `1]}`
	for _, text := range []string{
		`{"b":[1,"x",{"c":"d"}],"a":"text"}`, `["a",["b",["c"]]]`, `"alone"`, wide,
		`{"b":"given","a":"and","c`, `{"b":{"x":"given"},"b":"twice"}`, wide[:len(wide)-2], wide[:300],
	} {
		p := &parser{maxDepth: MaxDepth, clean: utf8.ValidString(text), expected: mostMembers([]byte(text)), data: text}
		p.open = p.room[:0]
		_, err := p.value(0)
		used := slices.ContainsFunc(p.room[:], func(m Member) bool { return m.Name != "" || m.Value.Kind() != KindNull })
		if text[0] != '"' && !used {
			t.Errorf("%.40q, %v: the room was not used, so this shows nothing", text, err)
		}
		if p.reset(); !reflect.ValueOf(p).Elem().IsZero() {
			t.Errorf("%.40q, %v: the parser keeps %+v", text, err, p)
		}
	}
}
