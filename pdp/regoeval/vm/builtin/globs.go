package builtin

import (
	"strings"
	"unicode/utf8"

	"github.com/gobwas/glob"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var globs = table{
	ast.GlobMatch.Name:     globMatch,
	ast.GlobQuoteMeta.Name: text1(func(c *Call, s string) (value.Value, error) { return c.changed(s, glob.QuoteMeta(s)) }),
}

var compiledGlobs compiled[*glob.Pattern]

func globMatch(c *Call, args []value.Value) (value.Value, error) {
	if len(args[0].Text()) > mostPattern {
		return tooMuch()
	}
	p, ok := globOf(args[0], args[1])
	if !ok || args[2].Kind() != value.String {
		return ask()
	}
	if !c.works(globWork(args)) {
		return tooMuch()
	}
	return ofBool(p.Match(args[2].Text()))
}

// globWork is what a match may take: each part of the pattern looks at each
// byte.
func globWork(args []value.Value) int { return len(args[0].Text()) * len(args[2].Text()) / 8 }

func globOf(pattern, delimiters value.Value) (*glob.Pattern, bool) {
	var buffer [64]byte
	separators, ok := appendDelimiters(buffer[:0], delimiters)
	if !ok || pattern.Kind() != value.String {
		return nil, false
	}
	p, err := compiledGlobs.get(pattern.Text(), separators, func(s source) (*glob.Pattern, error) {
		return glob.Compile(s.text, []rune(s.delimiters)...)
	})
	return p, err == nil
}

// appendDelimiters appends the characters: none for null, a dot for an empty
// array.
func appendDelimiters(to []byte, v value.Value) ([]byte, bool) {
	switch v.Kind() {
	case value.Null:
		return to, true
	case value.Array:
	default:
		return nil, false
	}
	if v.Len() == 0 {
		return append(to, '.'), true
	}
	for i := range v.Len() {
		s := v.Elem(i).Text() // "" for what is no text
		if r, size := utf8.DecodeRuneInString(s); size == 0 || size != len(s) || r == utf8.RuneError {
			return nil, false
		}
		to = append(to, s...)
	}
	return to, true
}

// boundGlob compiles a constant pattern once.
func boundGlob(args []value.Value) Func {
	separators, ok := appendDelimiters(nil, args[1])
	if !ok || args[0].Kind() != value.String {
		return nil
	}
	if len(args[0].Text()) > mostPattern {
		return nil
	}
	p, err := glob.Compile(strings.Clone(args[0].Text()), []rune(string(separators))...)
	if err != nil {
		return nil
	}
	return func(c *Call, args []value.Value) (value.Value, error) {
		if args[2].Kind() != value.String {
			return ask()
		}
		if !c.works(globWork(args)) {
			return tooMuch()
		}
		return ofBool(p.Match(args[2].Text()))
	}
}
