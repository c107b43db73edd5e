package feishu

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"
	"time"
)

// freshness is how far a callback's time, and an event's, may be from ours.
const freshness = 5 * time.Minute

// signature is what the platform signs a callback with: hex SHA-256 over
// timestamp, nonce, encrypt key and raw body.
func signature(timestamp, nonce, key string, body []byte) string {
	h := sha256.New()
	for _, part := range [...]string{timestamp, nonce, key} {
		h.Write([]byte(part))
	}
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// same compares secrets in constant time.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// fresh reports whether a time is near ours.
func fresh(at, now time.Time) bool {
	return at.After(now.Add(-freshness)) && at.Before(now.Add(freshness))
}

// moment reads a time in digits: seconds, milliseconds or microseconds, as the
// platform's pages have all three.
func moment(digits string) (time.Time, bool) {
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return time.Time{}, false
	}
	switch len(digits) {
	case 10:
		return time.Unix(int64(n), 0), true
	case 13:
		return time.UnixMilli(int64(n)), true
	case 16:
		return time.UnixMicro(int64(n)), true
	default:
		return time.Time{}, false
	}
}

// errSealed says nothing more: what is wrong with a sealed text is an oracle.
var errSealed = errors.New("cannot be decrypted")

// open decrypts base64(iv || AES-256-CBC(PKCS#7(text))) under SHA-256 of the
// encrypt key.
func open(sealed, key string) ([]byte, error) {
	data, err := base64.StdEncoding.Strict().DecodeString(sealed)
	if err != nil || len(data) < 2*aes.BlockSize || len(data)%aes.BlockSize != 0 {
		return nil, errSealed
	}
	hashed := sha256.Sum256([]byte(key))
	block, err := aes.NewCipher(hashed[:])
	if err != nil {
		return nil, errSealed
	}
	text := data[aes.BlockSize:]
	cipher.NewCBCDecrypter(block, data[:aes.BlockSize]).CryptBlocks(text, text)
	padding := int(text[len(text)-1])
	if padding < 1 || padding > aes.BlockSize {
		return nil, errSealed
	}
	for _, b := range text[len(text)-padding:] {
		if int(b) != padding {
			return nil, errSealed
		}
	}
	return text[:len(text)-padding], nil
}

// maxRemembered is how many names a memory holds; at the platform's own rate
// of callbacks it is never reached.
const maxRemembered = 1 << 16

// memory remembers names until their time is over.
type memory struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// first reports whether the name is new, and remembers it. A full memory finds
// nothing new, so that nothing passes twice.
func (m *memory) first(name string, now, until time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if end, known := m.until[name]; known && now.Before(end) {
		return false
	}
	if len(m.until) >= maxRemembered {
		for known, end := range m.until {
			if !now.Before(end) {
				delete(m.until, known)
			}
		}
		if len(m.until) >= maxRemembered {
			return false
		}
	}
	m.until[name] = until
	return true
}
