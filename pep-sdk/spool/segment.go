package spool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const (
	magic      = "xzspool1"
	suffix     = ".spool"
	headerSize = int64(len(magic))
	frameSize  = 8 // before each record
	// maxRecord bounds one record, and what a damaged length can ask for.
	maxRecord = 64 << 20
	// Records are read into memory of roomBytes until less than usualRecord of
	// it is left.
	roomBytes   = 512 << 10
	usualRecord = 4 << 10
)

// segment is one file. Its fields are guarded by Spool.mu.
type segment struct {
	number  uint64
	end     int64  // bytes that are synced
	records uint64 // in them
	shipped int64  // bytes that the sink has taken, with the header
	sealed  bool   // nothing will be added
}

func (s *segment) name() string { return segmentName(s.number) }

func segmentName(number uint64) string { return fmt.Sprintf("%020d%s", number, suffix) }

// segmentNumber reads what segmentName writes.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, ok && err == nil && segmentName(number) == name
}

// beginFrame makes room for what endFrame fills in.
func beginFrame(buf []byte) []byte { return append(buf, make([]byte, frameSize)...) }

// endFrame completes a buffer that holds one frame.
func endFrame(frame []byte, table *crc32.Table) {
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-frameSize))
	binary.LittleEndian.PutUint32(frame[4:], frameSum(frame[:4], frame[frameSize:], table))
}

func frameSum(length, record []byte, table *crc32.Table) uint32 {
	return crc32.Update(crc32.Update(0, table, length), table, record)
}

// errDamaged is a frame that is not whole.
var errDamaged = errors.New("damaged record")

// readFrame returns the next record, io.EOF at the end, or errDamaged. The
// record is valid until the next call with the same buf.
func readFrame(r io.Reader, buf []byte, table *crc32.Table) (record []byte, err error) {
	var head [frameSize]byte
	switch _, err := io.ReadFull(r, head[:]); {
	case err == io.EOF:
		return nil, io.EOF
	case err == io.ErrUnexpectedEOF:
		return nil, errDamaged
	case err != nil:
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size == 0 || size > maxRecord {
		return nil, errDamaged
	}
	if int(size) > cap(buf) {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	switch _, err := io.ReadFull(r, buf); {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return nil, errDamaged
	case err != nil:
		return nil, err
	}
	if frameSum(head[:4], buf, table) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errDamaged
	}
	return buf, nil
}

// scan counts the intact records of a file and says where they end.
func scan(file File, table *crc32.Table) (records uint64, end, size int64, err error) {
	if size, err = file.Size(); err != nil {
		return 0, 0, 0, err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(file, 0, size), 1<<16)
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(r, head); err == io.EOF || err == io.ErrUnexpectedEOF || err == nil && string(head) != magic {
		return 0, 0, size, nil // not even the header was synced
	} else if err != nil {
		return 0, 0, size, err
	}
	end = headerSize
	var buf []byte
	for {
		record, err := readFrame(r, buf, table)
		if err == io.EOF || err == errDamaged {
			return records, end, size, nil
		}
		if err != nil {
			return 0, 0, size, err
		}
		buf = record
		records, end = records+1, end+frameSize+int64(len(record))
	}
}

// load reads records from an offset until it has enough of them or comes to
// the end. It returns how many bytes they take. A damaged frame ends it with
// errDamaged, after the records before it. Their bodies are not parsed.
func load(file File, from, end int64, most int, table *crc32.Table) (records []authz.AuditRecord, unreadable int, bytes int64, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(file, from, end-from), 1<<16)
	var room []byte // the records' bodies stay in it
	for taken := 0; taken < most && from+bytes < end && bytes < batchBytes; taken++ {
		if len(room) < usualRecord {
			room = make([]byte, min(end-from-bytes, roomBytes))
		}
		data, err := readFrame(r, room, table) // a longer one has room of its own
		if err == io.EOF {
			err = errDamaged // the file is shorter than what was synced
		}
		if err != nil {
			return records, unreadable, bytes, err
		}
		if len(data) <= len(room) {
			room = room[len(data):]
		}
		bytes += frameSize + int64(len(data))
		record, err := authz.ReadAuditRecord(data)
		if err != nil {
			unreadable++
			continue
		}
		records = append(records, record)
	}
	return records, unreadable, bytes, nil
}
