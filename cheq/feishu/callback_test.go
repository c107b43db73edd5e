package feishu

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

func TestPaddingIsWholeOrNothingIsOpened(t *testing.T) {
	sealed, err := base64.StdEncoding.DecodeString(seal([]byte("ten bytes."), encrypt))
	if err != nil {
		t.Fatal(err)
	}
	for i := 10; i < 16; i++ { // the six bytes of padding, by those of the iv before them
		odd := bytes.Clone(sealed)
		odd[i] ^= 1
		if text, err := open(base64.StdEncoding.EncodeToString(odd), encrypt); err == nil {
			t.Errorf("byte %d: opened as %q", i, text)
		}
	}
	if text, err := open(base64.StdEncoding.EncodeToString(sealed), encrypt); err != nil || string(text) != "ten bytes." {
		t.Errorf("%q, %v", text, err)
	}
}

// The first vector is the one of the platform's own pages.
func TestOpensWhatThePlatformSeals(t *testing.T) {
	text, err := open("P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=", "test key")
	if err != nil || string(text) != "hello world" {
		t.Errorf("open = %q, %v", text, err)
	}
	// openssl dgst -sha256 over "1700000000" "nonce" "key" `{"encrypt":"x"}`
	const want = "a0da8984906125159a1aa1ba99ed5eca925326fdb770863573dbd5e2f24dd679"
	if got := signature("1700000000", "nonce", "key", []byte(`{"encrypt":"x"}`)); got != want {
		t.Errorf("signature = %s", got)
	}
}

func TestATapIsRecordedAndAnswered(t *testing.T) {
	r := newRig(t, nil)
	status, answer := r.do(signed(now, tapEvent(nil)))
	if status != http.StatusOK {
		t.Fatalf("%d %s\n%s", status, answer, r.logs)
	}
	want := cheq.Tap{
		Channel: "feishu", Event: "f7984f25108f8137722bb63cee927e66", At: now.Local(),
		Platform: "ou_3c14f3a59eaf2825dbe25359f15595b0", To: "chat:oc_e4d2605ca917e695f54f11aaf56",
		Message: "om_574d639e4a44e4dd646eaf628e2", Case: "cheq-1", Shown: "sha256:aa", Yes: true, Reason: "looks right",
	}
	if taps := r.answers.taken(); len(taps) != 1 || taps[0] != want {
		t.Errorf("taps = %+v", taps)
	}
	var body struct {
		Toast struct {
			Type, Content string
			I18n          map[string]string
		}
		Card struct {
			Type string
			Data struct{ Schema string }
		}
	}
	if err := json.Unmarshal([]byte(answer), &body); err != nil {
		t.Fatal(err)
	}
	if body.Toast.Type != "success" || body.Toast.I18n["zh_cn"] == "" || body.Card.Type != "raw" || body.Card.Data.Schema != "2.0" {
		t.Errorf("answer = %s", answer)
	}
}

func TestRefusesWhatIsNotThePlatforms(t *testing.T) {
	tap := tapEvent(nil)
	whole := sealedBody(tap, encrypt)
	other := func(change func(header, event map[string]any)) call { return signed(now, tapEvent(change)) }
	header := func(name string, value any) call {
		return other(func(h, _ map[string]any) { h[name] = value })
	}
	action := func(name string, value any) call {
		return other(func(_, e map[string]any) { e["action"].(map[string]any)[name] = value })
	}
	reseal := func(change func(raw []byte) []byte) call {
		raw, _ := base64.StdEncoding.DecodeString(seal(tap, encrypt))
		body, _ := json.Marshal(map[string]string{"encrypt": base64.StdEncoding.EncodeToString(change(raw))})
		return signedBody(now, "n", encrypt, body)
	}
	without := func(name string) call {
		c := signed(now, tap)
		c.header.Del(name)
		return c
	}
	unsigned := call{http.Header{}, whole}
	tests := map[string]struct {
		call   call
		status int
	}{
		"nothing":                      {call{http.Header{}, nil}, 401},
		"unsigned":                     {unsigned, 401},
		"no signature":                 {without("X-Lark-Signature"), 401},
		"no timestamp":                 {without("X-Lark-Request-Timestamp"), 401},
		"no nonce":                     {signedBody(now, "", encrypt, whole), 401},
		"signed with another key":      {signedBody(now, "n", "guess", whole), 401},
		"signed over another body":     {call{signed(now, tap).header, append(whole, ' ')}, 401},
		"two hours old":                {signed(now.Add(-2*time.Hour), tap), 401},
		"six minutes ahead":            {signed(now.Add(6*time.Minute), tap), 401},
		"plain text, unsigned":         {call{http.Header{}, tap}, 401},
		"plain text, signed":           {signedBody(now, "n", encrypt, tap), 400},
		"sealed with another key":      {signedBody(now, "n", encrypt, sealedBody(tap, "guess")), 400},
		"a truncated block":            {reseal(func(raw []byte) []byte { return raw[:len(raw)-1] }), 400},
		"a missing block":              {reseal(func(raw []byte) []byte { return raw[:len(raw)-16] }), 400},
		"only an iv":                   {reseal(func(raw []byte) []byte { return raw[:16] }), 400},
		"odd padding":                  {reseal(func(raw []byte) []byte { raw[len(raw)-17] ^= 0x40; return raw }), 400},
		"not base64":                   {signedBody(now, "n", encrypt, []byte(`{"encrypt":"!!"}`)), 400},
		"trailing bytes":               {signedBody(now, "n", encrypt, append(whole, 0x80, 0)), 400},
		"10 MB":                        {signedBody(now, "n", encrypt, make([]byte, 10<<20)), 400},
		"66 KB that are right else":    {other(func(_, e map[string]any) { e["host"] = strings.Repeat("x", 50<<10) }), 400},
		"another app":                  {header("app_id", "cli_ffffffffffffffff"), 401},
		"another Feishu tenant":        {header("tenant_key", "736588c9260f175e"), 401},
		"another verification token":   {header("token", "guess"), 401},
		"no verification token":        {header("token", ""), 401},
		"an event two hours old":       {header("create_time", strconv.FormatInt(now.Add(-2*time.Hour).UnixMilli(), 10)), 401},
		"an event without a time":      {header("create_time", ""), 401},
		"an event without an id":       {header("event_id", ""), 400},
		"an event of another kind":     {header("event_type", "contact.user.deleted_v3"), 400},
		"the old card callback":        {header("event_type", "card.action.trigger_v1"), 400},
		"a value as a string":          {action("value", `{"case":"cheq-1","shown":"sha256:aa"}`), 400},
		"a value with more in it":      {action("value", map[string]any{"case": "c", "shown": "s", "yes": true}), 400},
		"a value without what's shown": {action("value", map[string]any{"case": "cheq-1"}), 400},
		"a value that names a chat":    {action("value", map[string]any{"case": "c", "shown": "s", "to": "chat:oc_1"}), 400},
		"another button":               {action("name", "Approve"), 400},
		"no button":                    {action("tag", "input"), 400},
		"a reason that is no text":     {action("form_value", map[string]any{"reason": []string{"x"}}), 400},
		"no operator":                  {other(func(_, e map[string]any) { delete(e, "operator") }), 400},
		"no message":                   {other(func(_, e map[string]any) { delete(e, "context") }), 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			if status, answer := r.do(test.call); status != test.status || answer != "{}" {
				t.Errorf("%d %s, want %d {}", status, answer, test.status)
			}
			if taps := r.answers.taken(); len(taps) > 0 {
				t.Errorf("taken: %+v", taps)
			}
			for _, secret := range []string{appSecret, encrypt, verify} {
				if strings.Contains(r.logs.String(), secret) {
					t.Errorf("the log tells %s: %s", secret, r.logs)
				}
			}
		})
	}
}

func TestANonceCountsOnce(t *testing.T) {
	clock := now
	r := newRig(t, func(c *Config) { c.Now = func() time.Time { return clock } })
	first := signedBody(now, "n", encrypt, sealedBody(tapEvent(nil), encrypt))
	if status, _ := r.do(first); status != http.StatusOK {
		t.Fatal(status)
	}
	again := signedBody(now.Add(time.Second), "n", encrypt, sealedBody(tapEvent(func(h, _ map[string]any) { h["event_id"] = "another" }), encrypt))
	for range 2 {
		for name, c := range map[string]call{"the same call": first, "another with its nonce": again} {
			if status, answer := r.do(c); status != http.StatusUnauthorized || answer != "{}" {
				t.Errorf("%s: %d %s", name, status, answer)
			}
		}
		clock = now.Add(freshness - time.Second)
	}
	if n := len(r.answers.taken()); n != 1 {
		t.Errorf("%d taps are taken", n)
	}
}

func TestAMessageToOnePersonIsAnsweredByNobodyElse(t *testing.T) {
	const open, union = "ou_3c14f3a59eaf2825dbe25359f15595b0", "on_cad4860e7af114fb4ff6c5d496d1dd76"
	for to, want := range map[string]bool{
		"user:" + open: true, "union:" + union: true, "email:li@acme.example": true,
		"user:ou_another": false, "union:on_another": false,
	} {
		r := newRig(t, nil)
		_, answer := r.do(signed(now, tapEvent(func(_, e map[string]any) {
			e["action"].(map[string]any)["value"] = map[string]any{"case": "cheq-1", "shown": "sha256:aa", "to": to}
		})))
		taps := r.answers.taken()
		if (len(taps) == 1) != want || want && taps[0].To != to || !want && !strings.Contains(answer, "original") {
			t.Errorf("%s: %+v, %s", to, taps, answer)
		}
		if want && !strings.Contains(answer, `"to":"`+to+`"`) {
			t.Errorf("%s: the card in the answer does not say where it is: %s", to, answer)
		}
	}
}

func TestAFullMemoryLetsNothingPass(t *testing.T) {
	m := memory{until: map[string]time.Time{}}
	for i := range maxRemembered {
		if !m.first(fmt.Sprint(i), now, now.Add(time.Minute)) {
			t.Fatal(i)
		}
	}
	if m.first("new", now, now.Add(time.Minute)) {
		t.Error("a full memory finds something new")
	}
	later := now.Add(time.Minute)
	if !m.first("new", later, later.Add(time.Minute)) || len(m.until) != 1 {
		t.Errorf("what is over is kept: %d", len(m.until))
	}
}

func TestAChallengeIsAnsweredForTheTokenOnly(t *testing.T) {
	r := newRig(t, nil)
	check := func(challenge, token string) []byte {
		data, _ := json.Marshal(map[string]string{"type": "url_verification", "challenge": challenge, "token": token})
		return data
	}
	right := check("ajls384kdjx98XX", verify)
	for name, c := range map[string]call{"sealed": {http.Header{}, sealedBody(right, encrypt)}, "sealed and signed": signed(now, right)} {
		if status, answer := r.do(c); status != http.StatusOK || answer != `{"challenge":"ajls384kdjx98XX"}` {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	for name, c := range map[string]call{
		"another token":              {http.Header{}, sealedBody(check("x", "guess"), encrypt)},
		"no token":                   {http.Header{}, sealedBody(check("x", ""), encrypt)},
		"plain text":                 {http.Header{}, right},
		"a challenge that is markup": {http.Header{}, sealedBody(check("<script>", verify), encrypt)},
		"signed long ago":            signed(now.Add(-time.Hour), right),
	} {
		if status, answer := r.do(c); status != http.StatusUnauthorized || answer != "{}" {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

func TestAnAnswerThatIsNotTakenSaysWhy(t *testing.T) {
	settled := sample()
	settled.Case.State = cheq.Rejected
	settled.Case.Votes = []cheq.Vote{{Voter: cheq.Person{Name: "user:zhou"}, Channel: "api"}}
	tests := map[string]struct {
		view cheq.View
		err  error
		want string
		card bool
	}{
		"not a reviewer":                {sample(), cheq.ErrNotReviewer, "not a reviewer", false},
		"settled":                       {settled, cheq.ErrSettled, "Rejected, by platform:user:zhou.", true},
		"settled, and no more is known": {cheq.View{}, cheq.ErrSettled, "settled before", false},
		"replayed":                      {sample(), cheq.ErrReplay, "taken already", false},
		"forwarded":                     {sample(), cheq.ErrMessage, "forwarded copy", false},
		"unbound":                       {cheq.View{}, cheq.ErrStranger, "binding code", false},
		"shown before":                  {sample(), cheq.ErrShown, "any more", false},
		"a forged case":                 {cheq.View{}, cheq.ErrNotFound, "no such case", false},
		"a first yes":                   {sample(), cheq.ErrConfirm, "once more", false},
		"late":                          {cheq.View{}, context.DeadlineExceeded, "tap again", false},
		"a fault":                       {cheq.View{}, errors.New("the database is away at 10.0.0.1"), "on our side", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.answers.say = func(context.Context, cheq.Tap) (cheq.View, error) {
				return test.view, fmt.Errorf("case: %w", test.err)
			}
			status, answer := r.do(signed(now, tapEvent(nil)))
			if status != http.StatusOK || !strings.Contains(answer, test.want) || strings.Contains(answer, "10.0.0.1") {
				t.Errorf("%d %s", status, answer)
			}
			if strings.Contains(answer, `"card"`) != test.card {
				t.Errorf("the card comes along, or does not: %s", answer)
			}
		})
	}
}

func TestAnAnswerOfAnotherCaseIsNoSuccess(t *testing.T) {
	r := newRig(t, nil)
	r.answers.say = func(context.Context, cheq.Tap) (cheq.View, error) {
		v := sample()
		v.Case.ID = "cheq-2"
		return v, nil
	}
	if _, answer := r.do(signed(now, tapEvent(nil))); !strings.Contains(answer, `"error"`) || strings.Contains(answer, `"card"`) {
		t.Error(answer)
	}
}

func TestWhatPeopleMayNotSayIsNotHandedOn(t *testing.T) {
	r := newRig(t, nil)
	for name, test := range map[string]struct {
		change func(header, event map[string]any)
		want   string
	}{
		"a long reason": {func(_, e map[string]any) {
			e["action"].(map[string]any)["form_value"] = map[string]any{"reason": strings.Repeat("x", maxReason+1)}
		}, "too long"},
		"somebody of another company in a shared chat": {func(_, e map[string]any) {
			e["operator"].(map[string]any)["tenant_key"] = "736588c9260f175e"
		}, "another organisation"},
	} {
		if status, answer := r.do(signed(now, tapEvent(test.change))); status != 200 || !strings.Contains(answer, test.want) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	huge := signed(now, tapEvent(func(_, e map[string]any) {
		e["action"].(map[string]any)["form_value"] = map[string]any{"reason": strings.Repeat("x", 100<<10)}
	}))
	if status, answer := r.do(huge); status != 400 || answer != "{}" {
		t.Errorf("100 KB: %d %s", status, answer)
	}
	if taps := r.answers.taken(); len(taps) > 0 {
		t.Errorf("taken: %+v", taps)
	}
}

func TestTheAnswerLeavesInUnderASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.answers.say = func(ctx context.Context, _ cheq.Tap) (cheq.View, error) {
			<-ctx.Done()
			return cheq.View{}, ctx.Err()
		}
		begun := time.Now()
		status, answer := r.do(signed(now, tapEvent(nil)))
		if took := time.Since(begun); took >= time.Second {
			t.Errorf("took %s", took)
		}
		if status != 200 || !strings.Contains(answer, "tap again") || !strings.Contains(answer, "请再点一次") {
			t.Errorf("%d %s", status, answer)
		}
	})
}

func TestOverTheConnectionTheTokenMayBeMissing(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	without := tapEvent(func(h, _ map[string]any) { h["token"] = "" })
	if _, err := r.take(ctx, without, false); err != nil {
		t.Error(err)
	}
	for name, plain := range map[string][]byte{
		"another token":  tapEvent(func(h, _ map[string]any) { h["token"] = "guess" }),
		"another app":    tapEvent(func(h, _ map[string]any) { h["app_id"] = "cli_ffffffffffffffff" }),
		"another tenant": tapEvent(func(h, _ map[string]any) { h["tenant_key"] = "736588c9260f175e" }),
		"old":            tapEvent(func(h, _ map[string]any) { h["create_time"] = "1603977298000000" }),
		"long":           append(tapEvent(nil), []byte(strings.Repeat(" ", maxBody))...),
	} {
		if _, err := r.take(ctx, plain, false); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if n := len(r.answers.taken()); n != 1 {
		t.Errorf("%d taps are taken", n)
	}
}

func FuzzCallback(f *testing.F) {
	f.Add(tapEvent(nil), byte(3))
	f.Add([]byte(`{"type":"url_verification","challenge":"x","token":"`+verify+`"}`), byte(3))
	f.Add([]byte(`{"encrypt":"AAAA"}`), byte(0))
	f.Add(sealedBody(tapEvent(nil), encrypt), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, how byte) {
		r := newRig(t, nil)
		c := call{http.Header{}, data}
		if how&2 != 0 {
			c.body = sealedBody(data, encrypt)
		}
		if how&1 != 0 {
			c = signedBody(now, "n", encrypt, c.body)
		}
		status, answer := r.do(c)
		if status != 200 && string(answer) != "{}" || !json.Valid([]byte(answer)) {
			t.Errorf("%d %s", status, answer)
		}
		if how&1 == 0 && len(r.answers.taken()) > 0 {
			t.Error("an unsigned tap is taken")
		}
	})
}
