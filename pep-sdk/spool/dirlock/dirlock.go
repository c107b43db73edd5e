// Package dirlock lets one process at a time own a folder.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrHeld is returned when another process owns the folder.
var ErrHeld = errors.New("in use by another process")

// Lock is a held lock.
type Lock struct{ file *os.File }

// Acquire takes the named lock of a folder at once or returns an error that
// wraps [ErrHeld]. The operating system gives the lock back when the process
// ends, however it ends; the file itself stays.
func Acquire(dir, name string) (*Lock, error) {
	path := filepath.Join(dir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is %w (pid %s): stop it, or choose another folder", dir, ErrHeld, holder(path))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Only for the message above: the lock is the open file, not its text.
	err = file.Truncate(0)
	if err == nil {
		_, err = file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), file.Close())
	}
	return &Lock{file}, nil
}

func holder(path string) string {
	text, err := os.ReadFile(path)
	if pid := strings.TrimSpace(string(text)); err == nil && pid != "" {
		return pid
	}
	return "unknown"
}

// Release gives the lock back.
func (l *Lock) Release() error { return l.file.Close() }
