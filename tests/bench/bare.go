//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// writers is how many goroutines of the bare server write at once.
const writers = 32

// fanOut orders the bare server to send that many bytes to everybody.
type fanOut struct {
	Size int `json:"size"`
}

// runBare is the main function of the bare server's process: it hands the same
// bytes to every connection with a fixed pool of writers, and reads what comes
// back. It is what a push can cost at least on this machine with this library.
// It prints its address first, and for each fan-out ordered on standard input
// when it began.
func runBare(ctx context.Context, listen string, in io.Reader, out io.Writer) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	b := &bare{ctx: ctx, connections: map[*websocket.Conn]bool{}}
	server := &http.Server{Handler: http.HandlerFunc(b.accept), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }() // until the process ends
	answers := json.NewEncoder(out)
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var f fanOut
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return err
		}
		began := time.Now()
		b.send(make([]byte, f.Size))
		if err := answers.Encode(done{At: began.UnixNano()}); err != nil {
			return err
		}
	}
	return server.Close()
}

type bare struct {
	ctx         context.Context
	mu          sync.Mutex
	connections map[*websocket.Conn]bool
}

func (b *bare) accept(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return
	}
	b.mu.Lock()
	b.connections[ws] = true
	b.mu.Unlock()
	for {
		if _, _, err := ws.Read(b.ctx); err != nil {
			b.mu.Lock()
			delete(b.connections, ws)
			b.mu.Unlock()
			return
		}
	}
}

func (b *bare) send(payload []byte) {
	next := make(chan *websocket.Conn)
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for ws := range next {
				ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
				_ = ws.Write(ctx, websocket.MessageBinary, payload) // who does not get it is missed by the swarm
				cancel()
			}
		})
	}
	b.mu.Lock()
	all := make([]*websocket.Conn, 0, len(b.connections))
	for ws := range b.connections {
		all = append(all, ws)
	}
	b.mu.Unlock()
	for _, ws := range all {
		next <- ws
	}
	close(next)
	writing.Wait()
}
