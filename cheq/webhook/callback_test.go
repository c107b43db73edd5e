package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

const goodAnswer = `{"event":"e1","case":"cheq-1","shown":"sha256:00","user":"wang","yes":true,"reason":"好"}`

func call(t testing.TB, c *Channel, signature, body string) (int, string) {
	t.Helper()
	status, reply := c.Callback(t.Context(), func(name string) string {
		if name == SignatureHeader {
			return signature
		}
		return ""
	}, []byte(body))
	if !json.Valid(reply) {
		t.Fatalf("the answer %q is not JSON", reply)
	}
	return status, string(reply)
}

func TestAnAnswerBecomesATap(t *testing.T) {
	answers := &counter{}
	c := channel(t, answers, Hook{"dev", "https://dev.example", other, false}, Hook{"ops", "https://ops.example", secret, false})
	status, reply := call(t, c, sign(secret, testNow.Add(-time.Minute), []byte(goodAnswer)), goodAnswer)
	if status != http.StatusOK || reply != `{"case":"cheq-1","state":"approved"}` {
		t.Fatalf("%d %s", status, reply)
	}
	want := cheq.Tap{
		Channel: "webhook", Event: "ops/e1", At: testNow.Add(-time.Minute), Platform: "ops/wang", To: "ops", Message: message("cheq-1/webhook/ops"),
		Case: "cheq-1", Shown: "sha256:00", Yes: true, Reason: "好",
	}
	if answers.taps[0] != want {
		t.Errorf("got  %+v\nwant %+v", answers.taps[0], want)
	}
}

// The signature of docs/webhook.md, as openssl computes it.
func TestSignaturesAreWhatIsDocumented(t *testing.T) {
	const want = "t=1772366400,v1=d6f102980dc74a35254b9d465a225d98d889d9eee2db5b09eba162bf9a82a00f"
	if got := sign(secret, time.Unix(1772366400, 0), []byte(`{"a":1}`)); got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
}

func TestForgedAnswersAreRefused(t *testing.T) {
	answers := &counter{}
	c := channel(t, answers, Hook{"ops", "https://ops.example", secret, false})
	event, err := eventOf("x", "m", opened, testNow, func() *cheq.View { v := pending(t); return &v }())
	if err != nil {
		t.Fatal(err)
	}
	good := sign(secret, testNow, []byte(goodAnswer))
	for name, row := range map[string]struct {
		signature, body string
		want            int
	}{
		"none":             {"", goodAnswer, 401},
		"other secret":     {sign(other, testNow, []byte(goodAnswer)), goodAnswer, 401},
		"other body":       {good, strings.Replace(goodAnswer, "true", "false", 1), 401},
		"other time":       {strings.Replace(good, "t=1", "t=2", 1), goodAnswer, 401},
		"old":              {sign(secret, testNow.Add(-fresh-time.Second), []byte(goodAnswer)), goodAnswer, 401},
		"from the future":  {sign(secret, testNow.Add(fresh+time.Second), []byte(goodAnswer)), goodAnswer, 401},
		"cut":              {good[:len(good)-2], goodAnswer, 401},
		"no time":          {"t=,v1=" + strings.Repeat("0", 64), goodAnswer, 401},
		"empty mac":        {"t=1,v1=", goodAnswer, 401},
		"leading zero":     {strings.Replace(good, "t=", "t=0", 1), goodAnswer, 401},
		"huge":             {good, strings.Repeat("x", MaxCallback+1), 413},
		"our event is one": {sign(secret, testNow, event), string(event), 400},
	} {
		if status, reply := call(t, c, row.signature, row.body); status != row.want {
			t.Errorf("%s: %d %s, want %d", name, status, reply, row.want)
		}
	}
	for _, body := range []string{
		``, `null`, `[]`, `{`, `{}`, goodAnswer + `{}`, goodAnswer + `x`,
		strings.Replace(goodAnswer, `"yes":true`, `"yes":null`, 1), strings.Replace(goodAnswer, `"yes":true`, `"yes":"true"`, 1),
		strings.Replace(goodAnswer, `"yes":true`, `"yes":false,"yes":true`, 1), strings.Replace(goodAnswer, `"yes"`, `"Yes"`, 1),
		strings.Replace(goodAnswer, `"e1"`, `""`, 1), strings.Replace(goodAnswer, `"wang"`, `"wa\u0000ng"`, 1),
		strings.Replace(goodAnswer, `{`, `{"message":"m",`, 1),
	} {
		if status, reply := call(t, c, sign(secret, testNow, []byte(body)), body); status != 400 {
			t.Errorf("%s: %d %s, want 400", body, status, reply)
		}
	}
	if answers.count() != 0 {
		t.Errorf("%+v were taken", answers.taps)
	}
}

func TestRefusalsOfAnswersHaveAStatus(t *testing.T) {
	for err, want := range map[error]int{
		cheq.ErrReplay: 409, cheq.ErrSettled: 409, cheq.ErrShown: 409, cheq.ErrMessage: 404, cheq.ErrNotFound: 404,
		cheq.ErrStranger: 403, cheq.ErrNotReviewer: 403, cheq.ErrText: 400, errors.New("pg: password p4ss"): 503,
	} {
		c := channel(t, &counter{err: fmt.Errorf("case: %w", err)}, Hook{"ops", "https://ops.example", secret, false})
		status, reply := call(t, c, sign(secret, testNow, []byte(goodAnswer)), goodAnswer)
		if status != want || strings.Contains(reply, "p4ss") {
			t.Errorf("%v: %d %s, want %d", err, status, reply, want)
		}
	}
}

func TestAYesInAnEmergencyIsConfirmed(t *testing.T) {
	c := channel(t, &counter{err: cheq.ErrConfirm}, Hook{"ops", "https://ops.example", secret, false})
	status, reply := call(t, c, sign(secret, testNow, []byte(goodAnswer)), goodAnswer)
	if status != http.StatusAccepted || reply != `{"case":"cheq-1","state":"pending","confirm":true}` {
		t.Errorf("%d %s", status, reply)
	}
}

func FuzzCallback(f *testing.F) {
	f.Add("t=1772366400,v1="+strings.Repeat("0", 64), goodAnswer, false)
	f.Add("", `{"event":"e","event":"f"}`, true)
	f.Add("", goodAnswer, true)
	f.Fuzz(func(t *testing.T, signature, body string, signed bool) {
		answers := &counter{}
		c := channel(t, answers, Hook{"ops", "https://ops.example", secret, false})
		if signed {
			signature = sign(secret, testNow, []byte(body))
		}
		status, _ := call(t, c, signature, body)
		if taken := answers.count() == 1; taken != (status == http.StatusOK) || taken && !signed {
			t.Errorf("status %d, taken %v, signed %v", status, taken, signed)
		}
		for _, tap := range answers.taps {
			if tap.Case == "" || tap.Shown == "" || tap.Event == "ops/" || tap.Platform == "ops/" || tap.To != "ops" {
				t.Errorf("%+v was taken", tap)
			}
		}
	})
}
