package httpd

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync/atomic"

	"github.com/gofiber/fiber/v2"
)

// HeaderRequestID carries the caller's name for a call, or ours.
const HeaderRequestID = "X-Request-Id"

var requestIDName = []byte(HeaderRequestID)

// requestIDs numbers the calls that bring no id of their own. They tell calls
// apart in a log and are no secret.
type requestIDs struct {
	prefix string
	next   *atomic.Uint64
}

func newRequestIDs() requestIDs {
	var random [6]byte
	_, _ = rand.Read(random[:]) // crypto/rand.Read never fails
	return requestIDs{prefix: hex.EncodeToString(random[:]) + "-", next: new(atomic.Uint64)}
}

// identify puts the call's id into the answer: the caller's own, unchanged, or
// a new one.
func (s *Server) identify(f *fiber.Ctx) {
	header := &f.Response().Header
	if id := f.Request().Header.Peek(HeaderRequestID); len(id) > 0 {
		header.SetCanonical(requestIDName, id)
		return
	}
	var buf [32]byte
	id := strconv.AppendUint(append(buf[:0], s.ids.prefix...), s.ids.next.Add(1), 10)
	header.SetCanonical(requestIDName, id)
}

// requestID reads the call's id back.
func (s *Server) requestID(f *fiber.Ctx) string {
	return string(f.Response().Header.Peek(HeaderRequestID))
}
