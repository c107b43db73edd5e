//go:build unix

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// answerTimeout bounds one exchange with a server under load.
const answerTimeout = 30 * time.Second

// client sends requests one after the other on one keep-alive connection. It
// costs little, since on one machine what it spends the servers lack: requests
// are written as they were prepared, and of an answer only the status and the
// length of the body are read.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte // of the last answer, reused
}

func dialClient(address string) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}, nil
}

func (c *client) close() { c.conn.Close() }

// prepare is a POST of JSON as its bytes on the wire.
func prepare(host, path, token string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, host, len(body))
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// do sends one request and returns the body of a 200; anything else is an
// error. The body is good until the next call.
func (c *client) do(request []byte) ([]byte, error) {
	if err := c.send(request); err != nil {
		return nil, err
	}
	return c.receive()
}

func (c *client) send(request []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	_, err := c.conn.Write(request)
	return err
}

// receive is the second half of do.
func (c *client) receive() ([]byte, error) {
	status, length, err := c.readHead()
	if err != nil {
		return nil, err
	}
	if length >= 0 {
		err = c.readBody(length)
	} else {
		err = c.readChunks()
	}
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %.500s", status, c.body)
	}
	return c.body, err
}

// readHead reads the status line and the fields; length is -1 for chunks.
func (c *client) readHead() (status, length int, err error) {
	line, err := c.readLine()
	if err != nil {
		return 0, 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, 0, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("status line %q: %w", line, err)
	}
	length = -2
	for {
		if line, err = c.readLine(); err != nil {
			return 0, 0, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return 0, 0, fmt.Errorf("field %q", line)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = -1
		}
	}
	if length == -2 {
		return 0, 0, errors.New("an answer without the length of its body")
	}
	return status, length, nil
}

// readLine returns one line without its end, good until the next read.
func (c *client) readLine() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

func (c *client) readBody(length int) error {
	c.body = append(c.body[:0], make([]byte, length)...)
	_, err := io.ReadFull(c.in, c.body)
	return err
}

func (c *client) readChunks() error {
	c.body = c.body[:0]
	for {
		line, err := c.readLine()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return fmt.Errorf("chunk size %q: %w", line, err)
		}
		at := len(c.body)
		c.body = append(c.body, make([]byte, size)...)
		if _, err := io.ReadFull(c.in, c.body[at:]); err != nil {
			return err
		}
		if _, err := c.readLine(); err != nil { // the end of the chunk, or the empty trailer
			return err
		}
		if size == 0 {
			return nil
		}
	}
}
