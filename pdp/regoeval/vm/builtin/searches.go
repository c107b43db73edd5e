package builtin

import (
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// searches are the functions that look for a text in a text.
var searches = table{
	ast.Contains.Name:   found(strings.Contains),
	ast.StartsWith.Name: found(strings.HasPrefix),
	ast.EndsWith.Name:   found(strings.HasSuffix),
	ast.StringCount.Name: text2(func(_ *Call, s, sought string) (value.Value, error) {
		return ofInt(strings.Count(s, sought))
	}),
	ast.IndexOf.Name:        text2(indexOf),
	ast.IndexOfN.Name:       text2(indexOfN),
	ast.AnyPrefixMatch.Name: anyAffix(strings.HasPrefix),
	ast.AnySuffixMatch.Name: anyAffix(strings.HasSuffix),
}

var affixMatch = map[string]func(s, affix string) bool{
	ast.AnyPrefixMatch.Name: strings.HasPrefix,
	ast.AnySuffixMatch.Name: strings.HasSuffix,
}

func found(f func(s, sought string) bool) Func {
	return text2(func(_ *Call, s, sought string) (value.Value, error) { return ofBool(f(s, sought)) })
}

// searchable reports whether characters can be told from the bytes before them.
func searchable(s, sought string) bool {
	return sought != "" && utf8.ValidString(s) && utf8.ValidString(sought)
}

func indexOf(_ *Call, s, sought string) (value.Value, error) {
	if !searchable(s, sought) {
		return ask()
	}
	i := strings.Index(s, sought)
	if i < 0 {
		return ofInt(-1)
	}
	return ofInt(utf8.RuneCountInString(s[:i]))
}

func indexOfN(c *Call, s, sought string) (value.Value, error) {
	if !searchable(s, sought) {
		return ask()
	}
	array, passed := c.Heap.NewArray(0), 0
	for {
		i := strings.Index(s, sought)
		if i < 0 || c.Heap.Full() {
			return array, nil
		}
		passed += utf8.RuneCountInString(s[:i])
		c.Heap.Append(array, value.OfInt(int64(passed)))
		_, size := utf8.DecodeRuneInString(s[i:])
		s, passed = s[i+size:], passed+1
	}
}

// mostPairs is up to how many pairs of texts are compared one by one. OPA
// sorts, or keeps a tree.
const mostPairs = 4096

// anyAffix reports whether any of some texts begins, or ends, with any of
// others. Either side may be one text.
func anyAffix(match func(s, affix string) bool) Func {
	return func(_ *Call, args []value.Value) (value.Value, error) {
		if !listOfTexts(args[0]) || !listOfTexts(args[1]) || lengthOf(args[0])*lengthOf(args[1]) > mostPairs {
			return ask()
		}
		for i := range lengthOf(args[0]) {
			s := textAt(args[0], i)
			for j := range lengthOf(args[1]) {
				if match(s, textAt(args[1], j)) {
					return ofBool(true)
				}
			}
		}
		return ofBool(false)
	}
}

// listOfTexts reports whether v is a text, or an array or set of texts.
func listOfTexts(v value.Value) bool {
	if v.Kind() == value.String {
		return true
	}
	if !collection(v) {
		return false
	}
	for i := range v.Len() {
		if elem(v, i).Kind() != value.String {
			return false
		}
	}
	return true
}

func lengthOf(texts value.Value) int {
	if texts.Kind() == value.String {
		return 1
	}
	return texts.Len()
}

func textAt(texts value.Value, i int) string {
	if texts.Kind() == value.String {
		return texts.Text()
	}
	return elem(texts, i).Text()
}
