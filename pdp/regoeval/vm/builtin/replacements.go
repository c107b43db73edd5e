package builtin

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var replacements = table{
	ast.Replace.Name:  replace,
	ast.ReplaceN.Name: replaceN,
}

func replace(c *Call, args []value.Value) (value.Value, error) {
	s, old, ok := texts(args)
	if !ok || args[2].Kind() != value.String {
		return ask()
	}
	by := args[2].Text()
	if old == "" {
		// OPA puts it between bytes, also within a character.
		if !c.holds(len(s) + (len(s)+1)*len(by)) {
			return full()
		}
		return ask()
	}
	n := strings.Count(s, old)
	if n == 0 {
		return args[0], nil
	}
	if !c.holds(len(s) + n*max(len(by)-len(old), 0)) {
		return full()
	}
	text := c.text[:0]
	for range n {
		i := strings.Index(s, old)
		text = append(append(text, s[:i]...), by...)
		s = s[i+len(old):]
	}
	return c.made(append(text, s...))
}

// replaceN replaces, at each place, what comes first in the order of the keys.
func replaceN(c *Call, args []value.Value) (value.Value, error) {
	pairs, s := args[0], args[1].Text()
	if pairs.Kind() != value.Object || args[1].Kind() != value.String {
		return ask()
	}
	longest, empty := 0, false
	for i := range pairs.Len() {
		k, v := pairs.At(i)
		if k.Kind() != value.String || v.Kind() != value.String {
			return ask()
		}
		longest, empty = max(longest, len(v.Text())), empty || k.Text() == ""
	}
	most := len(s) + (len(s)+1)*longest
	if empty {
		if !c.holds(most) {
			return full()
		}
		return ask()
	}
	if !c.works(len(s) / 4 * pairs.Len()) {
		return tooMuch()
	}
	text, copied := c.text[:0], 0
	for i := 0; i < len(s); {
		old, by := replacementAt(pairs, s[i:])
		if old == 0 {
			i++
			continue
		}
		text = append(append(text, s[copied:i]...), by...)
		i += old
		copied = i
		if !c.holds(len(text)) {
			return full()
		}
	}
	if copied == 0 {
		return args[1], nil
	}
	return c.made(append(text, s[copied:]...))
}

// replacementAt returns the length of what is replaced at the beginning of s, 0
// for nothing, and what takes its place.
func replacementAt(pairs value.Value, s string) (old int, by string) {
	for i := range pairs.Len() {
		if k, v := pairs.At(i); strings.HasPrefix(s, k.Text()) {
			return len(k.Text()), v.Text()
		}
	}
	return 0, ""
}
