package feishu

import (
	"encoding/binary"
	"errors"
	"slices"
)

// The two methods of a frame.
const (
	methodControl = 0
	methodData    = 1
)

// frame is one message of the long connection, in protocol buffers.
type frame struct {
	seqID, logID    uint64      // 1, 2
	service, method int32       // 3, 4
	headers         [][2]string // 5: 1 key, 2 value
	payloadEncoding string      // 6
	payloadType     string      // 7
	payload         []byte      // 8
	logIDNew        string      // 9
}

var errFrame = errors.New("malformed frame")

func (f *frame) header(key string) string {
	if i := slices.IndexFunc(f.headers, func(h [2]string) bool { return h[0] == key }); i >= 0 {
		return f.headers[i][1]
	}
	return ""
}

func (f *frame) encode() []byte {
	var b []byte
	number := func(field int, v uint64) { b = binary.AppendUvarint(append(b, byte(field<<3)), v) }
	text := func(field int, v []byte) {
		b = binary.AppendUvarint(append(b, byte(field<<3|2)), uint64(len(v)))
		b = append(b, v...)
	}
	number(1, f.seqID)
	number(2, f.logID)
	number(3, uint64(f.service))
	number(4, uint64(f.method))
	for _, h := range f.headers {
		entry := make([]byte, 0, len(h[0])+len(h[1])+8)
		for i, v := range h {
			entry = binary.AppendUvarint(append(entry, byte((i+1)<<3|2)), uint64(len(v)))
			entry = append(entry, v...)
		}
		text(5, entry)
	}
	text(6, []byte(f.payloadEncoding))
	text(7, []byte(f.payloadType))
	text(8, f.payload)
	text(9, []byte(f.logIDNew))
	return b
}

// decodeFrame refuses a frame without the fields that are required.
func decodeFrame(b []byte) (*frame, error) {
	f := &frame{}
	seen := map[int]bool{}
	err := eachField(b, func(field int, v uint64, text []byte) error {
		seen[field] = true
		switch field {
		case 1:
			f.seqID = v
		case 2:
			f.logID = v
		case 3:
			f.service = int32(v)
		case 4:
			f.method = int32(v)
		case 5:
			var h [2]string
			err := eachField(text, func(field int, _ uint64, text []byte) error {
				if field == 1 || field == 2 {
					h[field-1] = string(text)
				}
				return nil
			})
			if err != nil {
				return err
			}
			f.headers = append(f.headers, h)
		case 6:
			f.payloadEncoding = string(text)
		case 7:
			f.payloadType = string(text)
		case 8:
			f.payload = slices.Clone(text)
		case 9:
			f.logIDNew = string(text)
		}
		return nil
	})
	if err != nil || !seen[1] || !seen[2] || !seen[3] || !seen[4] {
		return nil, errFrame
	}
	return f, nil
}

// eachField goes through the fields of one protocol buffer: numbers and texts.
func eachField(b []byte, visit func(field int, v uint64, text []byte) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return errFrame
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return errFrame
		}
		b = b[n:]
		var text []byte
		switch key & 7 {
		case 0:
		case 2:
			if v > uint64(len(b)) {
				return errFrame
			}
			text, b = b[:v], b[v:]
		default:
			return errFrame
		}
		if err := visit(int(key>>3), v, text); err != nil {
			return err
		}
	}
	return nil
}
