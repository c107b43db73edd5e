package builtin

import (
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// formats are the functions that write values into texts.
var formats = table{
	ast.Sprintf.Name:                sprintf,
	ast.InternalTemplateString.Name: templateString,
}

// sprintf writes %s and %v of texts and of values that are no numbers, and %d
// and %v of integers. Every other verb, and what Go writes of a mistake, is
// left to OPA.
func sprintf(c *Call, args []value.Value) (value.Value, error) {
	if args[0].Kind() != value.String || args[1].Kind() != value.Array {
		return ask()
	}
	format, operands := args[0].Text(), args[1]
	text, used := c.text[:0], 0
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			break
		}
		text = append(text, format[:i]...)
		if i+1 == len(format) {
			return askSprintf(c, args)
		}
		verb := format[i+1]
		format = format[i+2:]
		if verb == '%' {
			text = append(text, '%')
			continue
		}
		if used == operands.Len() {
			return askSprintf(c, args)
		}
		operand := operands.Elem(used)
		used++
		switch number := operand.Kind() == value.Number; {
		case number && (verb == 'd' || verb == 'v'):
			start := len(text)
			text = appendNumber(text, operand)
			if _, ok := decimalInt(stringOf(text[start:])); !ok {
				return askSprintf(c, args)
			}
		case !number && (verb == 's' || verb == 'v'):
			text = c.appendPlain(text, operand)
		default:
			return askSprintf(c, args)
		}
		if !c.writes(len(text)) {
			return full()
		}
	}
	if used < operands.Len() {
		return askSprintf(c, args)
	}
	return c.made(append(text, format...))
}

// Go writes at most so many characters more than there are, for a width or a
// precision, and at most so many bytes for one of a text (%+q).
const (
	widest  = 1_000_000
	perByte = 12
)

// askSprintf leaves the call to OPA if the result cannot be too long: a width
// of seven digits makes a megabyte of each verb, and a verb may use an argument
// again.
func askSprintf(c *Call, args []value.Value) (value.Value, error) {
	longest, largest := 0, int64(0)
	for i := range args[1].Len() {
		operand := args[1].Elem(i)
		longest = max(longest, perByte*written(operand, value.MaxJSON))
		if n, ok := operand.Int(); ok && n <= widest && n >= -widest {
			largest = max(largest, n, -n)
		}
	}
	size, format := 0, args[0].Text()
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 || !c.writes(size) {
			break
		}
		i++
		size += longest
	spec:
		for ; i < len(format); i++ {
			switch b := format[i]; {
			case b >= '0' && b <= '9':
				digits := i
				for i+1 < len(format) && format[i+1] >= '0' && format[i+1] <= '9' {
					i++
				}
				n, err := strconv.Atoi(format[digits : i+1])
				if err == nil && n <= widest {
					size += n
				}
			case b == '*':
				size += int(largest)
			case !strings.ContainsRune("+-# .[]", rune(b)):
				break spec
			}
		}
		format = format[min(i, len(format)):]
		if format != "" {
			format = format[1:] // the verb
		}
	}
	if !c.writes(size + len(args[0].Text())) {
		return full()
	}
	return ask()
}

// templateString puts the parts of $"…" together. A part that had to be
// computed is a set of its values.
func templateString(c *Call, args []value.Value) (value.Value, error) {
	if args[0].Kind() != value.Array {
		return ask()
	}
	text := c.text[:0]
	for i := range args[0].Len() {
		part := args[0].Elem(i)
		switch {
		case part.Kind() == value.Set && part.Len() == 0:
			text = append(text, "<undefined>"...)
		case part.Kind() == value.Set && part.Len() == 1:
			text = c.appendPlain(text, elem(part, 0))
		case part.Composite():
			return ask()
		default:
			text = c.appendPlain(text, part)
		}
		if !c.writes(len(text)) {
			return full()
		}
	}
	return c.made(text)
}

// writes reports whether a text of so many bytes may be written.
func (c *Call) writes(bytes int) bool { return bytes <= mostWritten && c.holds(bytes) }

// appendPlain writes a text as it is, every other value as in a policy.
func (c *Call) appendPlain(to []byte, v value.Value) []byte {
	if v.Kind() == value.String {
		return append(to, v.Text()...)
	}
	return c.appendRego(to, v)
}

// appendRego writes a value as it stands in a policy. It stops when the text is
// longer than may be written: a value that shares its parts may be endless.
func (c *Call) appendRego(to []byte, v value.Value) []byte {
	switch v.Kind() {
	case value.Null:
		return append(to, "null"...)
	case value.Bool:
		return strconv.AppendBool(to, v.IsTrue())
	case value.Number:
		return appendNumber(to, v)
	case value.String:
		return strconv.AppendQuote(to, v.Text())
	case value.Set:
		if v.Len() == 0 {
			return append(to, "set()"...)
		}
	}
	open, end := byte('{'), byte('}')
	if v.Kind() == value.Array {
		open, end = '[', ']'
	}
	to = append(to, open)
	for i := 0; i < v.Len() && c.writes(len(to)); i++ {
		if i > 0 {
			to = append(to, ", "...)
		}
		k, e := v.At(i)
		if v.Kind() == value.Object {
			to = append(c.appendRego(to, k), ": "...)
		}
		to = c.appendRego(to, e)
	}
	return append(to, end)
}

// written is about how many bytes a value takes where it is written, or more
// than most.
func written(v value.Value, most int) int {
	size := 24 + len(v.Text())
	if _, small := v.Int(); v.Kind() == value.Number && !small {
		size += len(v.Number())
	}
	for i := 0; i < v.Len() && size <= most; i++ {
		k, e := v.At(i)
		size += written(e, most-size)
		if v.Kind() == value.Object {
			size += written(k, most-size)
		}
	}
	return size
}
