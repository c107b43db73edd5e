package builtin

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var walks = table{ast.WalkBuiltin.Name: walk}

func walk(c *Call, args []value.Value) (value.Value, error) {
	if len(args) != 1 {
		return ask()
	}
	results := c.Heap.NewArray(0)
	path := c.walk(results, c.elems[:0], args[0])
	c.release(path)
	if c.ended() {
		return tooMuch()
	}
	return results, nil
}

// lookEvery is after how many results the walk looks whether its time is over.
const lookEvery = 1 << 10

// walk appends [path, v] and what is below v, and returns the path, whose
// storage may have moved.
func (c *Call) walk(results value.Value, path []value.Value, v value.Value) []value.Value {
	at := c.Heap.NewArray(len(path))
	for _, key := range path {
		c.Heap.Append(at, key)
	}
	pair := c.Heap.NewArray(2)
	c.Heap.Append(pair, at)
	c.Heap.Append(pair, v)
	c.Heap.Append(results, pair)
	for i := 0; i < v.Len() && !c.Heap.Full() && (results.Len()%lookEvery != 0 || !c.ended()); i++ {
		key, below := v.At(i)
		path = c.walk(results, append(path, key), below)
		path = path[:len(path)-1]
	}
	return path
}
