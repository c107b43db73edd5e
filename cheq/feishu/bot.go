package feishu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	larkcore "github.com/larksuite/oapi-sdk-go/v3/core"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// name is the channel's, in places, taps and bindings.
const name = "feishu"

// Config is what a Bot is handed. All but BaseURL, Bind and HTTPClient is
// required.
type Config struct {
	// AppID and AppSecret are a self-built app's credentials.
	AppID, AppSecret string
	// EncryptKey signs and encrypts callbacks, VerificationToken is in each.
	EncryptKey, VerificationToken string
	// TenantKey is the Feishu tenant whose people may answer.
	TenantKey string
	// BaseURL of the platform; "" means https://open.feishu.cn. Plain HTTP is
	// for loopback only.
	BaseURL string
	Answers cheq.Answers
	// Bind binds who sends a short code to the bot, as [cheq.Identities] does;
	// nil: messages are not read.
	Bind func(ctx context.Context, channel, platform, code string) (cheq.Person, error)
	Now  func() time.Time
	Log  *slog.Logger
	// HTTPClient makes the REST calls; nil means one with a time-out of 10 s.
	// Redirects are not followed.
	HTTPClient *http.Client
}

// Bot is one Feishu app. It implements [cheq.Channel] and is safe for
// concurrent use.
type Bot struct {
	config Config
	http   *client
	rest   *larkcore.Config
	token  accessToken
	limits limits
	nonces memory // of signed callbacks
	events memory // of messages that were read
}

// New returns a Bot. It makes no call.
func New(c Config) (*Bot, error) {
	for _, required := range [...]struct{ key, value string }{
		{"app id", c.AppID}, {"app secret", c.AppSecret},
		{"encrypt key: callbacks without one are signed by nobody", c.EncryptKey},
		{"verification token", c.VerificationToken}, {"tenant key", c.TenantKey},
	} {
		if required.value == "" {
			return nil, fmt.Errorf("feishu: want the %s", required.key)
		}
	}
	if c.Answers == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("feishu: want Answers, Now and Log")
	}
	if c.BaseURL == "" {
		c.BaseURL = "https://open.feishu.cn"
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	base, err := url.Parse(c.BaseURL)
	if err != nil || !protected(base, "https", "http") || base.Path != "" || base.RawQuery != "" || base.User != nil {
		return nil, errors.New("feishu: base URL: want https://host, or http:// on loopback")
	}
	b := &Bot{
		config: c, http: newClient(c.HTTPClient), token: accessToken{turn: make(chan struct{}, 1)}, limits: limits{recipients: map[string]*window{}},
		nonces: memory{until: map[string]time.Time{}}, events: memory{until: map[string]time.Time{}},
	}
	b.rest = &larkcore.Config{
		BaseUrl: c.BaseURL, AppId: c.AppID, AppSecret: c.AppSecret, AppType: larkcore.AppTypeSelfBuilt,
		HttpClient: b.http, Logger: silent{},
	}
	larkcore.NewSerialization(b.rest)
	return b, nil
}

// protected reports whether an address is one of the safe scheme, or of the
// plain one on loopback.
func protected(u *url.URL, safe, plain string) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	return host != "" && (u.Scheme == safe || u.Scheme == plain && loopback)
}

// silent takes the SDK's log lines, which quote requests and payloads.
type silent struct{}

func (silent) Debug(context.Context, ...any) {}
func (silent) Info(context.Context, ...any)  {}
func (silent) Warn(context.Context, ...any)  {}
func (silent) Error(context.Context, ...any) {}
