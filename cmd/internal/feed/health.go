package feed

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// patience is how long somebody waits for a read before the view at hand
	// has to do, and after which a read under way counts as failing.
	patience = time.Second
	// retryEvery is how often a caller tries the store itself while it fails.
	retryEvery = time.Second
	// remindEvery is how often an error that stays is logged again.
	remindEvery = time.Minute
	// changeEvery is how often at most an error is logged whose text changes: it
	// may name the port of each attempt.
	changeEvery = 10 * time.Second
)

var errSlow = errors.New("the database does not answer in time")

// health is how reading the store goes. It is safe for concurrent use.
type health struct {
	now func() time.Time

	mu    sync.Mutex
	good  time.Time // when the last successful read began
	began time.Time // of the read under way, else zero
	err   error     // of the last read
	tried time.Time // when the last read ended that failed, or a caller went to try
}

// begin notes that a read begins now.
func (h *health) begin() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.began = h.now()
	return h.began
}

func (h *health) succeeded(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.good, h.began, h.err = began, time.Time{}, nil
}

func (h *health) failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tried, h.began, h.err = h.now(), time.Time{}, err
}

func (h *health) givenUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.began = time.Time{}
}

func (h *health) lastRead() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.good
}

// broken is the error that reading ends with now, or nil.
func (h *health) broken() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state()
}

func (h *health) state() error {
	if h.err == nil && !h.began.IsZero() && h.now().Sub(h.began) > patience {
		return errSlow
	}
	return h.err
}

// failing is broken, save to one caller every so often, who is to try.
func (h *health) failing() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.state()
	if now := h.now(); err != nil && h.began.IsZero() && now.Sub(h.tried) >= retryEvery {
		h.tried = now
		return nil
	}
	return err
}

// Age is how long ago the last successful read of the store began.
func (f *Feed) Age() time.Duration { return f.config.Now().Sub(f.health.lastRead()) }

// Failing is why the store cannot be read at present, or nil.
func (f *Feed) Failing() error { return f.health.broken() }

// complaint logs an error when it changes and from time to time while it stays.
type complaint struct {
	text string
	at   time.Time
}

func (c *complaint) about(log *slog.Logger, err error, now time.Time) {
	var text string
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == c.text && (text == "" || now.Sub(c.at) < remindEvery):
		return
	case text != "" && c.text != "" && now.Sub(c.at) < changeEvery:
		return
	case text == "":
		log.Info("this node is up to date again")
	default:
		log.Error("cannot bring this node up to date", "error", err)
	}
	c.text, c.at = text, now
}
