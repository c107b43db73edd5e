package feishu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// platform plays the REST calls, with one answer for each but tokens'.
type platform struct {
	mu     sync.Mutex
	asked  []string // "POST /path?query authorization body"
	status int
	header http.Header
	answer string
	tokens int // handed out; only the last one is good
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if strings.HasSuffix(r.URL.Path, "tenant_access_token/internal") {
		if want := `{"app_id":"` + appID + `","app_secret":"` + appSecret + `"}`; strings.TrimSpace(string(body)) != want {
			fmt.Fprint(w, `{"code":10014,"msg":"app secret invalid"}`)
			return
		}
		p.tokens++
		fmt.Fprintf(w, `{"code":0,"msg":"ok","tenant_access_token":"t-%d","expire":7200}`, p.tokens)
		return
	}
	p.asked = append(p.asked, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), body))
	if r.Header.Get("Authorization") != fmt.Sprintf("Bearer t-%d", p.tokens) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"code":99991663,"msg":"Invalid access token"}`)
		return
	}
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.WriteHeader(p.status)
	fmt.Fprint(w, p.answer)
}

func newPlatform(t *testing.T) (*platform, *rig) {
	p := &platform{status: http.StatusOK, answer: `{"code":0,"msg":"success","data":{"message_id":"om_1"}}`}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, newRig(t, func(c *Config) { c.BaseURL = server.URL })
}

func TestSendsAndEditsACard(t *testing.T) {
	p, r := newPlatform(t)
	ctx := context.Background()
	for to, query := range map[string]string{
		"chat:oc_1": "chat_id", "user:ou_1": "open_id", "union:on_1": "union_id", "email:li@acme.example": "email",
	} {
		p.asked = nil
		id, err := r.Send(ctx, to, "cheq-1/feishu/"+to, sample())
		if err != nil || id != "om_1" {
			t.Fatal(id, err)
		}
		method, rest, _ := strings.Cut(p.asked[0], " ")
		path, rest, _ := strings.Cut(rest, " ")
		_, body, _ := strings.Cut(rest[len("Bearer "):], " ")
		var sent message
		if err := json.Unmarshal([]byte(body), &sent); err != nil {
			t.Fatal(err)
		}
		_, receiver, _ := strings.Cut(to, ":")
		if method != "POST" || path != "/open-apis/im/v1/messages?receive_id_type="+query || sent.To != receiver || sent.Type != "interactive" {
			t.Errorf("%s %s to %s as %s", method, path, sent.To, sent.Type)
		}
		if sent.UUID == "" || len(sent.UUID) > 50 || sent.UUID != uuid("cheq-1/feishu/"+to) || !json.Valid([]byte(sent.Content)) {
			t.Errorf("uuid %q, content %s", sent.UUID, sent.Content)
		}
	}
	p.asked = nil
	if err := r.Edit(ctx, "chat:oc_1", "om_574d", sample()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(p.asked[0], `PATCH /open-apis/im/v1/messages/om_574d Bearer t-1 {"content":"{`) {
		t.Error(p.asked)
	}
	if p.tokens != 1 {
		t.Errorf("%d tokens are asked for", p.tokens)
	}
}

func TestAnAddressThatIsNoneIsGone(t *testing.T) {
	_, r := newPlatform(t)
	for _, to := range []string{"", "chat:", "chat:oc_", "chat:ou_1", "oc_1", "user:oc_1", "phone:1", "email:li", "user:ou_", "email:" + strings.Repeat("l", 400) + "@acme.example"} {
		if _, err := r.Send(context.Background(), to, "k", sample()); !errors.Is(err, cheq.ErrGone) {
			t.Errorf("%q: %v", to, err)
		}
	}
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	p, r := newPlatform(t)
	ctx := context.Background()
	if _, err := r.Send(ctx, "chat:oc_1", "k", sample()); err != nil {
		t.Fatal(err)
	}
	p.tokens++ // the one that was handed out is good no longer
	if _, err := r.Send(ctx, "chat:oc_1", "k", sample()); err != nil || p.tokens != 3 {
		t.Errorf("%v, %d tokens", err, p.tokens)
	}
	p.status, p.answer, p.asked = http.StatusBadRequest, `{"code":99991663,"msg":"Invalid access token"}`, nil
	if _, err := r.Send(ctx, "chat:oc_1", "k", sample()); err == nil || len(p.asked) != 2 {
		t.Errorf("%v after %d calls", err, len(p.asked))
	}
}

func TestAWaitForTheTokenEndsWithItsContext(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-answer
	}))
	defer server.Close()
	r := newRig(t, func(c *Config) { c.BaseURL = server.URL })
	first := make(chan error)
	go func() {
		_, err := r.Send(context.Background(), "chat:oc_1", "k", sample())
		first <- err
	}()
	<-asked
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := r.Send(ended, "chat:oc_1", "k", sample()); !errors.Is(err, context.Canceled) {
		t.Errorf("the second: %v", err)
	}
	close(answer)
	if err := <-first; err == nil {
		t.Error("the first is sent without a token")
	}
}

func TestATokenEndsBeforeItsTime(t *testing.T) {
	clock := now
	p := &platform{status: http.StatusOK, answer: `{"code":0,"data":{"message_id":"om_1"}}`}
	server := httptest.NewServer(p)
	defer server.Close()
	r := newRig(t, func(c *Config) { c.BaseURL, c.Now = server.URL, func() time.Time { return clock } })
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {116 * time.Minute, 1}, {time.Minute, 2}} {
		clock = clock.Add(step.after)
		if _, err := r.Send(context.Background(), "chat:oc_1", "k", sample()); err != nil || p.tokens != step.want {
			t.Errorf("after %s: %v, %d tokens", step.after, err, p.tokens)
		}
	}
}

func TestFailuresSayWhatToDo(t *testing.T) {
	reset := http.Header{"X-Ogw-Ratelimit-Reset": {"52"}}
	tests := map[string]struct {
		status int
		header http.Header
		answer string
		later  time.Duration
		gone   bool
	}{
		"too often":          {429, reset, `{"code":99991400,"msg":"request trigger frequency limit"}`, 52 * time.Second, false},
		"too often, old API": {400, reset, `{"code":99991400,"msg":"request trigger frequency limit"}`, 52 * time.Second, false},
		"too many messages":  {400, nil, `{"code":230020,"msg":"This operation triggers the frequency limit."}`, time.Second, false},
		"429 without a code": {429, http.Header{"X-Ogw-Ratelimit-Reset": {"x"}}, `{"code":1,"msg":""}`, time.Second, false},
		"a hint of a day":    {429, http.Header{"X-Ogw-Ratelimit-Reset": {"86400"}}, `{"code":99991400,"msg":""}`, 10 * time.Minute, false},
		"recalled":           {400, nil, `{"code":230011,"msg":"The message is recalled."}`, 0, true},
		"too old":            {400, nil, `{"code":230031,"msg":"Message can only be modified within 14 days after sending."}`, 0, true},
		"nobody":             {400, nil, `{"code":230001,"msg":"Your request contains an invalid request parameter, ext=invalid receive_id."}`, 0, true},
		"another parameter":  {400, nil, `{"code":230001,"msg":"Your request contains an invalid request parameter, ext=invalid msg_type."}`, 0, false},
		"not in the chat":    {400, nil, `{"code":230002,"msg":"The bot can not be outside the group."}`, 0, false},
		"200 with a code":    {200, nil, `{"code":230099,"msg":"Failed to create card content."}`, 0, false},
		"busy":               {502, nil, `<html>`, 0, false},
		"no message id":      {200, nil, `{"code":0,"data":{}}`, 0, false},
		"not JSON":           {200, nil, `[`, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, r := newPlatform(t)
			p.status, p.header, p.answer = test.status, test.header, test.answer
			_, err := r.Send(context.Background(), "chat:oc_1", "k", sample())
			var later *cheq.LaterError
			errors.As(err, &later)
			if err == nil || (later != nil) != (test.later > 0) || later != nil && later.After != test.later || errors.Is(err, cheq.ErrGone) != test.gone {
				t.Errorf("%v", err)
			}
			if strings.Contains(fmt.Sprint(err), "t-1") || strings.Contains(fmt.Sprint(err), appSecret) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestAWrongSecretIsSaidWithoutIt(t *testing.T) {
	p, _ := newPlatform(t)
	server := httptest.NewServer(p)
	defer server.Close()
	r := newRig(t, func(c *Config) { c.BaseURL, c.AppSecret = server.URL, "a-wrong-secret" })
	_, err := r.Send(context.Background(), "chat:oc_1", "k", sample())
	if err == nil || !strings.Contains(err.Error(), "10014") || strings.Contains(err.Error(), "a-wrong-secret") {
		t.Error(err)
	}
}

func TestARedirectCarriesNoSecretElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect is followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	r := newRig(t, func(c *Config) { c.BaseURL = server.URL })
	if _, err := r.Send(context.Background(), "chat:oc_1", "k", sample()); err == nil {
		t.Error("sent")
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	p, r := newPlatform(t)
	p.answer = `{"code":0,"msg":"` + strings.Repeat("x", maxAnswer) + `"}`
	if _, err := r.Send(context.Background(), "chat:oc_1", "k", sample()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%.200v", err)
	}
}

func TestCallsKeepToTheLimits(t *testing.T) {
	tests := map[string]struct {
		calls int
		about func(i int) string
		took  time.Duration
	}{
		"one message": {11, func(int) string { return "om_1" }, 2 * time.Second},
		"one app":     {101, func(i int) string { return fmt.Sprint(i) }, 2 * time.Second},
		"a minute":    {1001, func(i int) string { return fmt.Sprint(i) }, time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limits{recipients: map[string]*window{}}
				begun := time.Now()
				var group sync.WaitGroup
				for i := range test.calls {
					group.Go(func() {
						if err := l.wait(context.Background(), test.about(i)); err != nil {
							t.Error(err)
						}
					})
				}
				group.Wait()
				if took := time.Since(begun); took != test.took {
					t.Errorf("%d calls took %s, want %s", test.calls, took, test.took)
				}
			})
		})
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limits{recipients: map[string]*window{}}
		for range 5 {
			if err := l.wait(context.Background(), "om_1"); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		short, cancel := context.WithTimeout(context.Background(), time.Second/2)
		defer cancel()
		var later *cheq.LaterError
		if err := l.wait(short, "om_1"); !errors.As(err, &later) || later.After != time.Second || time.Since(begun) > 0 {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		ended, end := context.WithCancel(context.Background())
		time.AfterFunc(time.Second/2, end)
		if err := l.wait(ended, "om_1"); !errors.Is(err, context.Canceled) || time.Since(begun) != time.Second/2 {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

func TestTheMemoryOfRecipientsIsBounded(t *testing.T) {
	l := limits{recipients: map[string]*window{}}
	for i := range 10 * maxRecipients {
		l.take(fmt.Sprint(i), now.Add(time.Duration(i)*time.Second))
	}
	if n := len(l.recipients); n > maxRecipients {
		t.Errorf("%d recipients are remembered", n)
	}
}

func TestNewRefusesWhatIsNotSafe(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no encrypt key":         func(c *Config) { c.EncryptKey = "" },
		"no verification token":  func(c *Config) { c.VerificationToken = "" },
		"no tenant key":          func(c *Config) { c.TenantKey = "" },
		"no app":                 func(c *Config) { c.AppID = "" },
		"no secret":              func(c *Config) { c.AppSecret = "" },
		"no answers":             func(c *Config) { c.Answers = nil },
		"plain HTTP":             func(c *Config) { c.BaseURL = "http://open.feishu.cn" },
		"a password in the base": func(c *Config) { c.BaseURL = "https://a:b@open.feishu.cn" },
		"no address":             func(c *Config) { c.BaseURL = "open.feishu.cn" },
	} {
		r := newRig(t, nil)
		c := r.config
		change(&c)
		if _, err := New(c); err == nil || strings.Contains(err.Error(), appSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
