package opadoor

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"time"
)

// upload returns the unpacked body of a call; done must be called.
func (d *Door) upload(c *call, maxPacked, maxPlain int64) (body io.Reader, done func(), err error) {
	leave, err := d.place(c)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(readTimeout)) // not every writer has one
	var packed io.Reader = http.MaxBytesReader(c.w, c.r.Body, maxPacked)
	switch encoding := c.r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		if packed, err = gzip.NewReader(packed); err != nil {
			return nil, nil, refuse(http.StatusBadRequest, "invalid_body", "the body is not gzip: "+err.Error())
		}
	default:
		return nil, nil, refuse(http.StatusUnsupportedMediaType, "unsupported_encoding", "send the body with Content-Encoding: gzip, or without")
	}
	return &limited{packed, maxPlain}, leave, nil
}

// Limits of uploads: how many are read at once, of all and of one tenant, how
// many more may wait for a place, and for how long. net/http does not see a
// client leave whose body is not read yet.
const (
	maxUploads      = 32
	maxShare        = 8
	maxWaiting      = 256
	maxWaitingShare = 32
	placeWithin     = 10 * time.Second
)

// errCrowded is the answer to an upload that found no place.
var errCrowded = refuse(http.StatusServiceUnavailable, "overloaded", "too many uploads are read at once; send this one again")

// share is a tenant's part of the places, or the platform's.
type share struct {
	places  chan struct{}
	waiting int // under the door's lock
}

// place waits for a place among the uploads that are read at once: first among
// those of the caller's tenant, so that one which writes slowly holds up nobody
// else. leave gives it back.
func (d *Door) place(c *call) (leave func(), err error) {
	s, err := d.queue(c.caller.Tenant)
	if err != nil {
		return nil, err
	}
	defer d.unqueue(s)
	ctx, cancel := context.WithTimeoutCause(c.r.Context(), placeWithin, errCrowded)
	defer cancel()
	if err := occupy(ctx, s.places); err != nil {
		return nil, err
	}
	if err := occupy(ctx, d.uploads); err != nil {
		<-s.places
		return nil, err
	}
	return func() { <-d.uploads; <-s.places }, nil
}

// queue lets a caller of the tenant wait, unless too many do; unqueue ends it.
func (d *Door) queue(tenant string) (*share, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.shares[tenant]
	if s == nil {
		s = &share{places: make(chan struct{}, maxShare)}
		if tenant == "" {
			s.places = make(chan struct{}, maxUploads)
		}
		d.shares[tenant] = s // tenants that exist: there is no end of names to make up
	}
	if d.waiting >= maxWaiting || s.waiting >= maxWaitingShare {
		return nil, errCrowded
	}
	d.waiting++
	s.waiting++
	return s, nil
}

func (d *Door) unqueue(s *share) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting--
	s.waiting--
}

// occupy takes a place, or says why ctx ended before there was one.
func occupy(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	default:
	}
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// limited is a reader that fails beyond its limit. It fills what it is given:
// encoding/json scans blanks from their beginning after each read, so that
// many short reads of many blanks would cost their square.
type limited struct {
	from io.Reader
	left int64
}

var errLarge = refuse(http.StatusRequestEntityTooLarge, "body_too_large", "the body unpacks to more than this server takes")

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLarge
	}
	p = p[:min(int64(len(p)), l.left)]
	n := 0
	for n < len(p) {
		read, err := l.from.Read(p[n:])
		n += read
		if err != nil {
			l.left -= int64(n)
			return n, err
		}
	}
	l.left -= int64(n)
	return n, nil
}
