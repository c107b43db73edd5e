package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// MaxCallback is the longest body of an answer, in bytes.
const MaxCallback = 16 << 10

// answer is what a hook sends back.
type answer struct {
	Event  string // the answer's own id, of the hook's choosing; it counts once
	Case   string
	Shown  string // the digest that the event carried
	User   string // who answered, as the hook names people
	Yes    *bool
	Reason string
}

// Callback takes an answer: the call's headers by name, and its raw body, of
// which no more than MaxCallback bytes need be read before it is refused. It
// returns the status and the JSON to answer with: the case's state, or a
// problem of RFC 9457.
func (c *Channel) Callback(ctx context.Context, header func(name string) string, body []byte) (status int, reply []byte) {
	if len(body) > MaxCallback {
		return problem(http.StatusRequestEntityTooLarge, fmt.Sprintf("an answer has at most %d bytes", MaxCallback))
	}
	signed, ok := parseSignature(header(SignatureHeader))
	if !ok {
		return problem(http.StatusUnauthorized, "want the header "+SignatureHeader+": t=<seconds>,v1=<HMAC-SHA256 in hexadecimal>")
	}
	h := c.signer(signed, body)
	switch {
	case h == nil:
		return problem(http.StatusUnauthorized, "the signature is no configured hook's")
	case !signed.fresh(c.config.Now()):
		return problem(http.StatusUnauthorized, "the signature's time is more than "+fresh.String()+" off")
	}
	a, err := parseAnswer(body)
	if err != nil {
		return problem(http.StatusBadRequest, err.Error())
	}
	delivery := cheq.Delivery{Case: a.Case, Place: cheq.Place{Channel: Name, To: h.Name}}
	view, err := c.config.Answers.Answer(ctx, cheq.Tap{
		Channel: Name, Event: h.Name + "/" + a.Event, At: signed.at, Platform: h.Name + "/" + a.User,
		To: h.Name, Message: message(delivery.Key()), Case: a.Case, Shown: a.Shown, Yes: *a.Yes, Reason: a.Reason,
	})
	status = http.StatusOK
	switch {
	case errors.Is(err, cheq.ErrConfirm): // noted: the same once more counts
		status = http.StatusAccepted
		view.Case.ID, view.Case.State = a.Case, cheq.Pending
	case err != nil:
		return c.refused(h, a, err)
	}
	reply, err = json.Marshal(struct {
		Case    string     `json:"case"`
		State   cheq.State `json:"state"`
		Confirm bool       `json:"confirm,omitempty"` // say yes once more
	}{view.Case.ID, view.Case.State, status == http.StatusAccepted})
	if err != nil {
		return problem(http.StatusInternalServerError, "the answer was taken, and the case's state cannot be written")
	}
	return status, reply
}

// signer returns whose secret signed a body, or nil. It tries every one's, so
// that the time it takes says nothing of which.
func (c *Channel) signer(s signature, body []byte) *hook {
	var by *hook
	for _, h := range c.hooks {
		if s.by(h.Secret, body) {
			by = h
		}
	}
	return by
}

// refused answers for an error of [cheq.Answers]. Errors that are nobody's
// business outside stay in the log.
func (c *Channel) refused(h *hook, a answer, err error) (int, []byte) {
	for _, known := range [...]struct {
		is     error
		status int
	}{
		{cheq.ErrReplay, http.StatusConflict}, {cheq.ErrSettled, http.StatusConflict}, {cheq.ErrShown, http.StatusConflict},
		{cheq.ErrMessage, http.StatusNotFound}, {cheq.ErrNotFound, http.StatusNotFound},
		{cheq.ErrStranger, http.StatusForbidden}, {cheq.ErrNotReviewer, http.StatusForbidden},
		{cheq.ErrText, http.StatusBadRequest}, {cheq.ErrTooMany, http.StatusTooManyRequests},
	} {
		if errors.Is(err, known.is) {
			c.config.Log.Info("an answer of a hook was refused", "hook", h.Name, "case", a.Case, "error", err)
			return problem(known.status, known.is.Error())
		}
	}
	c.config.Log.Error("an answer of a hook could not be taken", "hook", h.Name, "case", a.Case, "error", err)
	return problem(http.StatusServiceUnavailable, "the answer could not be taken: send it again")
}

func problem(status int, detail string) (int, []byte) {
	body, err := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
	if err != nil {
		return status, []byte("{}")
	}
	return status, body
}

// parseAnswer reads a body strictly: one flat object whose members are known,
// and given once.
func parseAnswer(body []byte) (answer, error) {
	var a answer
	members := map[string]any{"event": &a.Event, "case": &a.Case, "shown": &a.Shown, "user": &a.User, "yes": &a.Yes, "reason": &a.Reason}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return answer{}, errors.New("want a JSON object")
	}
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return answer{}, errors.New("not JSON")
		}
		into := members[name]
		if into == nil {
			return answer{}, fmt.Errorf("%.64q: unknown, or given twice", name)
		}
		members[name] = nil
		if err := decoder.Decode(into); err != nil {
			return answer{}, fmt.Errorf("%s: not of its type", name)
		}
	}
	if _, err := decoder.Token(); err != nil {
		return answer{}, errors.New("not JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return answer{}, errors.New("want one JSON object, and nothing after it")
	}
	a.Reason = strings.ReplaceAll(a.Reason, "\x00", "\uFFFD") // no database takes it
	if a.Yes == nil {
		return answer{}, errors.New("yes: want true or false")
	}
	for _, id := range [...]struct{ name, text string }{{"event", a.Event}, {"case", a.Case}, {"shown", a.Shown}, {"user", a.User}} {
		if !visible(id.text) {
			return answer{}, fmt.Errorf("%s: want 1 to 255 bytes of visible ASCII", id.name)
		}
	}
	return a, nil
}

// visible reports whether a text is of visible ASCII, and as short as an id.
func visible(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return text != "" && len(text) <= 255
}
