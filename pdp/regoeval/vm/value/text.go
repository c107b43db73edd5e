package value

import "unsafe"

// Text keeps a text that was computed elsewhere and counts it.
func (h *Heap) Text(s string) Value {
	if h != nil {
		h.spent += len(s)
	}
	return OfString(s)
}

// Buffer returns an empty slice with room for n bytes, to be filled by append
// and handed to Keep before anything else is asked of this Heap.
func (h *Heap) Buffer(n int) []byte {
	if h == nil {
		return make([]byte, 0, n)
	}
	n = h.bounded(n)
	h.spent += n
	return h.bytes.take(n)[:0]
}

// Keep makes a text of what was appended to a Buffer. The bytes are the heap's
// then: they must not be changed.
func (h *Heap) Keep(b []byte) Value {
	if h != nil && cap(b) > 0 {
		if end := &b[:cap(b)][cap(b)-1]; end == h.bytes.last() {
			h.bytes.shorten(cap(b) - len(b))
			h.spent -= cap(b) - len(b)
		} else { // it outgrew its buffer
			h.spent += cap(b)
		}
	}
	// Bytes of the arena become a text where they are: nobody writes them until
	// Reset, which ends the text too.
	return OfString(unsafe.String(unsafe.SliceData(b), len(b)))
}

// KeepNumber is Keep for a number's JSON text.
func (h *Heap) KeepNumber(b []byte) Value { return OfNumber(h.Keep(b).text()) }
