//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/xiezhi-project/xiezhi/tests/process"
)

func postgres() service {
	return service{
		name:     "PostgreSQL",
		variable: "XIEZHI_TEST_POSTGRES",
		standard: standardPostgres(),
		debian:   "postgresql",
		help:     "install it (Debian: apt-get install postgresql; macOS: brew install postgresql)",
		answers:  postgresAnswers,
		binaries: postgresBinaries,
		start:    startPostgres,
	}
}

// standardPostgres lists what a local server may let in without a password.
func standardPostgres() []string {
	names := []string{"postgres", "root"}
	if me, err := user.Current(); err == nil && !slices.Contains(names, me.Username) {
		names = slices.Insert(names, 0, me.Username)
	}
	var urls []string
	for _, name := range names {
		for _, database := range []string{"test", "postgres", name} {
			if u := postgresURL(name, "127.0.0.1:5432", database); !slices.Contains(urls, u) {
				urls = append(urls, u)
			}
		}
	}
	return urls
}

func postgresURL(name, address, database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", url.PathEscape(name), address, url.PathEscape(database))
}

// mayCreate is asked of a server: the tests make schemas of their own, so a
// database where they may not is no use to them.
const mayCreate = "SELECT has_database_privilege(current_database(), 'CREATE')::text"

// postgresAnswers signs in without a password and asks mayCreate, in the
// frontend/backend protocol 3.0, so that it needs neither psql nor a driver.
func postgresAnswers(ctx context.Context, rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return err
	}
	conn, err := dial(ctx, rawURL)
	if err != nil {
		return err
	}
	defer conn.Close()
	startup := "\x00\x03\x00\x00user\x00" + u.User.Username() + "\x00database\x00" + u.Path[1:] + "\x00\x00"
	if _, err := conn.Write(withLength(startup)); err != nil {
		return err
	}
	if _, err := awaitReady(conn); err != nil {
		return err
	}
	if _, err := conn.Write(append([]byte{'Q'}, withLength(mayCreate+"\x00")...)); err != nil {
		return err
	}
	row, err := awaitReady(conn)
	if err != nil {
		return err
	}
	if !bytes.HasSuffix(row, []byte("true")) {
		return errors.New("the user may not create schemas there")
	}
	return nil
}

func withLength(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(4+len(body))), body...)
}

// awaitReady reads messages up to ReadyForQuery and returns the last DataRow.
// Anything but a sign-in without password is an error.
func awaitReady(r io.Reader) (row []byte, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		size := binary.BigEndian.Uint32(head[1:])
		if size < 4 || size > 1<<16 {
			return nil, errors.New("not a PostgreSQL server")
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		switch head[0] {
		case 'R':
			if !bytes.Equal(body, make([]byte, 4)) {
				return nil, errors.New("it wants a password")
			}
		case 'E':
			return nil, fmt.Errorf("refused: %q", body)
		case 'D':
			row = body
		case 'Z':
			return row, nil
		}
	}
}

// postgresBinaries looks in PATH and where distributions hide them.
func postgresBinaries() (string, bool) {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian
		"/usr/pgsql-*/bin",          // PostgreSQL's own RPMs
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
	} {
		matches, _ := filepath.Glob(pattern) // the patterns are well-formed
		slices.Reverse(matches)              // the newest version first
		dirs = append(dirs, matches...)
	}
	for _, dir := range dirs {
		initdb, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(initdb), "postgres")); err == nil {
			return filepath.Dir(initdb), true
		}
	}
	return "", false
}

func startPostgres(ctx context.Context, dir string) (found, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return found{}, err
	}
	home, err := os.MkdirTemp("", "xiezhi-postgres-")
	if err != nil {
		return found{}, err
	}
	who, err := postgresOwner(home)
	if err != nil {
		return found{}, errors.Join(err, os.RemoveAll(home))
	}
	data := filepath.Join(home, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(dir, "initdb"),
		"-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = home, &syscall.SysProcAttr{Credential: who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return found{}, errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), os.RemoveAll(home))
	}
	host, port, _ := strings.Cut(address, ":")
	// Its files are thrown away, so it need not wait for the disk.
	cmd := exec.Command(filepath.Join(dir, "postgres"), "-D", data, "-p", port,
		"-c", "listen_addresses="+host, "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200")
	cmd.Dir, cmd.SysProcAttr = home, &syscall.SysProcAttr{Credential: who}
	return launch(ctx, cmd, home, postgresURL("postgres", address, "postgres"), syscall.SIGINT, postgresAnswers)
}

// postgresOwner returns whom the server runs as and gives home to it.
// PostgreSQL refuses to run as root, so root lends it another user; nil is
// whoever we are.
func postgresOwner(home string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(home, int(uid), int(gid))
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}
