package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What makes a block. Fewer records, and those that are much longer than usual,
// are worth no block.
const (
	blockLeast = 64      // records
	blockMost  = 512     // records
	blockBytes = 1 << 20 // of records, after which a block ends
	// bucketBytes is how much of their ids the records of a block share. Of a
	// ULID it is the time in steps of 2^15 ms.
	bucketBytes = 7
)

// bucket is what an id shares with all others of its block.
func bucket(id string) string { return id[:min(len(id), bucketBytes)] }

// afterBucket is greater than every id of the bucket, since no UTF-8 has this
// byte.
func afterBucket(id string) string { return bucket(id) + "\xff" }

var errDamaged = errors.New("it is damaged on disk: its records cannot be read")

// block is a row of blocks. Its blobs end with their checksums.
type block struct {
	number           int64
	first, last      string
	earliest, latest int64
	names, ids, data []byte
}

// damaged says which block it is.
func (b *block) damaged() error {
	return fmt.Errorf("block %d of decision records, %s to %s: %w", b.number, b.first, b.last, errDamaged)
}

// appendRaw appends a record as blocks hold it: its time, its texts in order of
// textColumns, its body, each behind its length.
func appendRaw(raw []byte, r *authz.AuditRecord) []byte {
	raw = binary.AppendVarint(raw, r.Time.UnixMicro())
	for _, text := range textsOf(r) {
		raw = append(binary.AppendUvarint(raw, uint64(len(text))), text...)
	}
	start := len(raw) + 4
	raw = r.AppendBody(append(raw, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(raw[start-4:], uint32(len(raw)-start))
	return raw
}

// room is memory in which records are put in order, and blocks are made of
// them, one after the other.
type room struct {
	records    []authz.AuditRecord
	list       []*authz.AuditRecord
	raw, data  []byte
	ids, names marks
	text       []byte
}

// newBlock makes a block of the first of some records, which are in order of
// their ids and share a bucket, and says how many it took. Its data lies in the
// room.
func newBlock(records []*authz.AuditRecord, most int, in *room) (b *block, taken int) {
	raw, ids, names := in.raw[:0], in.ids[:0], in.names[:0]
	earliest, latest := records[0].Time, records[0].Time
	var before [len(textColumns)]string
	for taken < min(len(records), most) && len(raw) < blockBytes {
		r := records[taken]
		raw = appendRaw(raw, r)
		if r.Time.Before(earliest) {
			earliest = r.Time
		}
		if r.Time.After(latest) {
			latest = r.Time
		}
		texts := textsOf(r)
		in.text = append(in.text[:0], r.ID...)
		ids = append(ids, mark(columnID, in.text))
		for _, column := range markedColumns {
			if taken == 0 || texts[column] != before[column] { // marked already
				in.text = append(in.text[:0], texts[column]...)
				names = append(names, mark(column, in.text))
			}
		}
		before = texts
		taken++
	}
	if in.raw, in.ids, in.names = raw, ids, names; cap(in.data) < s2.MaxEncodedLen(len(raw))+sumBytes {
		in.data = make([]byte, s2.MaxEncodedLen(len(raw))+sumBytes)
	}
	return &block{
		first: records[0].ID, last: records[taken-1].ID, earliest: earliest.UnixMicro(), latest: latest.UnixMicro(),
		ids: ids.sealed(), names: names.sealed(), data: sealed(s2.Encode(in.data[:cap(in.data)-sumBytes], raw)),
	}, taken
}

// each reads the records of a block in order of their ids, while it is told to
// go on. A record is valid until the next one.
func (b *block) each(fn func(*rawRecord) bool) error {
	data, whole := unsealed(b.data)
	if !whole {
		return b.damaged()
	}
	raw, err := s2.Decode(nil, data)
	if err != nil {
		return b.damaged()
	}
	for len(raw) > 0 {
		var r rawRecord
		if raw = r.cut(raw); raw == nil {
			return b.damaged()
		}
		if !fn(&r) {
			return nil
		}
	}
	return nil
}

// rawRecord is a record inside a block's memory.
type rawRecord struct {
	at    int64
	texts [len(textColumns)][]byte
	body  []byte
}

// cut reads the first record and returns what is behind it, nil if there is no
// whole one.
func (r *rawRecord) cut(raw []byte) []byte {
	at, n := binary.Varint(raw)
	if n <= 0 {
		return nil
	}
	r.at, raw = at, raw[n:]
	for i := range r.texts {
		size, n := binary.Uvarint(raw)
		if n <= 0 || size > uint64(len(raw)-n) {
			return nil
		}
		r.texts[i], raw = raw[n:n+int(size)], raw[n+int(size):]
	}
	if len(raw) < 4 {
		return nil
	}
	size := int(binary.LittleEndian.Uint32(raw))
	if raw = raw[4:]; size > len(raw) {
		return nil
	}
	r.body = raw[:size]
	return raw[size:]
}

// record copies it out of the block.
func (r *rawRecord) record() authz.AuditRecord {
	text := func(column int) string { return string(r.texts[column]) }
	return authz.AuditRecord{
		ID: text(columnID), Time: timeOf(r.at), Kind: authz.AuditKind(text(columnKind)), Tenant: text(columnTenant), Actor: text(columnActor),
		Subject: text(columnSubject), Action: text(columnAction), Resource: text(columnResource), Effect: text(columnEffect),
		Revision: text(columnRevision), Body: bodyOf(r.body),
	}
}

// marks stand for texts of columns, four bytes each: who looks for a text that
// has no mark need not read the records.
type marks []uint32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func markOf(column int, text string) uint32 { return mark(column, []byte(text)) }

func mark(column int, text []byte) uint32 { return crc32.Update(uint32(column), castagnoli, text) }

// sealed writes each mark once, in order.
func (m marks) sealed() []byte {
	slices.Sort(m)
	m = slices.Compact(m)
	data := make([]byte, 0, 4*len(m)+sumBytes)
	for _, mark := range m {
		data = binary.LittleEndian.AppendUint32(data, mark)
	}
	return sealed(data)
}

// marked reports whether a mark is among those that sealed wrote.
func marked(data []byte, mark uint32) bool {
	low, high := 0, len(data)/4
	for low < high {
		middle := (low + high) / 2
		switch found := binary.LittleEndian.Uint32(data[4*middle:]); {
		case found == mark:
			return true
		case found < mark:
			low = middle + 1
		default:
			high = middle
		}
	}
	return false
}

const sumBytes = 4

// sealed appends the data's checksum.
func sealed(data []byte) []byte {
	return binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
}

// unsealed returns the data without its checksum, and whether that is right.
func unsealed(data []byte) ([]byte, bool) {
	end := len(data) - sumBytes
	if end < 0 {
		return nil, false
	}
	return data[:end], crc32.Checksum(data[:end], castagnoli) == binary.LittleEndian.Uint32(data[end:])
}
