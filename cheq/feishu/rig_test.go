package feishu

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const (
	appID     = "cli_a1b2c3d4e5f60718"
	appSecret = "secret-of-the-app"
	encrypt   = "the-encrypt-key"
	verify    = "the-verification-token"
	tenant    = "2df7399175000000"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// answers is the port that taps go to.
type answers struct {
	mu   sync.Mutex
	taps []cheq.Tap
	say  func(ctx context.Context, t cheq.Tap) (cheq.View, error)
}

func (a *answers) Answer(ctx context.Context, t cheq.Tap) (cheq.View, error) {
	a.mu.Lock()
	a.taps = append(a.taps, t)
	a.mu.Unlock()
	if a.say == nil {
		v := sample()
		v.Case.ID = t.Case
		return v, nil
	}
	return a.say(ctx, t)
}

func (a *answers) taken() []cheq.Tap {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.taps
}

// logs keeps what was logged.
type logs struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// rig is a bot with its ports.
type rig struct {
	*Bot
	answers *answers
	logs    *logs
}

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	r := &rig{answers: &answers{}, logs: &logs{}}
	c := Config{
		AppID: appID, AppSecret: appSecret, EncryptKey: encrypt, VerificationToken: verify, TenantKey: tenant,
		BaseURL: "http://127.0.0.1:1", Answers: r.answers, Now: func() time.Time { return now },
		Log: slog.New(slog.NewTextHandler(r.logs, nil)),
	}
	if change != nil {
		change(&c)
	}
	var err error
	if r.Bot, err = New(c); err != nil {
		t.Fatal(err)
	}
	return r
}

// seal encrypts as the platform does.
func seal(text []byte, key string) string {
	hashed := sha256.Sum256([]byte(key))
	block, err := aes.NewCipher(hashed[:])
	if err != nil {
		panic(err)
	}
	padding := aes.BlockSize - len(text)%aes.BlockSize
	padded := append(bytes.Clone(text), bytes.Repeat([]byte{byte(padding)}, padding)...)
	out := make([]byte, aes.BlockSize+len(padded))
	copy(out, "0123456789abcdef")
	cipher.NewCBCEncrypter(block, out[:aes.BlockSize]).CryptBlocks(out[aes.BlockSize:], padded)
	return base64.StdEncoding.EncodeToString(out)
}

// call is one callback as it goes over the wire.
type call struct {
	header http.Header
	body   []byte
}

var nonces int

// signed is an event, sealed and signed.
func signed(at time.Time, text []byte) call {
	nonces++
	return signedBody(at, fmt.Sprint("nonce-", nonces), encrypt, sealedBody(text, encrypt))
}

func sealedBody(text []byte, key string) []byte {
	body, _ := json.Marshal(map[string]string{"encrypt": seal(text, key)})
	return body
}

func signedBody(at time.Time, nonce, key string, body []byte) call {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	h := http.Header{}
	h.Set("X-Lark-Request-Timestamp", timestamp)
	h.Set("X-Lark-Request-Nonce", nonce)
	sum := sha256.Sum256(append([]byte(timestamp+nonce+key), body...))
	h.Set("X-Lark-Signature", fmt.Sprintf("%x", sum))
	return call{h, body}
}

func (r *rig) do(c call) (int, string) {
	status, answer := r.Callback(context.Background(), c.header.Get, c.body)
	return status, string(answer)
}

// tapEvent is what the platform sends for a tap; change makes it another.
func tapEvent(change func(header, event map[string]any)) []byte {
	header := map[string]any{
		"event_id": "f7984f25108f8137722bb63cee927e66", "event_type": "card.action.trigger", "token": verify,
		"app_id": appID, "tenant_key": tenant, "create_time": strconv.FormatInt(now.UnixMicro(), 10),
	}
	event := map[string]any{
		"operator": map[string]any{"tenant_key": tenant, "open_id": "ou_3c14f3a59eaf2825dbe25359f15595b0", "union_id": "on_cad4860e7af114fb4ff6c5d496d1dd76"},
		"token":    "c-295ee57216a5dc9de90fefd0aadb4b1d7d",
		"action": map[string]any{
			"tag": "button", "name": "approve", "value": map[string]any{"case": "cheq-1", "shown": "sha256:aa"},
			"form_value": map[string]any{"reason": "looks right"}, "timezone": "Asia/Shanghai",
		},
		"host":    "im_message",
		"context": map[string]any{"open_message_id": "om_574d639e4a44e4dd646eaf628e2", "open_chat_id": "oc_e4d2605ca917e695f54f11aaf56"},
	}
	if change != nil {
		change(header, event)
	}
	data, _ := json.Marshal(map[string]any{"schema": "2.0", "header": header, "event": event})
	return data
}

// sample is a pending case as approvers see it.
func sample() cheq.View {
	request, err := authz.Parse([]byte(`{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"ecs.instance.create",
		"resource":{"type":"ecs.instance","id":"web-1","properties":{"cpu":2,"region":"cn-hangzhou"}}}`))
	if err != nil {
		panic(err)
	}
	r, err := authz.RequestOf(request)
	if err != nil {
		panic(err)
	}
	li := cheq.Person{Tenant: "acme", Name: "user:li.wei"}
	return cheq.View{
		Title: cheq.Text{EN: "Public address", ZH: "公网地址"},
		Case: cheq.Case{
			ID: "cheq-1", Tenant: "acme", State: cheq.Pending, Requester: li, Caller: cheq.Person{Name: "service:portal"},
			Reason: "the shop opens on Monday", Request: r, Digests: []string{"sha256:bb"},
			Opens: []cheq.Opening{{
				RuleRef: authz.RuleRef{Rule: "platform/network/public_ingress", Digest: "sha256:cc"}, Effect: authz.Review,
				Message: cheq.Text{EN: "reachable from anywhere", ZH: "任何人可访问"}, Template: "network",
			}},
			OpenedAt: now, DecideBy: now.Add(72 * time.Hour), GrantFor: 90 * time.Minute, Shown: "sha256:aa", Version: 1,
		},
		Groups: []cheq.GroupState{{Title: cheq.Text{EN: "Security", ZH: "安全"}, Yes: 1, Approvals: 2, Denials: 1}},
	}
}
