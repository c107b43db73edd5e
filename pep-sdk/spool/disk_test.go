package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"
)

// disk is a folder that tells what was written from what was synced.
type disk struct {
	mu       sync.Mutex
	files    map[string]*diskFile
	durable  map[string]*diskFile // the entries that a sync of the folder saw
	capacity int                  // bytes that fit, 0: any number
	fault    func(op, name string) error
	latency  time.Duration // of a file's sync
	syncs    int
}

type diskFile struct {
	disk   *disk
	name   string
	data   []byte
	synced []byte
	open   int
}

func newDisk() *disk {
	return &disk{files: map[string]*diskFile{}, durable: map[string]*diskFile{}}
}

// powerCut returns the disk as it is after the power came back. Of what was
// written and not synced, the first keep bytes of each file survived.
func (d *disk) powerCut(keep int) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newDisk()
	for name, file := range d.durable {
		data := slices.Clone(file.synced)
		if tail := len(file.data) - len(data); tail > 0 {
			data = append(data, file.data[len(data):len(data)+min(keep, tail)]...)
		}
		after.files[name] = &diskFile{disk: after, name: name, data: data, synced: slices.Clone(data)}
		after.durable[name] = after.files[name]
	}
	return after
}

func (d *disk) check(op, name string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(op, name)
}

func (d *disk) set(change func(d *disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *disk) used() (bytes int) {
	for _, file := range d.files {
		bytes += len(file.data)
	}
	return bytes
}

func (d *disk) Names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.files)), d.check("names", "")
}

func (d *disk) Create(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("create", name); err != nil {
		return nil, err
	}
	if d.files[name] != nil {
		return nil, fs.ErrExist
	}
	d.files[name] = &diskFile{disk: d, name: name, open: 1}
	return d.files[name], nil
}

func (d *disk) Open(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("open", name); err != nil {
		return nil, err
	}
	file := d.files[name]
	if file == nil {
		return nil, fs.ErrNotExist
	}
	file.open++
	return file, nil
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("remove", name); err != nil {
		return err
	}
	if d.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(d.files, name)
	return nil
}

func (d *disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("sync folder", ""); err != nil {
		return err
	}
	d.durable = maps.Clone(d.files)
	return nil
}

// openFiles says which files were not closed.
func (d *disk) openFiles() (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, file := range d.files {
		if file.open != 0 {
			names = append(names, fmt.Sprintf("%s: %d", name, file.open))
		}
	}
	return names
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.check("read", f.name); err != nil {
		return 0, err
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.check("write", f.name); err != nil {
		return 0, err
	}
	full := error(nil)
	if grows := int(off) + len(p) - len(f.data); f.disk.capacity > 0 && grows > 0 {
		if free := f.disk.capacity - f.disk.used(); grows > free { // what fits is written, as a real disk does
			p, full = p[:max(0, len(p)-(grows-max(0, free)))], syscall.ENOSPC
		}
	}
	if need := int(off) + len(p); need > len(f.data) {
		f.data = append(f.data, make([]byte, need-len(f.data))...)
	}
	copy(f.data[off:], p)
	return len(p), full
}

func (f *diskFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.check("truncate", f.name); err != nil {
		return err
	}
	f.data = f.data[:size]
	return nil
}

func (f *diskFile) Sync() error {
	f.disk.mu.Lock()
	latency := f.disk.latency
	f.disk.mu.Unlock()
	if latency > 0 {
		<-time.After(latency) // the clock is synctest's
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.check("sync", f.name); err != nil {
		return err
	}
	f.disk.syncs++
	f.synced = slices.Clone(f.data)
	return nil
}

func (f *diskFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.data)), f.disk.check("size", f.name)
}

func (f *diskFile) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.open == 0 {
		return errors.New("closed twice")
	}
	f.open--
	return nil
}
