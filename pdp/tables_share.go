package pdp

import (
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// sharer keeps each text, list and object of tables once that was met lately,
// however many tenants have it: tables repeat themselves. What it returns
// refers to nothing of what it was given, so that a parsed file can go.
type sharer struct {
	seed   maphash.Seed
	recent []shared       // by hash; a newer one takes the place
	elems  []authz.Member // of the lists and objects that are being read
}

// shared is a value that others may be, and its hash: equal values have equal
// ones.
type shared struct {
	value authz.Value
	hash  uint64
}

// What a sharer remembers is bounded, and little where there is little to read.
const (
	leastShared = 1 << 8
	mostShared  = 1 << 16
)

func newSharer(bytes int) *sharer {
	room := min(max(bytes/16, leastShared), mostShared)
	return &sharer{seed: maphash.MakeSeed(), recent: make([]shared, 1<<bits.Len(uint(room-1)))}
}

func (s *sharer) value(v authz.Value) authz.Value { return s.keep(v).value }

func (s *sharer) keep(v authz.Value) shared {
	switch k := v.Kind(); k {
	case authz.KindString:
		return s.text(v.Text())
	case authz.KindList, authz.KindObject:
		return s.composite(v)
	case authz.KindInt:
		return shared{v, mix(uint64(k), uint64(v.Int()))}
	case authz.KindFloat:
		return shared{v, mix(uint64(k), math.Float64bits(v.Float()))}
	default:
		if v.Bool() {
			return shared{v, 1}
		}
		return shared{v, mix(uint64(k), 0)}
	}
}

func (s *sharer) text(text string) shared {
	hash := maphash.String(s.seed, text)
	known := s.place(hash)
	if known.hash != hash || known.value.Kind() != authz.KindString || known.value.Text() != text {
		*known = shared{authz.StringValue(strings.Clone(text)), hash}
	}
	return *known
}

func (s *sharer) composite(v authz.Value) shared {
	first, object := len(s.elems), v.Kind() == authz.KindObject
	hash := mix(uint64(v.Kind()), uint64(v.Len()))
	for _, m := range v.Members() {
		if object {
			name := s.text(m.Name)
			m.Name = name.value.Text()
			hash = mix(hash, name.hash)
		}
		kept := s.keep(m.Value)
		hash = mix(hash, kept.hash)
		s.elems = append(s.elems, authz.Member{Name: m.Name, Value: kept.value})
	}
	elems := s.elems[first:]
	s.elems = s.elems[:first]
	known := s.place(hash)
	if known.hash != hash || known.value.Kind() != v.Kind() || !slices.EqualFunc(known.value.Members(), elems, sameMember) {
		*known = shared{compose(v.Kind(), elems), hash}
	}
	return *known
}

func sameMember(a, b authz.Member) bool { return a.Name == b.Name && a.Value.Equal(b.Value) }

func (s *sharer) place(hash uint64) *shared { return &s.recent[hash%uint64(len(s.recent))] }

func compose(kind authz.Kind, elems []authz.Member) authz.Value {
	if kind == authz.KindList {
		values := make([]authz.Value, len(elems))
		for i := range elems {
			values[i] = elems[i].Value
		}
		return authz.ListValue(values...)
	}
	object, _ := authz.ObjectValue(slices.Clone(elems)...) // names differ: they are an object's
	return object
}

// mix joins two hashes in their order.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd6e8feb86659fd93)
	return high ^ low ^ a<<1
}
