package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
)

// unixPrefix begins a listen address that is the path of a Unix socket.
const unixPrefix = "unix:"

// Listen opens a door that only this machine reaches: a loopback address, or a
// Unix socket that only this user may open. Anything else is refused, since
// the sidecar asks nobody who they are.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if path, isUnix := strings.CutPrefix(address, unixPrefix); isUnix {
		return listenUnix(ctx, path)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen: %q: want host:port on loopback, or unix:/path", address)
	}
	if !config.Loopback(host) {
		return nil, fmt.Errorf("listen: %s is not loopback: the sidecar answers whoever reaches it, so it serves 127.0.0.1, ::1 or unix:/path only", address)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen: %s is taken by another process; choose another with --listen", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() { // localhost may be anything in a hosts file
		return nil, errors.Join(fmt.Errorf("listen: %s is %s here, which is not loopback", address, ln.Addr()), ln.Close())
	}
	return ln, nil
}

const (
	socketMode = 0o600
	// maxSocketPath is what Linux and the BSDs take, less the final zero; the
	// socket is made under a longer name first.
	maxSocketPath = 103
	temporary     = ".s-*" // of the folder in which it is made
	dialTimeout   = time.Second
)

// listenUnix makes the socket in a folder that only this user may enter, gives
// it its mode, and then moves it to its place: at no time may others open it.
// A socket that nobody listens on any more is replaced; anything else that is
// there is left alone.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("listen: %q: want unix: and an absolute path", path)
	}
	if len(path) > maxSocketPath-len("/.s-0123456789/s") {
		return nil, fmt.Errorf("listen: %s: the path of a socket may be %d bytes long at most", path, maxSocketPath-len("/.s-0123456789/s"))
	}
	if err := checkFree(ctx, path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), temporary)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	ln, err := bind(ctx, filepath.Join(dir, "s"), path)
	if removed := os.RemoveAll(dir); err == nil && removed != nil {
		err = errors.Join(fmt.Errorf("listen: %w", removed), ln.Close())
	}
	if err != nil {
		return nil, err
	}
	return ln, nil
}

// bind makes the socket at made and moves it to path.
func bind(ctx context.Context, made, path string) (*socket, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", made)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	unix := ln.(*net.UnixListener)
	unix.SetUnlinkOnClose(false) // it will have another name by then
	var info os.FileInfo
	if err = os.Chmod(made, socketMode); err == nil {
		if info, err = os.Lstat(made); err == nil {
			err = os.Rename(made, path)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), unix.Close())
	}
	return &socket{UnixListener: unix, path: path, made: info}, nil
}

// checkFree refuses a path at which something is that must not be replaced.
func checkFree(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("listen: %w", err)
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("listen: %s exists and is no socket; remove it or choose another path", path)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("listen: another process listens on %s; stop it or choose another path", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen: cannot tell whether a process listens on %s: %w", path, err)
	}
	return nil // nobody does: a process that was killed has left it
}

// socket is a Unix socket that removes its own file, and no other, at the end.
type socket struct {
	*net.UnixListener
	path string
	made os.FileInfo
}

// Close implements net.Listener.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.made) {
		if err := os.Remove(s.path); err != nil {
			return errors.Join(err, s.UnixListener.Close())
		}
	}
	return s.UnixListener.Close()
}

// Addr implements net.Listener: the path that callers know.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: s.path} }
