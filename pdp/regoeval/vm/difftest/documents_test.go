package difftest

import "encoding/json"

// document is what input or data hold: members named by their kinds, now and
// then of another.
func (w *writer) document(depth int) map[string]any {
	doc := map[string]any{}
	for _, k := range []kind{number, text, truth, array, object} {
		switch w.roll(9) {
		case 0, 1, 2, 3, 4, 5:
			doc[string(rune(k))] = w.member(k, depth-1)
		case 6, 7:
			doc[string(rune(k))] = w.member(anything, depth-1)
		}
	}
	if depth <= 0 {
		return doc
	}
	doc["x"] = w.member(anything, depth-1)
	if w.once(2) {
		doc["é"] = w.member(anything, 0)
	}
	list := make([]any, w.roll(4))
	for i := range list {
		list[i] = w.document(depth - 2)
	}
	doc["e"] = list
	doc["c"] = w.document(depth - 1)
	table := map[string]any{}
	for range w.roll(4) {
		table[pick(w.dice, "a", "b", "1", "é", "r0")] = w.document(depth - 2)
	}
	doc["t"] = table
	return doc
}

func (w *writer) member(k kind, depth int) any {
	switch k {
	case number:
		if w.request {
			return json.Number(pick(w.dice, requestNumbers...))
		}
		return json.Number(pick(w.dice, numbers...))
	case text:
		return pick(w.dice, texts...)
	case truth:
		return w.once(2)
	case array:
		list := make([]any, w.roll(4))
		for i := range list {
			list[i] = w.member(anything, depth-1)
		}
		return list
	case object:
		o := map[string]any{}
		for range w.roll(4) {
			o[pick(w.dice, "a", "b", "n", "1", "é")] = w.member(anything, depth-1)
		}
		return o
	}
	if w.once(8) {
		return nil
	}
	if depth <= 0 {
		return w.member(pick(w.dice, number, text, truth), 0)
	}
	return w.member(pick(w.dice, number, text, truth, array, object), depth)
}
