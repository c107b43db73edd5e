package pip

import (
	"fmt"
	"testing"
	"time"
)

func TestTheCacheKeepsTheNewestWithinItsBounds(t *testing.T) {
	now := time.Unix(1e9, 0)
	var c cache
	for i := range maxCached + 1 {
		c.put(question{id: fmt.Sprint(i)}, answer{}, now.Add(time.Second))
	}
	if _, ok := c.get(question{id: "0"}, now); ok || len(c.entries) != maxCached || c.oldest.Len() != maxCached {
		t.Errorf("%d entries, the oldest is there: %v", len(c.entries), ok)
	}
	large := answer{size: maxCachedBytes / 2}
	c.put(question{id: "a"}, large, now.Add(time.Second))
	c.put(question{id: "b"}, large, now.Add(time.Second))
	c.put(question{id: "b"}, large, now.Add(2*time.Second))
	_, a := c.get(question{id: "a"}, now)
	_, b := c.get(question{id: "b"}, now.Add(time.Second))
	if a || !b || len(c.entries) != 1 || c.bytes != large.size+1 {
		t.Errorf("a %v, b %v, %d entries of %d bytes", a, b, len(c.entries), c.bytes)
	}
	if _, late := c.get(question{id: "b"}, now.Add(2*time.Second)); late || c.bytes != 0 || c.oldest.Len() != 0 {
		t.Errorf("after its time: %v, %d bytes", late, c.bytes)
	}
}
