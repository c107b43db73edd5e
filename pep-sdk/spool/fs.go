package spool

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// FS is the folder of a spool. Tests put one in its place that loses what was
// not synced, or runs full.
type FS interface {
	// Names lists the folder.
	Names() ([]string, error)
	// Create makes a file that must not be there yet.
	Create(name string) (File, error)
	Open(name string) (File, error)
	Remove(name string) error
	// Sync makes creations durable.
	Sync() error
}

// File is one file of a spool.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// folder is a real one.
type folder string

func (f folder) Names() ([]string, error) {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

func (f folder) open(name string, flags int) (File, error) {
	file, err := os.OpenFile(filepath.Join(string(f), name), flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{file}, nil
}

func (f folder) Create(name string) (File, error) {
	return f.open(name, os.O_CREATE|os.O_EXCL|os.O_RDWR)
}

func (f folder) Open(name string) (File, error) { return f.open(name, os.O_RDWR) }

func (f folder) Remove(name string) error { return os.Remove(filepath.Join(string(f), name)) }

func (f folder) Sync() error {
	dir, err := os.Open(string(f))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
