package feishu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	larkws "github.com/larksuite/oapi-sdk-go/v3/ws"
)

// maxAnswer bounds what is read of a REST answer, in bytes.
const maxAnswer = 1 << 20

// How often the long connection may be asked to ping. The SDK takes what the
// platform says, and pings without pause at 0.
const (
	minPing = time.Second
	maxPing = 2 * time.Minute
)

// client makes the SDK's HTTP calls. It follows no redirect, which would carry
// the app secret elsewhere, and bounds answers, which the SDK does not.
type client struct {
	http *http.Client
}

func newClient(given *http.Client) *client {
	if given == nil {
		given = &http.Client{Timeout: 10 * time.Second}
	}
	own := *given
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{http: &own}
}

// Do implements the SDK's HttpClient.
func (c *client) Do(r *http.Request) (*http.Response, error) {
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if closed := answer.Body.Close(); err == nil {
		err = closed
	}
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if err == nil && answer.StatusCode == http.StatusOK && strings.HasSuffix(r.URL.Path, larkws.GenEndpointUri) {
		body, err = vetEndpoint(body)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err)
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// vetEndpoint looks at where the long connection is to go, and how often it is
// to ping, before the SDK does either. Its errors do not quote the address,
// which holds a ticket.
func vetEndpoint(body []byte) ([]byte, error) {
	var answer larkws.EndpointResp
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, errors.New("the endpoint is not JSON")
	}
	if answer.Code != larkws.OK || answer.Data == nil {
		return body, nil
	}
	address, err := url.Parse(answer.Data.Url)
	if err != nil || !protected(address, "wss", "ws") {
		return nil, errors.New("the endpoint is not wss://, or ws:// on loopback")
	}
	if answer.Data.ClientConfig == nil {
		answer.Data.ClientConfig = &larkws.ClientConfig{PingInterval: int(maxPing / time.Second)}
	}
	ping := &answer.Data.ClientConfig.PingInterval
	*ping = min(max(*ping, int(minPing/time.Second)), int(maxPing/time.Second))
	return json.Marshal(answer)
}
