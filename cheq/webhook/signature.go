package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader carries "t=<seconds since 1970>,v1=<signature>": the
// hexadecimal HMAC-SHA256 under the hook's secret of the time as it is written,
// a dot, and the raw body.
const SignatureHeader = "X-Xiezhi-Signature"

// fresh is how far a signature's time may be off.
const fresh = 5 * time.Minute

func sign(secret []byte, now time.Time, body []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(secret, t, body))
}

func mac(secret []byte, t string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(t))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}

// signature is a header that was read.
type signature struct {
	time string // as it was signed
	at   time.Time
	mac  []byte
}

// parseSignature reads exactly what sign writes.
func parseSignature(header string) (signature, bool) {
	t, v1, ok := strings.Cut(header, ",v1=")
	if !ok || !strings.HasPrefix(t, "t=") || len(v1) != 2*sha256.Size {
		return signature{}, false
	}
	t = t[len("t="):]
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != t || seconds < 0 || seconds > 1<<40 {
		return signature{}, false
	}
	sum, err := hex.DecodeString(v1)
	return signature{t, time.Unix(seconds, 0).UTC(), sum}, err == nil
}

func (s signature) fresh(now time.Time) bool {
	off := now.Sub(s.at)
	return off <= fresh && off >= -fresh
}

func (s signature) by(secret, body []byte) bool {
	return hmac.Equal(s.mac, mac(secret, s.time, body))
}
