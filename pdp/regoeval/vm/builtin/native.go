package builtin

import (
	"errors"
	"maps"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// table has functions by OPA's names. They answer what they are sure of, and
// leave the rest to OPA's function with ask: wrong types, whose error texts are
// OPA's, and whatever is rare.
type table map[string]Func

var errAsk = errors.New("OPA's function answers")

func ask() (value.Value, error) { return value.Value{}, errAsk }

func settle(tables []table) table {
	all := table{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	for name, f := range all {
		all[name] = settled(f, foreign(name))
	}
	return all
}

// settled asks the judge where f does not answer, and ends the evaluation whose
// heap is full.
func settled(f, judge Func) Func {
	return func(c *Call, args []value.Value) (value.Value, error) {
		v, err := f(c, args)
		if err == nil {
			if c.Heap.Full() {
				return value.Value{}, value.ErrMemory
			}
			return v, nil
		}
		if err != errAsk {
			return value.Value{}, err
		}
		return judge(c, args)
	}
}

// valueBytes is how many bytes of text a Heap counts as one value.
const valueBytes = 24

// holds reports whether the heap may hold a text of so many bytes. It is asked
// before a text is made that may be much longer than what it is made of.
func (c *Call) holds(bytes int) bool {
	return bytes >= 0 && (c.Heap == nil || c.Heap.Limit <= 0 || bytes/valueBytes <= c.Heap.Limit)
}

// holdsValues is the same for a number of values.
func (c *Call) holdsValues(n int) bool {
	return n >= 0 && (c.Heap == nil || c.Heap.Limit <= 0 || n <= c.Heap.Limit)
}

func full() (value.Value, error) { return value.Value{}, value.ErrMemory }

// keptBuffer is up to how many bytes a buffer stays with its Call.
const keptBuffer = 64 << 10

// made returns what was put together in c.text[:0].
func (c *Call) made(text []byte) (value.Value, error) {
	if cap(text) <= keptBuffer {
		c.text = text[:0]
	}
	return c.Heap.Keep(append(c.Heap.Buffer(len(text)), text...)), nil
}

// release gives the buffer of elements back.
func (c *Call) release(elems []value.Value) {
	clear(elems)
	if cap(elems) <= keptBuffer/valueBytes {
		c.elems = elems[:0]
	}
}

func ofBool(b bool) (value.Value, error) { return value.OfBool(b), nil }

func ofInt[N int | int64](n N) (value.Value, error) { return value.OfInt(int64(n)), nil }

// texts returns the two texts that a function of texts is called with.
func texts(args []value.Value) (a, b string, ok bool) {
	if args[0].Kind() != value.String || args[1].Kind() != value.String {
		return "", "", false
	}
	return args[0].Text(), args[1].Text(), true
}

// text1 is a function of one text, text2 of two.
func text1(f func(c *Call, s string) (value.Value, error)) Func {
	return func(c *Call, args []value.Value) (value.Value, error) {
		if args[0].Kind() != value.String {
			return ask()
		}
		return f(c, args[0].Text())
	}
}

func text2(f func(c *Call, a, b string) (value.Value, error)) Func {
	return func(c *Call, args []value.Value) (value.Value, error) {
		a, b, ok := texts(args)
		if !ok {
			return ask()
		}
		return f(c, a, b)
	}
}
