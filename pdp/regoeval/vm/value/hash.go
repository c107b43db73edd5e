package value

import (
	"hash/maphash"
	"math"
	"math/bits"
	"strconv"
)

// What hashes begin from is drawn when the process starts, so that nobody can
// choose keys that meet.
var (
	seed    = maphash.MakeSeed()
	secretA = maphash.String(seed, "a")
	secretB = maphash.String(seed, "b")
)

func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^secretA, b^secretB)
	return high ^ low
}

// hashOf is the hash of v, which k is known of, found once.
func (k *known) hashOf(v Value) uint64 {
	if k.hash != 0 {
		return k.hash
	}
	h := hashElems(v)
	if !k.fixed {
		k.hash = h
	}
	return h
}

// Hash is the same for values that are Equal, in one process. Numbers beyond
// binary64 are the exception, as in OPA, whose sets and objects hold 1e400 and
// 10e399 as two: of these, only those that are written alike share a hash.
func Hash(v Value) uint64 {
	switch v.kind {
	case Number:
		return hashNumber(v)
	case String:
		return maphash.String(seed, v.text())
	case Array:
		if v.form == members {
			return hashElems(v)
		}
		return v.list().hashOf(v)
	case Object, Set:
		if v.form == members {
			return hashElems(v)
		}
		return v.table().hashOf(v)
	default:
		mustLive(v.kind)
		return mix(uint64(v.kind), v.word)
	}
}

// hashElems is never 0.
func hashElems(v Value) uint64 {
	n := v.Len()
	h := mix(uint64(v.kind), uint64(n))
	for i := range n {
		k, e := v.At(i)
		if v.kind != Array {
			h = mix(h, Hash(k))
		}
		if v.kind != Set {
			h = mix(h, Hash(e))
		}
	}
	return max(h, 1)
}

func hashNumber(v Value) uint64 {
	f := 0.0
	if v.form == decimal {
		var err error
		if f, err = strconv.ParseFloat(v.text(), 64); err != nil {
			return mix(uint64(Number), maphash.String(seed, v.text()))
		}
	} else {
		f = v.Float()
	}
	if f == 0 {
		f = 0 // −0 and 0 are one
	}
	return mix(uint64(Number), math.Float64bits(f))
}

// sameKey reports whether both are one key of an object, or one element of a
// set: they are equal, and OPA finds the one when it looks for the other.
func sameKey(a, b Value) bool {
	if !Equal(a, b) {
		return false
	}
	if a.kind >= Array || a.form == decimal && b.form == decimal {
		return Hash(a) == Hash(b)
	}
	return true
}
