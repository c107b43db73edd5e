package stream

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// audience is what connections that serve the same tenants share.
type audience struct {
	name    string
	tenants []string
	serves  func(tenant string) bool
	serial  uint64

	// Under the hub's lock.
	members   map[*conn]struct{}
	idleSince time.Time

	// mu guards what follows. It is held while something small is signed.
	mu       sync.Mutex
	targets  map[uint64]*target
	contents []known // the newest that PEPs of it may hold, the latest last
	ranges   map[rangeKey][][]byte
	rangesOf uint64    // log position that ranges lead to
	rangesAt time.Time // read by which the oldest of them was signed
	beats    map[uint64]beat
	state    string // digest of the state, of stateOf
	stateOf  time.Time
}

// keepContents is how many earlier contents a delta may start from.
const keepContents = 8

type known struct {
	digest  string
	content *bundles.Content
}

// target is one release as this audience gets it.
type target struct {
	number  uint64
	content *bundles.Content // nil until cut
	digest  string
	sealed  bundles.Sealed // Signed is empty until sealed
	// frames are what was packed of it, by base; "" is the snapshot. The text
	// of a base that has no content here is what leads to the snapshot.
	frames    map[string][]byte
	keysFrame []byte // the key set with this manifest
	keysOf    uint64 // version of that key set

	failed   error
	failedAt time.Time
}

type rangeKey struct {
	from  uint64
	reset bool
}

type beat struct {
	read     time.Time
	position uint64
	frame    []byte
}

func (h *Hub) newAudience(tenants []string) *audience {
	a := &audience{
		name: bundles.AudienceName(tenants), tenants: tenants, serial: h.serial,
		members: map[*conn]struct{}{}, targets: map[uint64]*target{}, ranges: map[rangeKey][][]byte{}, beats: map[uint64]beat{},
	}
	if slices.Contains(tenants, bundles.AllTenants) {
		a.serves = func(tenant string) bool { return true }
	} else {
		a.serves = func(tenant string) bool {
			_, found := slices.BinarySearch(tenants, tenant)
			return found
		}
	}
	return a
}

// has reports whether this audience gets a release with this digest.
func (a *audience) has(release uint64, digest string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.targets[release]
	return t != nil && t.content != nil && t.digest == digest
}

// forgetSigned drops what was signed where the key may be revoked by now.
func (h *Hub) forgetSigned(a *audience) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.ranges)
	clear(a.beats)
	for _, t := range a.targets {
		t.failed = nil
		if t.sealed.Signed == "" {
			continue
		}
		if _, err := bundles.OpenManifest(h.set, t.sealed.Signed, h.config.Now()); err != nil {
			t.sealed = bundles.Sealed{}
			clear(t.frames)
		}
	}
}

// keepRanges is how long a signed range is sent to others: a key that is retired
// is not believed on the wire for long.
const keepRanges = 30 * time.Second

// maxRangeBytes bounds the entries of one range, so that its signed form stays
// below trust.MaxSigned.
const maxRangeBytes = 2 << 20

// logFrames are the frames that lead from a position to the head. The hub's
// lock is held for reading.
func (h *Hub) logFrames(a *audience, key rangeKey) ([][]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rangesOf != h.head.Position || h.read.Sub(a.rangesAt) > keepRanges {
		clear(a.ranges)
		a.rangesOf, a.rangesAt = h.head.Position, h.read
	}
	if frames := a.ranges[key]; frames != nil {
		return frames, nil
	}
	frames := make([][]byte, 0, 1)
	left := h.live.after(key.from, a.serves, key.reset, h.read)
	for from := key.from; ; {
		r := wire.LogRange{From: from, To: h.head.Position, Tenants: a.tenants, Reset: key.reset, Entries: []wire.Entry{}}
		size := 0
		for len(left) > 0 && (size == 0 || size+len(left[0].Body) <= maxRangeBytes || left[0].Position == r.Entries[len(r.Entries)-1].Position) {
			r.Entries = append(r.Entries, left[0].Entry)
			size += len(left[0].Body) + 200
			left = left[1:]
		}
		if len(left) > 0 {
			r.More, r.To = true, r.Entries[len(r.Entries)-1].Position
		}
		frame, err := h.signed(wire.TypeLog, trust.KindLog, r)
		if err != nil {
			return nil, err
		}
		frames = append(frames, frame)
		if !r.More {
			break
		}
		from = r.To
	}
	if len(a.ranges) < maxRanges {
		a.ranges[key] = frames
	}
	return frames, nil
}

// maxRanges bounds how many ranges that lead to one head are kept.
const maxRanges = 64

// heartbeat is the frame of this read for a target; with a nonce it is the one
// PEP's alone. The hub's lock is held for reading.
func (h *Hub) heartbeat(a *audience, t *target, nonce string, withState bool) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := wire.Heartbeat{
		Time: h.read.UTC().Round(0), Node: h.config.Node, Position: h.head.Position, Keys: h.set.Version(), Tenants: a.tenants, Nonce: nonce,
	}
	number := uint64(0)
	if t != nil {
		number, b.Release, b.Digest = t.number, t.number, t.digest
	}
	if made, ok := a.beats[number]; nonce == "" && ok && made.read.Equal(h.read) && made.position == h.head.Position {
		return made.frame, nil
	}
	if withState {
		if !a.stateOf.Equal(h.read) {
			a.state, a.stateOf = h.live.digest(a.serves, b.Time), h.read
		}
		b.State = a.state
	}
	frame, err := h.signed(wire.TypeHeartbeat, trust.KindHeartbeat, b)
	if err == nil && nonce == "" {
		for number, old := range a.beats {
			if !old.read.Equal(h.read) {
				delete(a.beats, number)
			}
		}
		a.beats[number] = beat{h.read, h.head.Position, frame}
	}
	return frame, err
}

// signed is a frame of one signed body.
func (h *Hub) signed(typ wire.Type, kind trust.Kind, body any) ([]byte, error) {
	text, err := h.sign(kind, body)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", typ, err)
	}
	h.stats.signatures.Add(1)
	return encode(wire.Header{Type: typ}, []byte(text))
}

func encode(header wire.Header, body []byte) ([]byte, error) {
	f := wire.Frame{Header: header, Body: body}
	return f.Append(nil)
}

func decode[T any](r *pap.Record) (*T, error) {
	var body T
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Kind, r.Key, err)
	}
	return &body, nil
}

// cut is a target whose content and digest are known, or nil: then it is
// being built, unless that failed, and the audience is marked when it is done.
func (h *Hub) cut(a *audience, number uint64) (*target, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.targets[number]
	if t != nil && t.content != nil {
		return t, nil
	}
	h.request(t, job{audience: a, release: number})
	if t != nil {
		return nil, t.failed
	}
	return nil, nil
}

// sealedTarget is cut for a target that is sealed too.
func (h *Hub) sealedTarget(a *audience, t *target) (bundles.Sealed, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.sealed.Signed == "" {
		h.request(t, job{audience: a, release: t.number})
	}
	return t.sealed, t.failed
}

// releaseFrame is a target as a delta on base (a digest; "" for a snapshot) of
// the release basedOn, or nil: then it is being packed.
func (h *Hub) releaseFrame(a *audience, t *target, base string, basedOn uint64) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.sealed.Signed != "" {
		if frame := t.frames[base]; frame != nil {
			return frame
		}
		if len(t.frames) >= maxBases { // such digests are made up
			base, basedOn = "", 0
			if frame := t.frames[base]; frame != nil {
				return frame
			}
		}
	}
	h.request(t, job{audience: a, release: t.number, pack: true, base: base, basedOn: basedOn})
	return nil
}

// maxBases bounds the contents that one release is packed for.
const maxBases = 64

// retryBuild is how long a failed build waits before it is tried again.
const retryBuild = time.Second

// request hands a job to the builders unless it failed just now. The
// audience's lock is held.
func (h *Hub) request(t *target, j job) {
	if t != nil && t.failed != nil && h.config.Now().Sub(t.failedAt) < retryBuild {
		return
	}
	h.builds.add(j)
}

// keysFrameWith is the key set with the target's manifest beside it.
func (h *Hub) keysFrameWith(a *audience, t *target) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.keysFrame == nil || t.keysOf != h.set.Version() {
		frame, err := encode(wire.Header{Type: wire.TypeKeys, Manifest: t.sealed.Signed}, []byte(h.set.Signed()))
		if err != nil {
			return nil, err
		}
		t.keysFrame, t.keysOf = frame, h.set.Version()
	}
	return t.keysFrame, nil
}
