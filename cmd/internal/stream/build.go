package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// job is one thing to build. Equal jobs are one.
type job struct {
	audience *audience
	release  uint64
	pack     bool   // beyond cutting and sealing
	base     string // digest that a delta starts from; "" for a snapshot
	basedOn  uint64 // the release of that digest
}

// buildQueue holds jobs, each once, in order.
type buildQueue struct {
	mu     sync.Mutex
	some   *sync.Cond
	jobs   []job
	known  map[job]struct{} // waiting or under way
	closed bool
}

func (q *buildQueue) init() {
	q.some, q.known = sync.NewCond(&q.mu), map[job]struct{}{}
}

func (q *buildQueue) add(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.known[j]; ok || q.closed {
		return
	}
	q.known[j] = struct{}{}
	q.jobs = append(q.jobs, j)
	q.some.Signal()
}

func (q *buildQueue) take() (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 && !q.closed {
		q.some.Wait()
	}
	if q.closed {
		return job{}, false
	}
	j := q.jobs[0]
	q.jobs = q.jobs[1:]
	return j, true
}

func (q *buildQueue) done(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.known, j)
}

func (q *buildQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}

// buildWithin bounds the questions of one build to the store.
const buildWithin = 10 * time.Second

// build does jobs until the hub stops.
func (h *Hub) build() {
	for {
		j, ok := h.builds.take()
		if !ok {
			return
		}
		err := h.do(j)
		h.builds.done(j)
		if err != nil && h.base.Err() == nil {
			h.stats.failures.Add(1)
			h.config.Log.Error("cannot prepare a release for PEPs; it is tried again", "release", j.release, "tenants", j.audience.name, "error", err)
			h.failed(j, err)
			continue
		}
		h.markAudience(j.audience)
	}
}

// failed notes a failure; connections ask again with their next heartbeat.
func (h *Hub) failed(j job, err error) {
	a := j.audience
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.target(j.release)
	t.failed, t.failedAt = err, h.config.Now()
}

func (a *audience) target(number uint64) *target {
	t := a.targets[number]
	if t == nil {
		t = &target{number: number, frames: map[string][]byte{}}
		a.targets[number] = t
	}
	return t
}

func (h *Hub) markAudience(a *audience) {
	h.mu.RLock()
	marked := slices.Collect(maps.Keys(a.members))
	h.mu.RUnlock()
	h.queue.mark(marked, laneSlow)
}

// do cuts and seals a release for an audience, and packs it where that is asked for.
func (h *Hub) do(j job) error {
	ctx, cancel := context.WithTimeout(h.base, buildWithin)
	defer cancel()
	a := j.audience
	a.mu.Lock()
	t := a.target(j.release)
	a.mu.Unlock()
	info, subsets, err := h.releaseOf(ctx, j.release)
	if err != nil {
		return err
	}
	content, err := h.cutTarget(a, t, subsets)
	if err != nil {
		return err
	}
	sealed, err := h.sealTarget(ctx, a, t, content, info)
	if err != nil || !j.pack {
		return err
	}
	return h.packTarget(ctx, j, t, content, sealed)
}

// cutTarget returns what the audience gets, cutting it where that was not done.
func (h *Hub) cutTarget(a *audience, t *target, subsets *pap.Subsets) (*bundles.Content, error) {
	a.mu.Lock()
	content := t.content
	a.mu.Unlock()
	if content != nil {
		return content, nil
	}
	content, err := subsets.For(a.tenants)
	if err != nil {
		return nil, fmt.Errorf("cut release %d: %w", t.number, err)
	}
	h.keepTarget(a, t, content)
	h.markAudience(a) // the digest is known: heartbeats may name it
	return content, nil
}

// sealTarget returns the target's manifest, sealing it where there is none.
func (h *Hub) sealTarget(ctx context.Context, a *audience, t *target, content *bundles.Content, info pap.Release) (bundles.Sealed, error) {
	a.mu.Lock()
	sealed := t.sealed
	a.mu.Unlock()
	if sealed.Signed != "" {
		return sealed, nil
	}
	sealed, err := h.seal(ctx, a, content, info)
	if err != nil {
		return bundles.Sealed{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t.sealed, t.failed, t.keysFrame = sealed, nil, nil
	clear(t.frames)
	return sealed, nil
}

// packTarget keeps the frame that leads from the job's base to the target.
func (h *Hub) packTarget(ctx context.Context, j job, t *target, content *bundles.Content, sealed bundles.Sealed) (err error) {
	a, base := j.audience, h.baseOf(ctx, j)
	a.mu.Lock()
	frame := t.frames[""] // a snapshot does for every base that is not at hand
	a.mu.Unlock()
	if base != nil || frame == nil {
		if frame, err = h.pack(j, base, content, sealed); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.sealed.Signed == sealed.Signed { // else the key was revoked meanwhile
		t.frames[j.base], t.failed = frame, nil
		if base == nil {
			t.frames[""] = frame
		}
	}
	return nil
}

// keepTarget stores what was cut, and forgets targets that are no more.
func (h *Hub) keepTarget(a *audience, t *target, content *bundles.Content) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.content == nil { // once set, writers read it without the lock
		t.content, t.digest = content, content.Digest().String()
	}
	a.keep(t.digest, content)
	for number := range a.targets {
		if number < h.head.Release && number != t.number && (h.rollout == nil || number != h.rollout.Base) {
			delete(a.targets, number)
		}
	}
}

// keep remembers a content that PEPs may hold. The audience's lock is held.
func (a *audience) keep(digest string, content *bundles.Content) {
	a.contents = slices.DeleteFunc(a.contents, func(k known) bool { return k.digest == digest })
	a.contents = append(a.contents, known{digest, content})
	if len(a.contents) > keepContents {
		a.contents = slices.Delete(a.contents, 0, len(a.contents)-keepContents)
	}
}

// releaseOf returns a release, from the store where it is not at hand.
func (h *Hub) releaseOf(ctx context.Context, number uint64) (pap.Release, *pap.Subsets, error) {
	h.mu.RLock()
	r := h.releases[number]
	h.mu.RUnlock()
	if r == nil {
		content, info, err := h.config.Content(ctx, number)
		if err != nil {
			return pap.Release{}, nil, fmt.Errorf("read release %d: %w", number, err)
		}
		h.mu.Lock()
		if r = h.releases[number]; r == nil {
			r = h.remember(info, content)
		}
		h.mu.Unlock()
	}
	return r.info, r.subsets, nil
}

// seal returns the manifest that the store keeps for this release and
// audience, signing it where there is none under a key that counts.
func (h *Hub) seal(ctx context.Context, a *audience, content *bundles.Content, info pap.Release) (bundles.Sealed, error) {
	h.mu.RLock()
	set, sign := h.set, h.sign
	h.mu.RUnlock()
	now := h.config.Now()
	want := bundles.ManifestFor(content, info.Number, info.Restores, a.tenants, info.CreatedAt)
	usable := func(signed string) (bundles.Sealed, error) {
		sealed, err := bundles.OpenManifest(set, signed, now)
		if err == nil && !sameManifest(sealed.Manifest, want) {
			err = fmt.Errorf("its manifest says other than this release")
		}
		return sealed, err
	}
	stored, err := h.config.PEPs.Seals(ctx, info.Number, a.name)
	if err != nil {
		return bundles.Sealed{}, fmt.Errorf("read the seals of release %d: %w", info.Number, err)
	}
	for _, s := range stored {
		if sealed, err := usable(s.Signed); err == nil {
			return sealed, nil
		}
	}
	signed, err := bundles.Seal(sign, want)
	if err != nil {
		return bundles.Sealed{}, err
	}
	h.stats.signatures.Add(1)
	mine, err := usable(signed)
	if err != nil {
		return bundles.Sealed{}, fmt.Errorf("seal release %d: %w", info.Number, err)
	}
	kept, err := h.config.PEPs.KeepSeal(ctx, pap.Seal{Release: info.Number, Audience: a.name, KeyID: mine.KeyID, Signed: signed})
	if err != nil {
		return bundles.Sealed{}, fmt.Errorf("keep the seal of release %d: %w", info.Number, err)
	}
	if sealed, err := usable(kept.Signed); err == nil {
		return sealed, nil
	}
	// What is stored under this key is not this release's, as after a newer
	// version cut releases otherwise: PEPs of this node get its own.
	h.config.Log.Warn("the stored seal of a release is not what this node makes of it", "release", info.Number, "tenants", a.name)
	return mine, nil
}

func sameManifest(a, b bundles.Manifest) bool {
	first, err := json.Marshal(a)
	if err != nil {
		return false
	}
	second, err := json.Marshal(b)
	return err == nil && bytes.Equal(first, second)
}

// pack writes the frame of a release: a delta where the base is at hand, else
// a snapshot.
func (h *Hub) pack(j job, base, content *bundles.Content, sealed bundles.Sealed) ([]byte, error) {
	header := wire.Header{Type: wire.TypeRelease, Release: j.release}
	if base != nil {
		header.Base = j.base
	}
	frame, err := encode(header, nil)
	if err != nil {
		return nil, err
	}
	body := bytes.NewBuffer(frame)
	if base != nil {
		err = bundles.WriteDelta(body, sealed.Signed, base, content)
	} else {
		err = bundles.WriteSnapshot(body, sealed.Signed, content)
	}
	if err != nil {
		return nil, fmt.Errorf("pack release %d: %w", j.release, err)
	}
	h.stats.packed.Add(1)
	return bytes.Clone(body.Bytes()), nil // without what the buffer grew by
}

// baseOf finds the content that a delta starts from; nil: there is none here.
func (h *Hub) baseOf(ctx context.Context, j job) *bundles.Content {
	if j.base == "" {
		return nil
	}
	a := j.audience
	a.mu.Lock()
	for _, k := range a.contents {
		if k.digest == j.base {
			a.mu.Unlock()
			return k.content
		}
	}
	a.mu.Unlock()
	if j.basedOn == 0 || j.basedOn >= j.release || j.release-j.basedOn > keepContents {
		return nil
	}
	_, subsets, err := h.releaseOf(ctx, j.basedOn)
	if err != nil {
		return nil // a snapshot does as well
	}
	content, err := subsets.For(a.tenants)
	if err != nil || content.Digest().String() != j.base {
		return nil
	}
	return content
}
