package builtin

import (
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// strs are the functions that give a part, another form or the length of a
// text. A part is no copy.
var strs = table{
	ast.Concat.Name: concat,
	ast.Lower.Name:  text1(func(c *Call, s string) (value.Value, error) { return c.inCase(s, 'A', 'Z', strings.ToLower) }),
	ast.Upper.Name:  text1(func(c *Call, s string) (value.Value, error) { return c.inCase(s, 'a', 'z', strings.ToUpper) }),
	ast.Trim.Name:   trimmed(strings.Trim), ast.TrimLeft.Name: trimmed(strings.TrimLeft), ast.TrimRight.Name: trimmed(strings.TrimRight),
	ast.TrimPrefix.Name: part(strings.TrimPrefix), ast.TrimSuffix.Name: part(strings.TrimSuffix),
	ast.TrimSpace.Name: text1(func(_ *Call, s string) (value.Value, error) {
		return value.OfString(strings.TrimSpace(s)), nil
	}),
	ast.Split.Name:         text2(split),
	ast.SplitN.Name:        splitN,
	ast.Substring.Name:     substring,
	ast.StringReverse.Name: text1(reverse),
}

// changed is s itself where nothing had to change.
func (c *Call) changed(s, changed string) (value.Value, error) {
	if s == changed {
		return value.OfString(s), nil
	}
	return c.Heap.Text(changed), nil
}

// inCase changes letters from first to last, which are those of the other case.
func (c *Call) inCase(s string, first, last byte, convert func(string) string) (value.Value, error) {
	change := false
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return c.changed(s, convert(s))
		}
		change = change || s[i] >= first && s[i] <= last
	}
	if !change {
		return value.OfString(s), nil
	}
	text := append(c.text[:0], s...)
	for i, b := range text {
		if b >= first && b <= last {
			text[i] = b ^ ' '
		}
	}
	return c.made(text)
}

func part(f func(s, cut string) string) Func {
	return text2(func(_ *Call, s, cut string) (value.Value, error) { return value.OfString(f(s, cut)), nil })
}

// trimmed cuts characters off that are looked for among others.
func trimmed(f func(s, cut string) string) Func {
	return text2(func(c *Call, s, cut string) (value.Value, error) {
		if len(cut) > charactersAtOnce && !c.works(len(s)*(len(cut)/charactersAtOnce)) {
			return tooMuch()
		}
		return value.OfString(f(s, cut)), nil
	})
}

// charactersAtOnce is how many characters are looked through in one unit of
// work.
const charactersAtOnce = 64

func concat(c *Call, args []value.Value) (value.Value, error) {
	all := args[1]
	if args[0].Kind() != value.String || !collection(all) {
		return ask()
	}
	delimiter, size := args[0].Text(), 0
	for i := range all.Len() {
		e := elem(all, i)
		if e.Kind() != value.String {
			return ask()
		}
		size += len(e.Text())
	}
	switch all.Len() {
	case 0:
		return value.OfString(""), nil
	case 1:
		return elem(all, 0), nil
	}
	if !c.holds(size) || !c.holds((all.Len()-1)*len(delimiter)) {
		return full()
	}
	text := append(c.text[:0], elem(all, 0).Text()...)
	for i := 1; i < all.Len(); i++ {
		text = append(append(text, delimiter...), elem(all, i).Text()...)
	}
	return c.made(text)
}

// array is the array of the parts of a text.
func (c *Call) array(parts ...string) (value.Value, error) {
	if !c.holdsValues(len(parts)) {
		return full()
	}
	array := c.Heap.NewArray(len(parts))
	for _, s := range parts {
		c.Heap.Append(array, value.OfString(s))
	}
	return array, nil
}

func split(c *Call, s, delimiter string) (value.Value, error) {
	if !strings.Contains(s, delimiter) {
		return c.array(s)
	}
	n := strings.Count(s, delimiter) + 1
	if !c.holdsValues(n) {
		return full()
	}
	array := c.Heap.NewArray(n)
	for part := range strings.SplitSeq(s, delimiter) {
		c.Heap.Append(array, value.OfString(part))
	}
	return array, nil
}

func splitN(c *Call, args []value.Value) (value.Value, error) {
	s, delimiter, ok := texts(args)
	n, whole := args[2].Int()
	if !ok || !whole {
		return ask()
	}
	if n >= 0 {
		limit := int(n) + 1
		if limit < 0 {
			limit = -1
		}
		parts := strings.SplitN(s, delimiter, limit)
		return c.array(parts[:min(int(n), len(parts))]...)
	}
	parts := strings.Split(s, delimiter)
	return c.array(parts[max(len(parts)+int(n), 0):]...)
}

// substring counts characters. OPA repairs bad UTF-8, so it does that itself.
func substring(c *Call, args []value.Value) (value.Value, error) {
	from, okFrom := args[1].Int()
	length, okLength := args[2].Int()
	if args[0].Kind() != value.String || !okFrom || !okLength || from < 0 {
		return ask()
	}
	s := args[0].Text()
	if !utf8.ValidString(s) {
		return ask()
	}
	s = skip(s, from)
	if length < 0 {
		return value.OfString(s), nil
	}
	return value.OfString(s[:len(s)-len(skip(s, length))]), nil
}

// skip returns s without its first n characters.
func skip(s string, n int64) string {
	if n >= int64(len(s)) {
		return ""
	}
	for ; n > 0 && s != ""; n-- {
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
	return s
}

// reverse keeps bytes that are no UTF-8 as they are.
func reverse(c *Call, s string) (value.Value, error) {
	text := c.text[:0]
	for len(s) > 0 {
		_, size := utf8.DecodeLastRuneInString(s)
		text = append(text, s[len(s)-size:]...)
		s = s[:len(s)-size]
	}
	return c.made(text)
}
