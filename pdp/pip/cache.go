package pip

import (
	"container/list"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Bounds of what one source is remembered to have answered.
const (
	maxCached      = 10_000
	maxCachedBytes = 32 << 20
)

// question is one attribute of one entity.
type question struct {
	tenant, name, typ, id string
}

// answer is what a source says; found false is an answer, too.
type answer struct {
	value authz.Value
	found bool
	size  int // of what it was read from, in bytes
}

// cache keeps answers for one span of time each, so that the oldest is the
// first to end. Its caller holds a lock.
type cache struct {
	entries map[question]*list.Element
	oldest  list.List // of *cached
	bytes   int
}

type cached struct {
	question question
	answer   answer
	until    time.Time
}

// get returns an answer that may still be used.
func (c *cache) get(q question, now time.Time) (answer, bool) {
	element, ok := c.entries[q]
	if !ok {
		return answer{}, false
	}
	entry := element.Value.(*cached)
	if !now.Before(entry.until) {
		c.remove(element)
		return answer{}, false
	}
	return entry.answer, true
}

// put keeps an answer, instead of the oldest ones where there are too many.
func (c *cache) put(q question, a answer, until time.Time) {
	if c.entries == nil {
		c.entries = map[question]*list.Element{}
	}
	if before, ok := c.entries[q]; ok {
		c.remove(before)
	}
	entry := &cached{q, a, until}
	c.entries[q] = c.oldest.PushBack(entry)
	c.bytes += entry.size()
	for c.oldest.Len() > maxCached || c.bytes > maxCachedBytes {
		c.remove(c.oldest.Front())
	}
}

func (c *cache) remove(element *list.Element) {
	entry := element.Value.(*cached)
	c.oldest.Remove(element)
	delete(c.entries, entry.question)
	c.bytes -= entry.size()
}

func (e *cached) size() int {
	q := &e.question
	return e.answer.size + len(q.tenant) + len(q.name) + len(q.typ) + len(q.id)
}
