package regoeval

import (
	"strings"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// spelt are the small objects that policies spell out, as every decision gives
// them: converted once, and shared. Immutable; nil has none.
type spelt struct {
	objects map[value.Value]authz.Value
	entries map[value.Value]spoken
}

// spoken is an entry of deny, review or allow.
type spoken struct {
	rule, path string
	args       authz.Value
}

// mostSpelt is how many values such an object may hold.
const mostSpelt = 64

// speltOut converts the constants of a program, which may be nil.
func speltOut(program *vm.Program) *spelt {
	if program == nil {
		return nil
	}
	s := &spelt{map[value.Value]authz.Value{}, map[value.Value]spoken{}}
	keep := &keeper{}
	for _, v := range program.Constants() {
		s.add(v, keep)
	}
	for v := range s.objects {
		if entry, ok := s.read(v); ok {
			s.entries[v] = entry
		}
	}
	return s
}

func (s *spelt) add(v value.Value, keep *keeper) {
	if v.Kind() != value.Object || v.Len() > mostSpelt {
		return
	}
	w := writer{keep: keep, left: mostSpelt}
	if object, err := w.value(v, 0); err == nil {
		s.objects[v] = object
	}
	for i := range v.Len() {
		_, member := v.At(i)
		s.add(member, keep)
	}
}

// read reads an entry that holds what it should and nothing else.
func (s *spelt) read(v value.Value) (entry spoken, ok bool) {
	for i := range v.Len() {
		key, member := v.At(i)
		switch key.Text() {
		case "rule":
			entry.rule = strings.Clone(member.Text())
		case "path":
			if entry.path = strings.Clone(member.Text()); !strings.HasPrefix(entry.path, "/") {
				return entry, false
			}
		case "args":
			if entry.args, ok = s.objects[member]; !ok {
				return entry, false
			}
		default:
			return entry, false
		}
	}
	return entry, entry.rule != ""
}

func (s *spelt) object(v value.Value) (authz.Value, bool) {
	if s == nil || !v.Fixed() {
		return authz.Value{}, false
	}
	object, ok := s.objects[v]
	return object, ok
}

func (s *spelt) entry(v value.Value) (spoken, bool) {
	if s == nil || !v.Fixed() {
		return spoken{}, false
	}
	entry, ok := s.entries[v]
	return entry, ok
}
