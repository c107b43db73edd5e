package httpd

import (
	"bytes"
	"context"
	"net/http"

	"github.com/xiezhi-project/xiezhi/cmd/internal/fault"
)

// Callback takes a call of a chat platform, which it authenticates itself: the
// headers by name and the raw body. It answers with a status and JSON.
type Callback func(ctx context.Context, header func(name string) string, body []byte) (status int, answer []byte)

// maxCallback bounds the body of a platform's call.
const maxCallback = 64 << 10

func callbackRoutes() []Route {
	return []Route{
		{
			Method: http.MethodPost, Path: "/api/v1/channels/{channel}", Operation: "callChannel", Public: true, MaxBody: maxCallback,
			Summary: "Where a chat platform brings what people answered there; each signs in its own way",
			Status:  http.StatusOK, Answer: "ChannelAnswer", handle: (*call).callChannel,
		},
	}
}

// callChannel leaves everything to the channel: it knows whom to believe.
func (c *call) callChannel() error {
	name, err := c.param("channel")
	if err != nil {
		return err
	}
	take := c.config.Callbacks[name]
	if take == nil {
		return httpError(http.StatusNotFound)
	}
	body := bytes.Clone(c.fiber.Request().Body()) // the signature is of these bytes, whatever they are
	if len(body) > maxCallback {
		return httpError(http.StatusRequestEntityTooLarge)
	}
	status, answer := take(c.ctx, c.header, body)
	fault.Point("answer taken")
	c.answerJSON(status, func(buf []byte) []byte { return append(buf, answer...) })
	return nil
}
