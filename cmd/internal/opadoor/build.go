package opadoor

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/opabundle"
	"github.com/xiezhi-project/xiezhi/pap"
)

// Limits of what is kept built.
const (
	maxEntries = 1024
	maxBytes   = 512 << 20
	// idle is how long a name is built anew after its last poll; agents that
	// do not poll long ask every one to two minutes.
	idle = 10 * time.Minute
)

// generation is what bundles of one release are cut from.
type generation struct {
	release uint64
	subsets *pap.Subsets
}

// built is one bundle. It is immutable.
type built struct {
	release uint64
	kid     string
	etag    string
	data    []byte
}

// entry is one name under which bundles are asked for. Its fields are under
// the door's lock.
type entry struct {
	name    string
	tenants []string
	current *built
	changed chan struct{} // closed and replaced with each bundle or failure
	failed  error         // of the newest attempt
	asked   time.Time
	waiting int // requests that hold it
}

// hold returns the entry of a name, which stays until it is released.
func (d *Door) hold(name string, tenants []string) (*entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[name]
	if e == nil {
		if len(d.entries) >= maxEntries && !d.evict() {
			return nil, errBusy
		}
		e = &entry{name: name, tenants: tenants, changed: make(chan struct{})}
		d.entries[name] = e
	}
	e.waiting++
	e.asked = d.config.Now()
	if e.current == nil || e.current.release != d.head.target() {
		d.wake()
	}
	return e, nil
}

func (d *Door) release(e *entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.waiting--
	e.asked = d.config.Now()
}

// evict forgets the name that was asked for longest ago and is not held.
func (d *Door) evict() bool {
	var oldest *entry
	for _, e := range d.entries {
		if e.waiting == 0 && (oldest == nil || e.asked.Before(oldest.asked)) {
			oldest = e
		}
	}
	if oldest != nil {
		delete(d.entries, oldest.name)
	}
	return oldest != nil
}

// Run builds bundles until ctx ends; then those who wait are answered.
func (d *Door) Run(ctx context.Context) {
	defer close(d.closed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.work:
		}
		d.build(ctx)
	}
}

// build makes every bundle that is wanted and not there.
func (d *Door) build(ctx context.Context) {
	for ctx.Err() == nil {
		signer, kid, err := d.config.Signer(d.config.Now())
		if err != nil {
			d.config.Log.Error("no key signs bundles for stock agents", "error", err)
			kid = ""
		}
		e, target := d.next(kid)
		if e == nil {
			return
		}
		var b *built
		if err == nil {
			b, err = d.make(ctx, e, target, signer, kid)
		}
		if err != nil && ctx.Err() == nil {
			d.config.Log.Error("a bundle for stock agents cannot be built; they keep what they have", "name", e.name, "release", target, "error", err)
		}
		d.settle(e, target, kid, b, err)
	}
}

// next returns an entry whose bundle is not of the target or not by the key,
// those that somebody waits for first. Names that nobody asks for any more are
// forgotten.
func (d *Door) next(kid string) (*entry, uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	target := d.head.target()
	if target == 0 {
		return nil, 0
	}
	var found *entry
	for _, e := range d.entries {
		if e.current != nil && e.current.release == target && (kid == "" || e.current.kid == kid) || e.tried(target, kid) {
			continue
		}
		if e.waiting == 0 && d.config.Now().Sub(e.asked) > idle {
			delete(d.entries, e.name)
			continue
		}
		if found == nil || e.waiting > found.waiting {
			found = e
		}
	}
	return found, target
}

// attemptError is a bundle that could not be built: it is not tried again
// before release or key are others.
type attemptError struct {
	error
	target uint64
	kid    string
}

func (e *attemptError) Unwrap() error { return e.error }

func (e *entry) tried(target uint64, kid string) bool {
	failed, ok := e.failed.(*attemptError)
	return ok && failed.target == target && failed.kid == kid
}

func (d *Door) settle(e *entry, target uint64, kid string, b *built, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.failed = nil
	if err != nil {
		e.failed = &attemptError{err, target, kid}
	} else {
		e.current = b
	}
	close(e.changed)
	e.changed = make(chan struct{})
	total := 0
	for _, e := range d.entries {
		if e.current != nil {
			total += len(e.current.data)
		}
	}
	for total > maxBytes && d.evict() {
		total = 0
		for _, e := range d.entries {
			if e.current != nil {
				total += len(e.current.data)
			}
		}
	}
}

// make builds one bundle.
func (d *Door) make(ctx context.Context, e *entry, target uint64, signer crypto.Signer, kid string) (*built, error) {
	if d.now == nil || d.now.release != target {
		content, err := d.contentOf(ctx, target)
		if err != nil {
			return nil, fmt.Errorf("read release %d: %w", target, err)
		}
		before := &pap.Subsets{}
		if d.now != nil {
			before = d.now.subsets
		}
		d.now = &generation{target, before.Next(content)}
	}
	subset, err := d.now.subsets.For(e.tenants)
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	if err := opabundle.Write(&data, opabundle.Revision(target), subset, e.tenants, deterministic{signer}, kid); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data.Bytes())
	etag := `"` + opabundle.Revision(target) + "-" + hex.EncodeToString(sum[:]) + `"`
	return &built{target, kid, etag, data.Bytes()}, nil
}

func (d *Door) contentOf(ctx context.Context, release uint64) (*bundles.Content, error) {
	d.mu.Lock()
	head := d.head
	d.mu.Unlock()
	if head.release == release {
		return head.content, nil
	}
	return d.config.Content(ctx, release)
}

// deterministic signs as RFC 6979 says, so that every node makes the same
// signature of the same bundle.
type deterministic struct{ crypto.Signer }

// Sign implements crypto.Signer.
func (s deterministic) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(nil, digest, opts)
}

// Waiting is how many agents are held now.
func (d *Door) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := 0
	for _, e := range d.entries {
		held += e.waiting
	}
	return held
}
