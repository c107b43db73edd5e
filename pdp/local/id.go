package local

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// crockford is the alphabet of ULIDs.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// newID returns a ULID of this time: order by id is order by time. The time is
// the decision's, not the local clock's.
func (e *Engine) newID(now time.Time) string {
	var raw [20]byte                                                     // 4 bytes of padding, 6 of milliseconds, 10 of chance
	binary.BigEndian.PutUint64(raw[2:], uint64(max(now.UnixMilli(), 0))) //nolint:gosec // not negative
	rand.Read(raw[10:])                                                  //nolint:errcheck // it never fails
	// 160 bits are 32 digits; the 26 digits of a ULID are the last 130 bits.
	var text [32]byte
	e.digits.Encode(text[:], raw[:])
	return string(text[6:])
}
