package httpd

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// kept is an answer as it is stored under its Idempotency-Key.
type kept struct {
	Headers map[string]string `json:"headers,omitempty"`
	Body    json.RawMessage   `json:"body"`
}

// keptHeaders are the answer's own; all others are made anew.
var keptHeaders = [...]string{HeaderRevision, fiber.HeaderETag, fiber.HeaderLocation}

// HeaderReplayed says that an answer repeats an earlier one.
const HeaderReplayed = "Idempotency-Replayed"

// replayed answers a mutating call once per Idempotency-Key: a retry gets the
// first answer again, and a different call under the same key is refused. Only
// successes are kept: what failed changed nothing and may be tried again.
//
// A crash between the change and the keeping of its answer loses the answer;
// the retry then meets what the change made (409, 412), never makes it twice
// in silence.
func (c *call) replayed(handle func(*call) error) error {
	key, err := c.keyHeader()
	if err != nil {
		return err
	}
	if key == "" {
		return handle(c)
	}
	// By token: another of the same caller's may hold fewer rights, and gets no
	// answer that it could not have asked for.
	replay := pap.Replay{Caller: c.caller.Tenant + "/" + c.caller.Name() + " " + c.caller.TokenID, Key: key, BodyDigest: c.digest()}
	if _, busy := c.inFlight.LoadOrStore(replay.Caller+"\x00"+key, true); busy {
		return errReplayInFlight
	}
	defer c.inFlight.Delete(replay.Caller + "\x00" + key)

	switch first, err := c.firstAnswer(replay.Caller, key); {
	case err == nil && first.BodyDigest != replay.BodyDigest:
		return errReplayMismatch
	case err == nil:
		c.asked = true // it was, when the answer was first given to this caller
		return c.repeat(first)
	case !errors.Is(err, pap.ErrNotFound):
		return fmt.Errorf("read the answer to %s: %w", HeaderIdempotencyKey, err)
	}
	if err := handle(c); err != nil {
		return err
	}
	c.keep(replay)
	return nil
}

// digest names the call: what is done, to what, with which body.
func (c *call) digest() bundles.Digest {
	request := c.fiber.Request()
	h := sha256.New()
	for _, part := range [][]byte{
		request.Header.Method(), request.URI().PathOriginal(), request.URI().QueryString(),
		request.Header.Peek(fiber.HeaderIfMatch), request.Header.Peek(fiber.HeaderIfNoneMatch), request.Body(),
	} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return bundles.Digest(h.Sum(nil))
}

func (c *call) firstAnswer(caller, key string) (first pap.Replay, err error) {
	err = c.config.Store.View(c.ctx, func(tx pap.Tx) error {
		first, err = tx.Replay(caller, key)
		return err
	})
	return first, err
}

func (c *call) repeat(first pap.Replay) error {
	var k kept
	if err := json.Unmarshal(first.Response, &k); err != nil {
		return fmt.Errorf("decode the answer kept under %s: %w", HeaderIdempotencyKey, err)
	}
	header := &c.fiber.Response().Header
	for name, value := range k.Headers {
		header.Set(name, value)
	}
	header.Set(HeaderReplayed, "true")
	c.answerJSON(first.Status, func(buf []byte) []byte { return append(buf, k.Body...) })
	return nil
}

// keep stores the answer. The change is made: a failure here is not the
// caller's.
func (c *call) keep(replay pap.Replay) {
	response := c.fiber.Response()
	k := kept{Headers: map[string]string{}, Body: append(json.RawMessage{}, response.Body()...)}
	if c.instead != nil {
		k.Body = c.instead
	}
	for _, name := range keptHeaders {
		if value := response.Header.Peek(name); len(value) > 0 {
			k.Headers[name] = string(value)
		}
	}
	data, err := json.Marshal(k)
	if err == nil {
		replay.Status, replay.Response, replay.At = response.StatusCode(), data, c.config.Now().UTC()
		err = c.config.Store.Update(c.ctx, func(tx pap.Tx) error { return tx.PutReplay(replay) })
	}
	if err != nil {
		c.config.Log.Warn("an answer is not kept under its idempotency key", "operation", c.route.Operation, "error", err)
	}
}

// keepInstead names what is stored in place of the answer, where the answer
// holds a secret.
func (c *call) keepInstead(body any, revision authz.Revision) error {
	data, err := changedJSON(body, revision)
	c.instead = data
	return err
}

const (
	// replaysKept is how long a retry gets the first answer again.
	replaysKept = 24 * time.Hour
	forgetEvery = time.Hour
)

// forgetReplays drops old answers until ctx ends, so that the store does not
// keep what nobody retries.
func (s *Server) forgetReplays(ctx context.Context) {
	ticker := time.NewTicker(forgetEvery)
	defer ticker.Stop()
	for {
		if err := s.forgetReplaysBefore(ctx, s.config.Now().Add(-replaysKept)); err != nil && ctx.Err() == nil {
			s.config.Log.Warn("old answers to retries are still in the store", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) forgetReplaysBefore(ctx context.Context, before time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.config.Store.Update(ctx, func(tx pap.Tx) error { return tx.ForgetReplays(before) })
}
