package stream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// model is a PEP as the protocol describes it: it verifies everything and
// keeps what it was sent.
type model struct {
	root    trust.Root
	tenants []string
	hello   wire.Hello
	now     func() time.Time

	set     *trust.Set
	held    wire.Held
	sealed  bundles.Sealed
	content *bundles.Content
	entries map[string]wire.Entry
	parts   []wire.Entry // of a range of several parts
	partsTo uint64
	reset   bool

	beat     wire.Heartbeat
	greeted  bool
	compared int
	refuse   func(*bundles.Bundle) error
	kinds    []wire.Type
	bases    []string
	bye      *wire.Frame
}

func (w *world) model(id string, labels map[string]string, tenants ...string) *model {
	return &model{root: w.root, tenants: tenants, now: w.Now, entries: map[string]wire.Entry{}, hello: wire.Hello{ID: id, Labels: labels, Tenants: tenants}}
}

// greet is the hello of a new connection.
func (m *model) greet() []byte {
	h := m.hello
	h.Nonce, h.Held = fmt.Sprintf("nonce-%p-%d-%d", m, len(m.kinds), m.held.Position), m.held
	m.hello.Nonce = h.Nonce
	m.greeted, m.parts, m.bye = false, nil, nil
	return mustFrame(wire.Header{Type: wire.TypeHello, Hello: &h}, nil)
}

func mustFrame(header wire.Header, body []byte) []byte {
	data, err := encode(header, body)
	if err != nil {
		panic(err)
	}
	return data
}

// take applies one frame and returns the answer, if there is one.
func (m *model) take(data []byte) (answer []byte, err error) {
	f, err := wire.Decode(data, wire.MaxNodeFrame)
	if err != nil {
		return nil, err
	}
	if !f.Type.FromNode() {
		return nil, fmt.Errorf("a node sends %s", f.Type)
	}
	m.kinds = append(m.kinds, f.Type)
	if m.set == nil && f.Type != wire.TypeKeys && f.Type != wire.TypeBye {
		return nil, fmt.Errorf("%s before keys", f.Type)
	}
	switch f.Type {
	case wire.TypeKeys:
		return m.takeKeys(&f)
	case wire.TypeLog:
		return m.takeLog(&f)
	case wire.TypeHeartbeat:
		return nil, m.takeBeat(&f)
	case wire.TypeRelease:
		return m.takeRelease(&f)
	default:
		m.bye = &f
		return nil, nil
	}
}

func (m *model) ack() []byte {
	held := m.held
	return mustFrame(wire.Header{Type: wire.TypeAck, Held: &held}, nil)
}

func (m *model) takeKeys(f *wire.Frame) ([]byte, error) {
	set, err := m.root.Open(string(f.Body), m.now())
	if err != nil {
		return nil, err
	}
	if m.set != nil && set.Version() < m.set.Version() {
		return nil, fmt.Errorf("key set %d after %d", set.Version(), m.set.Version())
	}
	m.set, m.held.Keys = set, set.Version()
	if f.Manifest != "" {
		sealed, err := bundles.OpenManifest(set, f.Manifest, m.now())
		if err != nil || sealed.Release != m.held.Release || sealed.Digest.String() != m.held.Digest {
			return nil, fmt.Errorf("manifest beside keys: %w", cmp.Or(err, errors.New("of another release")))
		}
		m.sealed, m.held.KeyID = sealed, sealed.KeyID
	}
	return m.ack(), nil
}

func (m *model) open(kind trust.Kind, f *wire.Frame, body any) error {
	signed, err := m.set.Verify(kind, string(f.Body), m.now())
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(signed.Body))
	decoder.DisallowUnknownFields()
	return decoder.Decode(body)
}

func (m *model) takeLog(f *wire.Frame) ([]byte, error) {
	var r wire.LogRange
	if err := m.open(trust.KindLog, f, &r); err != nil {
		return nil, err
	}
	from := m.held.Position
	if m.parts != nil {
		from = m.partsTo
	}
	first := m.parts == nil
	switch {
	case !slices.Equal(r.Tenants, m.tenants):
		return nil, fmt.Errorf("range for %v", r.Tenants)
	case r.From != from && !(first && r.Reset && r.From == 0):
		return nil, fmt.Errorf("range (%d, %d] at %d", r.From, r.To, from)
	case r.To < r.From || r.More && len(r.Entries) == 0:
		return nil, fmt.Errorf("range (%d, %d] with %d entries", r.From, r.To, len(r.Entries))
	}
	if first {
		m.parts, m.reset = []wire.Entry{}, r.Reset
	}
	m.parts, m.partsTo = append(m.parts, r.Entries...), r.To
	if r.More {
		return nil, nil
	}
	if m.reset {
		clear(m.entries)
	}
	last := uint64(0)
	for _, e := range m.parts {
		if e.Position < last || e.Position > r.To || !m.reset && e.Position <= m.held.Position {
			return nil, fmt.Errorf("entry at %d in (%d, %d]", e.Position, r.From, r.To)
		}
		last = e.Position
		if !slices.Contains(m.tenants, e.Tenant) && m.tenants[0] != "*" {
			return nil, fmt.Errorf("entry of tenant %s", e.Tenant)
		}
		m.entries[fmt.Sprintf("%s/%s/%s", e.Kind, e.Tenant, e.Key)] = e
	}
	m.parts, m.held.Position = nil, r.To
	return m.ack(), nil
}

func (m *model) takeBeat(f *wire.Frame) error {
	var b wire.Heartbeat
	if err := m.open(trust.KindHeartbeat, f, &b); err != nil {
		return err
	}
	switch {
	case !slices.Equal(b.Tenants, m.tenants):
		return fmt.Errorf("heartbeat for %v", b.Tenants)
	case !m.greeted && b.Nonce != m.hello.Nonce:
		return fmt.Errorf("the first heartbeat signs the nonce %q, not %q", b.Nonce, m.hello.Nonce)
	case m.greeted && b.Nonce != "":
		return fmt.Errorf("a nonce once more")
	case b.Time.Before(m.beat.Time) && b.Node == m.beat.Node:
		return fmt.Errorf("heartbeats run backwards")
	}
	m.greeted, m.beat = true, b
	if b.State != "" && b.Position == m.held.Position {
		state, err := m.state(b.Time)
		if err != nil {
			return err
		}
		if state != b.State {
			return fmt.Errorf("the state at %d differs", b.Position)
		}
		m.compared++
	}
	return nil
}

func (m *model) state(at time.Time) (string, error) {
	return wire.StateDigest(func(yield func(*wire.Entry) bool) {
		for _, e := range m.entries {
			if !yield(&e) {
				return
			}
		}
	}, at)
}

func (m *model) takeRelease(f *wire.Frame) ([]byte, error) {
	var base *bundles.Content
	if f.Base != "" {
		base = m.content
	}
	b, err := bundles.Read(bytes.NewReader(f.Body), m.set, m.now(), base)
	if err == nil && (b.Release != f.Release || !slices.Equal(b.Tenants, m.tenants)) {
		err = fmt.Errorf("release %d for %v in a frame of %d", b.Release, b.Tenants, f.Release)
	}
	var active *bundles.Sealed
	if m.held.Release != 0 {
		active = &m.sealed
	}
	if err == nil {
		err = bundles.CheckNext(active, &b.Sealed)
	}
	if err != nil {
		return nil, err
	}
	m.bases = append(m.bases, f.Base)
	if m.refuse != nil {
		if err := m.refuse(b); err != nil {
			return mustFrame(wire.Header{Type: wire.TypeReject, Release: f.Release, Reason: err.Error()}, nil), nil
		}
	}
	m.sealed, m.content = b.Sealed, b.Content
	m.held.Release, m.held.Digest, m.held.KeyID = b.Release, b.Digest.String(), b.KeyID
	return m.ack(), nil
}

// live is what the PEP would decide by at the world's time.
func (m *model) live(t fataler) map[string]string {
	t.Helper()
	all := map[string]string{}
	for key, e := range m.entries {
		until, err := e.CountsUntil()
		if err != nil {
			t.Fatalf("%v", err)
		}
		if !until.After(m.now()) {
			continue
		}
		if e.Kind == wire.EntryRoles {
			var r wire.Roles
			if err := json.Unmarshal(e.Body, &r); err != nil {
				t.Fatalf("%v", err)
			}
			all[key] = fmt.Sprint(r.Roles)
		} else {
			all[key] = until.String()
		}
	}
	return all
}

// mustAgree fails unless the PEP holds what the world says.
func (w *world) mustAgree(t fataler, m *model) {
	t.Helper()
	if got, want := m.live(t), w.entries(m.tenants); !maps.Equal(got, want) {
		t.Fatalf("PEP %s at %d holds %v, want %v", m.hello.ID, m.held.Position, got, want)
	}
	head := w.head()
	if m.held.Position != head.Position {
		t.Fatalf("PEP %s is at %d, want %d", m.hello.ID, m.held.Position, head.Position)
	}
}
