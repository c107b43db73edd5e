package gitsource

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// Limits of a pack once it is unpacked. Indexing holds one object and the
// bases of its deltas in memory.
const (
	maxObject  = bundles.MaxFileBytes
	maxObjects = 5_000_000
)

var errPack = errors.New("the repository is too large for a policy source")

// checkPack reads a pack through once, and refuses objects that would unpack
// to more than a release may hold. It keeps nothing in memory.
func checkPack(ctx context.Context, file io.ReadSeeker) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	scanner := packfile.NewScanner(file)
	_, count, err := scanner.Header()
	if err != nil {
		return fmt.Errorf("not a pack: %w", err)
	}
	if count > maxObjects {
		return fmt.Errorf("%w: %d objects, at most %d are read", errPack, count, maxObjects)
	}
	for range count {
		if err := ctx.Err(); err != nil {
			return err
		}
		header, err := scanner.NextObjectHeader()
		if err != nil {
			return fmt.Errorf("not a good pack: %w", err)
		}
		size := header.Length
		if header.Type == plumbing.OFSDeltaObject || header.Type == plumbing.REFDeltaObject {
			target, err := deltaTarget(scanner)
			if err != nil {
				return fmt.Errorf("not a good pack: %w", err)
			}
			size = max(size, target)
		}
		if size > maxObject {
			return fmt.Errorf("%w: an object of %d bytes, at most %d are read; it may be in an older commit", errPack, size, maxObject)
		}
	}
	return nil
}

// deltaTarget reads what a delta unpacks to: its second number.
func deltaTarget(scanner *packfile.Scanner) (size int64, err error) {
	object, err := scanner.ReadObject()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, object.Close()) }()
	reader := bufio.NewReader(object)
	for range 2 {
		if size, err = readSize(reader); err != nil {
			return 0, err
		}
	}
	_, err = io.Copy(io.Discard, reader) // the scanner stands behind the object then
	return size, err
}

// readSize reads a number in groups of seven bits, the lowest first.
func readSize(r io.ByteReader) (int64, error) {
	var size int64
	for shift := 0; shift < 63; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		size |= int64(b&0x7f) << shift
		if b&0x80 == 0 {
			return size, nil
		}
	}
	return 0, errors.New("a size of more than 63 bits")
}
