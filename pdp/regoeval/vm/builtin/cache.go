package builtin

import (
	"strings"
	"sync"
)

// compiled keeps what evaluations compiled, by its source. What a program
// spells out is bound instead (see [Bind]); this is for patterns of requests
// and tables. It keeps few, and none that could be large: a request must not be
// able to fill the memory.
type compiled[P any] struct {
	mu    sync.RWMutex
	known map[source]P
	spent int
}

// source is what was compiled; of a glob, with the characters that * does not
// cross.
type source struct{ text, delimiters string }

const (
	mostCompiled = 128
	maxCompiled  = 32 << 20 // bytes, by estimate
)

// get returns what is kept, or compiles a copy of the source.
func (c *compiled[P]) get(text string, delimiters []byte, compile func(source) (P, error)) (P, error) {
	c.mu.RLock()
	p, ok := c.known[source{text, string(delimiters)}]
	c.mu.RUnlock()
	if ok {
		return p, nil
	}
	key := source{strings.Clone(text), string(delimiters)}
	p, err := compile(key)
	size := key.size()
	if err != nil || size > maxCompiled/8 {
		return p, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= mostCompiled || c.spent+size > maxCompiled {
		c.known, c.spent = make(map[source]P), 0
	}
	c.known[key] = p
	c.spent += size
	return p, nil
}

// size is about how many bytes the compiled form takes at most: of a regular
// expression, a counted repetition is written out up to a thousand times.
func (s source) size() int {
	const instruction, repeated = 100, 100
	size := (len(s.text) + len(s.delimiters) + 1) * instruction
	if strings.Contains(s.text, "{") {
		size *= repeated
	}
	return size
}
