package pip

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// MaxAnswer bounds one answer of an HTTP source, in bytes.
const MaxAnswer = 64 << 10

var (
	errLate        = errors.New("did not answer in time")
	errUnreachable = errors.New("could not be reached")
	errAnswer      = errors.New("answered something else than was asked for")
)

// downError is a failure of the source as a whole, which the breaker counts. An
// answer that is wrong for one entity is none: whoever may choose entities
// could take the source away from everybody.
type downError struct {
	err   error
	cause error // for the log of this server
}

func (e *downError) Error() string { return e.err.Error() }
func (e *downError) Unwrap() error { return e.err }

// client calls one source. It uses no proxy, since only what it dials itself
// can it look at, and follows no redirect.
func client(c *HTTPConfig, plain bool) *http.Client {
	dialer := &net.Dialer{Timeout: c.Timeout, Control: func(_, address string, _ syscall.RawConn) error {
		if at, err := netip.ParseAddrPort(address); plain && (err != nil || !at.Addr().Unmap().IsLoopback()) {
			return errors.New("plain HTTP is for loopback alone")
		}
		return c.Dialable(address)
	}}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: c.Timeout,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs},
			MaxConnsPerHost: c.Connections, MaxIdleConnsPerHost: c.Connections, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// asks is a question as it is sent.
type asks struct {
	Tenant string `json:"tenant"`
	Entity entity `json:"entity"`
	Name   string `json:"name"`
}

type entity struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// call asks the source once.
func (h *HTTP) call(ctx context.Context, q question) (answer, error) {
	body, err := json.Marshal(asks{q.tenant, entity{q.typ, q.id}, q.name})
	if err != nil {
		return answer{}, errAnswer
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.config.URL, bytes.NewReader(body))
	if err != nil {
		return answer{}, &downError{errUnreachable, errors.New("its address cannot be called")}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "xiezhi")
	if h.config.Token != nil {
		token, err := h.config.Token()
		if err != nil {
			return answer{}, &downError{errUnreachable, err}
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := h.client.Do(request)
	if err != nil {
		return answer{}, unreachable(ctx, err)
	}
	defer response.Body.Close()
	if status := response.StatusCode; status != http.StatusOK {
		return answer{}, refused(status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	if err != nil {
		return answer{}, unreachable(ctx, err)
	}
	if len(data) > MaxAnswer {
		return answer{}, fmt.Errorf("%w: more than %d bytes", errAnswer, MaxAnswer)
	}
	return readAnswer(data, body)
}

func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &downError{errLate, errLate}
	}
	var address *url.Error
	if errors.As(err, &address) {
		err = address.Err // the address may hold a token
	}
	return &downError{errUnreachable, err}
}

// refused tells a source that fails from one that does not take one question.
func refused(status int) error {
	err := fmt.Errorf("answered with status %d", status)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return &downError{err, err}
	}
	if status >= 400 && status < 500 {
		return err
	}
	return &downError{err, err}
}

// readAnswer reads {"found": true, "value": …} or {"found": false}, strictly.
// An answer may repeat members of the question, which are then the question's.
func readAnswer(data, asked []byte) (answer, error) {
	said, err := authz.Parse(data)
	if err != nil || said.Kind() != authz.KindObject {
		return answer{}, fmt.Errorf("%w: not one JSON object", errAnswer)
	}
	question, err := authz.Parse(asked)
	if err != nil {
		return answer{}, fmt.Errorf("%w: the question is not JSON", errAnswer)
	}
	a := answer{size: len(data)}
	for _, m := range said.Members() {
		switch m.Name {
		case "found", "value":
		default:
			if repeated, ok := question.Get(m.Name); !ok {
				return answer{}, fmt.Errorf("%w: it has a member that is not known", errAnswer)
			} else if !repeated.Equal(m.Value) {
				return answer{}, fmt.Errorf("%w: it is for another question", errAnswer)
			}
		}
	}
	found, _ := said.Get("found")
	value, given := said.Get("value")
	if found.Kind() != authz.KindBool || found.Bool() != given {
		return answer{}, fmt.Errorf("%w: want found, and a value where it is true", errAnswer)
	}
	a.found, a.value = given, value
	return a, nil
}
