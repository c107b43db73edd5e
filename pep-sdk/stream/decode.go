package stream

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Bounds of what a header says, in bytes where nothing else is said.
const (
	MaxID         = 256
	MaxLabels     = 32
	MaxLabel      = 128 // a label's name, or its value
	MaxTenants    = 1000
	MinNonce      = 16
	MaxNonce      = 128
	MaxVersion    = 64
	MaxKeyID      = 64
	MaxRetryAfter = time.Hour
	MaxSignedText = 4 << 20 // trust.MaxSigned
)

// FromPEP reports whether a PEP sends frames of this type.
func (t Type) FromPEP() bool {
	return t == TypeHello || t == TypeAck || t == TypeReject || t == TypeResync
}

// FromNode reports whether a node sends frames of this type.
func (t Type) FromNode() bool {
	return t == TypeKeys || t == TypeLog || t == TypeHeartbeat || t == TypeRelease || t == TypeBye
}

// Decode reads one frame of at most max bytes. It takes exactly what the
// frame's type may say: a member that is unknown, given twice, of another type
// or out of bounds is an error, as is a frame that is short. Every error wraps
// [ErrFrame]. The body is a slice of data, and nothing in it was verified.
func Decode(data []byte, max int) (Frame, error) {
	if len(data) > max {
		return Frame{}, fault("%d bytes, at most %d", len(data), max)
	}
	if len(data) < 4 {
		return Frame{}, fault("%d bytes: want the header's length in 4", len(data))
	}
	size := binary.BigEndian.Uint32(data)
	if size > MaxHeader {
		return Frame{}, fault("header of %d bytes, at most %d", size, MaxHeader)
	}
	if uint64(len(data)-4) < uint64(size) {
		return Frame{}, fault("header of %d bytes, %d are there", size, len(data)-4)
	}
	text := data[4 : 4+size]
	if err := checkMembers(text); err != nil {
		return Frame{}, err
	}
	f := Frame{Body: data[4+size:]}
	if err := json.Unmarshal(text, &f.Header); err != nil {
		return Frame{}, fmt.Errorf("%w: header: %w", ErrFrame, err)
	}
	return f, f.check()
}

func fault(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFrame, fmt.Sprintf(format, args...))
}

// checkMembers holds the header's members to the names that it may have, in
// their one spelling and each once; encoding/json would let both pass.
func checkMembers(text []byte) error {
	header, err := authz.Parse(text)
	if err != nil {
		return fmt.Errorf("%w: header: %w", ErrFrame, err)
	}
	if err := checkNames(header, "", isHeaderMember); err != nil {
		return err
	}
	if hello, ok := header.Get("hello"); ok {
		if err := checkNames(hello, "hello", isHelloMember); err != nil {
			return err
		}
	}
	if held, ok := header.Get("held"); ok {
		return checkNames(held, "held", isHeldMember)
	}
	return nil
}

func checkNames(part authz.Value, place string, known func(name string) bool) error {
	if part.Kind() != authz.KindObject {
		return fault("header: %q: want an object", place)
	}
	for i := range part.Len() {
		if name := part.Name(i); !known(name) {
			return fault("header: %q has no member %q", place, clip(name))
		} else if part.Index(i).Kind() == authz.KindNull {
			return fault("header: member %q is null: leave it out", name)
		}
	}
	return nil
}

func isHeaderMember(name string) bool {
	switch name {
	case "type", "hello", "held", "release", "base", "position", "manifest", "log", "snapshot", "reason", "retry_after":
		return true
	}
	return false
}

func isHelloMember(name string) bool {
	switch name {
	case "id", "labels", "tenants", "nonce", "version":
		return true
	}
	return isHeldMember(name)
}

func isHeldMember(name string) bool {
	switch name {
	case "keys", "release", "digest", "kid", "position", "stale":
		return true
	}
	return false
}

// may reports whether a type may have a member beside its type.
func (t Type) may(member string) bool {
	switch t {
	case TypeHello:
		return member == "hello"
	case TypeAck:
		return member == "held"
	case TypeReject:
		return member == "release" || member == "position" || member == "reason"
	case TypeResync:
		return member == "log" || member == "snapshot" || member == "reason"
	case TypeKeys:
		return member == "manifest" || member == "body"
	case TypeLog, TypeHeartbeat:
		return member == "body"
	case TypeRelease:
		return member == "release" || member == "base" || member == "body"
	case TypeBye:
		return member == "reason" || member == "retry_after"
	default:
		return false
	}
}

// check holds a frame to what its type may and must say.
func (f *Frame) check() error {
	if !f.Type.FromPEP() && !f.Type.FromNode() {
		return fault("unknown type %q", clip(string(f.Type)))
	}
	for _, m := range [...]struct {
		name  string
		there bool
	}{
		{"hello", f.Hello != nil}, {"held", f.Held != nil}, {"release", f.Release != 0}, {"base", f.Base != ""},
		{"position", f.Position != 0}, {"manifest", f.Manifest != ""}, {"log", f.Log}, {"snapshot", f.Snapshot},
		{"reason", f.Reason != ""}, {"retry_after", f.RetryAfter != 0}, {"body", len(f.Body) > 0},
	} {
		if m.there && !f.Type.may(m.name) {
			return fault("%s has no %s", f.Type, m.name)
		}
	}
	switch f.Type {
	case TypeHello:
		if f.Hello == nil {
			return fault("hello without hello")
		}
		if err := f.Hello.check(); err != nil {
			return err
		}
	case TypeAck:
		if f.Held == nil {
			return fault("ack without held")
		}
		if err := f.Held.check(); err != nil {
			return err
		}
	case TypeReject:
		if f.Reason == "" {
			return fault("reject without a reason")
		}
	case TypeResync:
		if !f.Log && !f.Snapshot {
			return fault("resync asks for nothing")
		}
	case TypeRelease:
		if f.Release == 0 || len(f.Body) == 0 {
			return fault("release without a number or a body")
		}
	case TypeKeys, TypeLog, TypeHeartbeat:
		if len(f.Body) == 0 || len(f.Body) > MaxSignedText {
			return fault("%s: body of %d bytes, want 1 to %d", f.Type, len(f.Body), MaxSignedText)
		}
	}
	return f.checkTexts()
}

func (f *Frame) checkTexts() error {
	switch {
	case len(f.Reason) > maxReasonText:
		return fault("reason of %d bytes, at most %d", len(f.Reason), maxReasonText)
	case f.Base != "" && !isDigest(f.Base):
		return fault("base %q: want a digest", clip(f.Base))
	case f.RetryAfter < 0 || f.RetryAfter > MaxRetryAfter:
		return fault("retry_after %s: want 0 to %s", f.RetryAfter, MaxRetryAfter)
	}
	return nil
}

// check holds what a PEP says of itself to its bounds.
func (h *Hello) check() error {
	switch {
	case !isName(h.ID, MaxID):
		return fault("id: want 1 to %d bytes of printable text", MaxID)
	case len(h.Labels) > MaxLabels:
		return fault("%d labels, at most %d", len(h.Labels), MaxLabels)
	case len(h.Tenants) == 0 || len(h.Tenants) > MaxTenants:
		return fault("%d tenants: want 1 to %d", len(h.Tenants), MaxTenants)
	case len(h.Nonce) < MinNonce || !isName(h.Nonce, MaxNonce):
		return fault("nonce: want %d to %d bytes of printable text", MinNonce, MaxNonce)
	case h.Version != "" && !isName(h.Version, MaxVersion):
		return fault("version: want at most %d bytes of printable text", MaxVersion)
	}
	for name, value := range h.Labels {
		if !isName(name, MaxLabel) || value != "" && !isName(value, MaxLabel) {
			return fault("label %q: want a name and a value of at most %d bytes of printable text", clip(name), MaxLabel)
		}
	}
	if !slices.Equal(h.Tenants, []string{AllTenants}) {
		for i, tenant := range h.Tenants {
			if err := authz.ValidTenant(tenant); err != nil {
				return fault("tenant %q: %v", clip(tenant), err)
			}
			if i > 0 && h.Tenants[i-1] >= tenant {
				return fault("tenants: want them sorted, each once, or %q alone", AllTenants)
			}
		}
	}
	return h.Held.check()
}

func (h *Held) check() error {
	switch {
	case h.Digest != "" && !isDigest(h.Digest):
		return fault("digest %q: want a digest", clip(h.Digest))
	case (h.Release == 0) != (h.Digest == ""):
		return fault("release %d and digest %q: want both or neither", h.Release, h.Digest)
	case h.KeyID != "" && !isName(h.KeyID, MaxKeyID):
		return fault("kid: want at most %d bytes of printable text", MaxKeyID)
	}
	return nil
}

// isName reports whether text is 1 to max bytes that can stand in a log line.
func isName(text string, max int) bool {
	if text == "" || len(text) > max || !utf8.ValidString(text) {
		return false
	}
	return strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func isDigest(text string) bool {
	digits, ok := strings.CutPrefix(text, "sha256:")
	if !ok || len(digits) != 64 || strings.ToLower(digits) != digits {
		return false
	}
	_, err := hex.DecodeString(digits)
	return err == nil
}

// clip shortens what a peer wrote, for an error that is logged.
func clip(text string) string {
	if len(text) > 80 {
		return strings.ToValidUTF8(text[:80], "") + "…"
	}
	return text
}

// ClipReason shortens a text to what a frame's Reason may hold.
func ClipReason(text string) string {
	if len(text) > maxReasonText {
		return strings.ToValidUTF8(text[:maxReasonText-3], "") + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// AppendPart appends an encoded frame as one part of the answer to an HTTP
// poll: its length in 4 bytes, big endian, then the frame.
func AppendPart(buf, frame []byte) []byte {
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(frame))), frame...)
}

// ReadPart reads the next part, of at most max bytes. It returns io.EOF after
// the last one, and an error that wraps ErrFrame where one is cut off.
func ReadPart(r io.Reader, max int) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:1]); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, length[1:]); err != nil {
		return nil, fmt.Errorf("%w: cut off: %w", ErrFrame, err)
	}
	size := binary.BigEndian.Uint32(length[:])
	if uint64(size) > uint64(max) {
		return nil, fault("%d bytes, at most %d", size, max)
	}
	// Grown as bytes come: a length alone reserves nothing.
	frame, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return nil, fmt.Errorf("%w: cut off: %w", ErrFrame, err)
	}
	if len(frame) != int(size) {
		return nil, fault("cut off: %d of %d bytes", len(frame), size)
	}
	return frame, nil
}
