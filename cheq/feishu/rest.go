package feishu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	larkcore "github.com/larksuite/oapi-sdk-go/v3/core"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// Send implements [cheq.Channel]. The platform takes a key for the same
// message for an hour.
func (b *Bot) Send(ctx context.Context, to, key string, v cheq.View) (string, error) {
	card, err := render(to, v)
	if err != nil {
		return "", err
	}
	var sent struct {
		MessageID string `json:"message_id"`
	}
	err = b.send(ctx, to, message{Type: "interactive", Content: string(card), UUID: uuid(key)}, &sent)
	if err == nil && sent.MessageID == "" {
		err = errors.New("feishu: the platform names no message")
	}
	return sent.MessageID, err
}

// Edit implements [cheq.Channel].
func (b *Bot) Edit(ctx context.Context, to, id string, v cheq.View) error {
	card, err := render(to, v)
	if err != nil {
		return err
	}
	return b.call(ctx, id, larkcore.ApiReq{
		HttpMethod: http.MethodPatch, ApiPath: "/open-apis/im/v1/messages/:message_id",
		PathParams: larkcore.PathParams{"message_id": id}, Body: message{Content: string(card)},
	}, nil)
}

// tell sends somebody words, alone.
func (b *Bot) tell(ctx context.Context, openID, key, words string) error {
	content, err := json.Marshal(map[string]string{"text": words})
	if err != nil {
		return err
	}
	return b.send(ctx, "user:"+openID, message{Type: "text", Content: string(content), UUID: uuid(key)}, nil)
}

func (b *Bot) send(ctx context.Context, to string, m message, out any) error {
	kind, id, err := address(to)
	if err != nil {
		return err
	}
	m.To = id
	return b.call(ctx, to, larkcore.ApiReq{
		HttpMethod: http.MethodPost, ApiPath: "/open-apis/im/v1/messages",
		QueryParams: larkcore.QueryParams{"receive_id_type": {kind}}, Body: m,
	}, out)
}

// message is one as the platform takes it; its content is JSON in a string.
type message struct {
	To      string `json:"receive_id,omitempty"`
	Type    string `json:"msg_type,omitempty"`
	Content string `json:"content"`
	UUID    string `json:"uuid,omitempty"`
}

// chatPrefix begins the address of a group.
const chatPrefix = "chat:"

// address reads where a message goes: "chat:oc_…", "user:ou_…", "union:on_…"
// or "email:…".
func address(to string) (kind, id string, err error) {
	prefix, id, _ := strings.Cut(to, ":")
	for _, a := range [...]struct{ prefix, kind, begins, holds string }{
		{"chat", "chat_id", "oc_", ""}, {"user", "open_id", "ou_", ""},
		{"union", "union_id", "on_", ""}, {"email", "email", "", "@"},
	} {
		if a.prefix == prefix && strings.HasPrefix(id, a.begins) && strings.Contains(id, a.holds) && len(id) > len(a.begins) && len(id) <= 320 {
			return a.kind, id, nil
		}
	}
	return "", "", fmt.Errorf("feishu: %q: want chat:oc_…, user:ou_…, union:on_… or email:…: %w", to, cheq.ErrGone)
}

// uuid is a key in the 50 characters that the platform takes.
func uuid(key string) string {
	hashed := sha256.Sum256([]byte(key))
	return hex.EncodeToString(hashed[:24])
}

// The platform's codes that mean more than a failure.
const (
	codeTooOften      = 99991400 // of any call
	codeMessageLimit  = 230020   // of messages
	codeSystemLimit   = 11232    // of messages, when the platform is busy
	codeBeingSent     = 230049   // the same uuid, a moment ago
	codeBadParameter  = 230001
	codeRecalled      = 230011
	codeUserLeft      = 230029
	codeNoMessage     = 230030
	codeTooOld        = 230031
	codeDeleted       = 230110
	codeDissolved     = 232009
	codeNoOpenID      = 99992351
	codeNoOpenMessage = 99992354
)

// call makes one REST call about a message or recipient within the platform's
// limits, with one more try where the token is over before its time, and
// decodes its data into out.
func (b *Bot) call(ctx context.Context, about string, r larkcore.ApiReq, out any) error {
	r.SupportedAccessTokenTypes = []larkcore.AccessTokenType{larkcore.AccessTokenTypeTenant}
	for try := 1; ; try++ {
		token, err := b.token.get(ctx, b)
		if err != nil {
			return err
		}
		if err := b.limits.wait(ctx, about); err != nil {
			return err
		}
		answer, err := larkcore.Request(ctx, &r, b.rest, larkcore.WithTenantAccessToken(token))
		if err != nil {
			return fmt.Errorf("feishu: %w", err)
		}
		var body struct {
			Code int             `json:"code"`
			Msg  string          `json:"msg"`
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(answer.RawBody, &body); err != nil {
			return failure(answer, r.ApiPath, 0, "not JSON")
		}
		switch {
		case stale(body.Code) && try == 1:
			if err := b.token.drop(ctx, token); err != nil {
				return err
			}
		case body.Code != 0 || answer.StatusCode != http.StatusOK:
			return failure(answer, r.ApiPath, body.Code, body.Msg)
		case out == nil:
			return nil
		default:
			if err := json.Unmarshal(body.Data, out); err != nil {
				return fmt.Errorf("feishu: %s: the answer's data: %w", r.ApiPath, err)
			}
			return nil
		}
	}
}

// failure says what an answer means to who delivers.
func failure(answer *larkcore.ApiResp, path string, code int, msg string) error {
	msg, _ = fit(msg, 200)
	logID, _ := fit(answer.Header.Get(larkcore.HttpHeaderKeyLogId), 100)
	err := fmt.Errorf("feishu: %s: HTTP %d, code %d, log id %s: %s", path, answer.StatusCode, code, logID, msg)
	switch code {
	case codeTooOften, codeMessageLimit, codeSystemLimit, codeBeingSent:
		return &cheq.LaterError{After: hint(answer.Header), Err: err}
	case codeRecalled, codeUserLeft, codeNoMessage, codeTooOld, codeDeleted, codeDissolved, codeNoOpenID, codeNoOpenMessage:
		return fmt.Errorf("%w: %w", err, cheq.ErrGone)
	case codeBadParameter:
		if strings.Contains(msg, "invalid receive_id") || strings.Contains(msg, "invalid message_id") {
			return fmt.Errorf("%w: %w", err, cheq.ErrGone)
		}
	}
	if answer.StatusCode == http.StatusTooManyRequests {
		return &cheq.LaterError{After: hint(answer.Header), Err: err}
	}
	return err
}

// maxHint bounds how long the platform makes us wait.
const maxHint = 10 * time.Minute

// hint is when the platform wants to be asked again.
func hint(h http.Header) time.Duration {
	for _, name := range [...]string{"X-Ogw-Ratelimit-Reset", "Retry-After"} {
		if seconds, err := strconv.Atoi(h.Get(name)); err == nil && seconds > 0 {
			return min(time.Duration(min(seconds, 1<<20))*time.Second, maxHint)
		}
	}
	return time.Second
}

// accessToken is the tenant access token. It is kept here, since the SDK keeps
// one per app id for the whole process, and goes on with one that the platform
// has refused.
type accessToken struct {
	turn  chan struct{} // holds one while somebody reads or asks for the token
	value string
	end   time.Time
}

// take waits for its turn, no longer than ctx lasts; the caller ends it.
func (t *accessToken) take(ctx context.Context) (end func(), err error) {
	select {
	case t.turn <- struct{}{}:
		return func() { <-t.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tokenMargin is how long before its end a token is used no more.
const tokenMargin = 3 * time.Minute

// stale reports whether a code means that the token is over.
func stale(code int) bool { return code == 99991663 || code == 99991664 || code == 99991671 }

func (t *accessToken) drop(ctx context.Context, value string) error {
	end, err := t.take(ctx)
	if err != nil {
		return err
	}
	defer end()
	if t.value == value {
		t.value = ""
	}
	return nil
}

func (t *accessToken) get(ctx context.Context, b *Bot) (string, error) {
	end, err := t.take(ctx)
	if err != nil {
		return "", fmt.Errorf("feishu: access token: %w", err)
	}
	defer end()
	now := b.config.Now()
	if t.value != "" && now.Before(t.end) {
		return t.value, nil
	}
	answer, err := larkcore.Request(ctx, &larkcore.ApiReq{
		HttpMethod: http.MethodPost, ApiPath: larkcore.TenantAccessTokenInternalUrlPath,
		Body:                      &larkcore.SelfBuiltTenantAccessTokenReq{AppID: b.config.AppID, AppSecret: b.config.AppSecret},
		SupportedAccessTokenTypes: []larkcore.AccessTokenType{larkcore.AccessTokenTypeNone},
	}, b.rest)
	if err != nil {
		return "", fmt.Errorf("feishu: access token: %w", err)
	}
	var body struct {
		Code   int    `json:"code"`
		Msg    string `json:"msg"`
		Token  string `json:"tenant_access_token"`
		Expire int    `json:"expire"`
	}
	if err := json.Unmarshal(answer.RawBody, &body); err != nil {
		return "", failure(answer, larkcore.TenantAccessTokenInternalUrlPath, 0, "not JSON")
	}
	if body.Code != 0 || body.Token == "" {
		return "", failure(answer, larkcore.TenantAccessTokenInternalUrlPath, body.Code, body.Msg)
	}
	t.value, t.end = body.Token, now.Add(time.Duration(min(body.Expire, 1<<20))*time.Second-tokenMargin)
	return t.value, nil
}
