package feishu

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

const (
	callbackTimeout = 3 * time.Second
	maxAnswer       = 1 << 20 // bytes of an app's answer
)

var errTooSlow = errors.New("the app did not answer within 3 seconds")

// Answer is what an app answered to a callback or an event.
type Answer struct {
	Status int         `json:"status"` // HTTP's, or the code in a frame of the long connection
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// Seal returns the body in which a callback travels, and the headers that sign
// it as of now: encrypted where the app has an encrypt key, else as it is and
// unsigned. Tests forge with it what Feishu would not send.
func (s *Sim) Seal(appID string, plain []byte) (http.Header, []byte, error) {
	a, err := s.appOf(appID)
	if err != nil {
		return nil, nil, err
	}
	header := http.Header{}
	header.Set("Content-Type", "application/json; charset=utf-8")
	if a.EncryptKey == "" {
		return header, plain, nil
	}
	body := compact(map[string]string{"encrypt": encrypt(a.EncryptKey, plain)})
	timestamp, nonce := strconv.FormatInt(s.clock.Now().Unix(), 10), unique("")
	header.Set("X-Lark-Request-Timestamp", timestamp)
	header.Set("X-Lark-Request-Nonce", nonce)
	header.Set("X-Lark-Signature", Signature(timestamp, nonce, a.EncryptKey, body))
	return header, body, nil
}

// Signature is what X-Lark-Signature carries for a raw body.
func Signature(timestamp, nonce, encryptKey string, body []byte) string {
	sum := sha256.Sum256(append([]byte(timestamp+nonce+encryptKey), body...))
	return hex.EncodeToString(sum[:])
}

func encrypt(key string, plain []byte) string {
	secret := sha256.Sum256([]byte(key))
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	sealed := make([]byte, aes.BlockSize+len(padded))
	_, _ = rand.Read(sealed[:aes.BlockSize]) // never fails
	cipher.NewCBCEncrypter(block, sealed[:aes.BlockSize]).CryptBlocks(sealed[aes.BlockSize:], padded)
	return base64.StdEncoding.EncodeToString(sealed)
}

// Post sends a raw body with raw headers to the callback URL of an app, and
// waits for the answer 3 seconds of the simulator's clock.
func (s *Sim) Post(ctx context.Context, appID string, header http.Header, body []byte) (Answer, error) {
	a, err := s.appOf(appID)
	if err != nil {
		return Answer{}, err
	}
	if a.CallbackURL == "" {
		return Answer{}, fmt.Errorf("app %q has no callback URL", appID)
	}
	ctx, cancel := s.clock.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.CallbackURL, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.Header = header.Clone()
	response, err := s.client.Do(request)
	if err != nil {
		return Answer{}, slow(ctx, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Answer{}, slow(ctx, err)
	}
	return Answer{Status: response.StatusCode, Header: response.Header, Body: text}, nil
}

func slow(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), world.ErrTimeout) {
		return errTooSlow
	}
	return err
}

// VerifyURL asks an app for its challenge, as when an administrator saves the
// callback URL. The request is encrypted where there is an encrypt key, and
// not signed.
func (s *Sim) VerifyURL(ctx context.Context, appID string) error {
	a, err := s.appOf(appID)
	if err != nil {
		return err
	}
	challenge := unique("")
	_, body, err := s.Seal(appID, compact(struct {
		Challenge string `json:"challenge"`
		Token     string `json:"token"`
		Type      string `json:"type"`
	}{challenge, a.VerificationToken, "url_verification"}))
	if err != nil {
		return err
	}
	got, err := s.Post(ctx, appID, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body)
	if err != nil {
		return err
	}
	var out struct {
		Challenge string `json:"challenge"`
	}
	if got.Status != http.StatusOK || json.Unmarshal(got.Body, &out) != nil || out.Challenge != challenge {
		return fmt.Errorf("the app did not return the challenge: status %d, body %.200q", got.Status, got.Body)
	}
	return nil
}
