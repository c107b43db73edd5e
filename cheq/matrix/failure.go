package matrix

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"maunium.net/go/mautrix"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// Waits that a homeserver asks for.
const (
	usualWait   = 5 * time.Second // where it names none
	longestWait = time.Hour
)

// failed says what became of a call in the words of [cheq.Channel]. Of what the
// homeserver says only the code is repeated: the rest is as long and as odd as
// it likes.
func failed(what string, err error) error {
	var answer mautrix.HTTPError
	var address *url.Error
	switch {
	case errors.As(err, &address): // it would repeat the address
		return fmt.Errorf("matrix: %s: %w", what, address.Err)
	case !errors.As(err, &answer) || answer.Response == nil || answer.WrappedError != nil:
		return fmt.Errorf("matrix: %s: %w", what, shortened(err))
	}
	status := answer.Response.StatusCode
	told := fmt.Errorf("matrix: %s: HTTP %d%s", what, status, code(answer.RespError))
	switch {
	case status == http.StatusTooManyRequests || errors.Is(err, mautrix.MLimitExceeded):
		return &cheq.LaterError{After: wait(&answer), Err: told}
	case errors.Is(err, mautrix.MForbidden) || errors.Is(err, mautrix.MNotFound):
		return fmt.Errorf("%w: %w", told, cheq.ErrGone)
	default:
		return told
	}
}

// shortened drops what an error says of a response's body.
func shortened(err error) error {
	var answer mautrix.HTTPError
	if errors.As(err, &answer) && answer.WrappedError != nil {
		err = answer.WrappedError
	}
	for _, known := range [...]error{context.Canceled, context.DeadlineExceeded, mautrix.ErrBodyReadReachedLimit, mautrix.ErrResponseTooLong} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("the answer cannot be read")
}

// code is the error code of an answer, where it looks like one.
func code(e *mautrix.RespError) string {
	const longest = 64
	if e == nil || len(e.ErrCode) > longest {
		return ""
	}
	for _, r := range e.ErrCode {
		if (r < 'A' || r > 'Z') && r != '_' && (r < '0' || r > '9') {
			return ""
		}
	}
	return " " + e.ErrCode
}

// wait is how long an answer asks to wait.
func wait(answer *mautrix.HTTPError) time.Duration {
	asked := usualWait
	if seconds, err := strconv.Atoi(answer.Response.Header.Get("Retry-After")); err == nil {
		asked = time.Duration(min(seconds, int(longestWait/time.Second))) * time.Second
	}
	if answer.RespError != nil {
		if ms, ok := answer.RespError.ExtraData["retry_after_ms"].(float64); ok {
			asked = time.Duration(min(ms, float64(longestWait/time.Millisecond))) * time.Millisecond
		}
	}
	return max(asked, time.Millisecond)
}
