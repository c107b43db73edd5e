package stream

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func goodFrames() []Frame {
	held := Held{Keys: 2, Release: 7, Digest: someDigest, KeyID: "kid", Position: 9, Stale: true}
	return []Frame{
		{Header: Header{Type: TypeHello, Hello: &Hello{
			ID: "shop-1", Labels: map[string]string{"zone": "a", "空": ""}, Tenants: []string{"acme", "globex"},
			Nonce: "0123456789abcdef", Version: "v1", Held: held,
		}}},
		{Header: Header{Type: TypeHello, Hello: &Hello{ID: "x", Tenants: []string{"*"}, Nonce: "0123456789abcdef"}}},
		{Header: Header{Type: TypeAck, Held: &held}},
		{Header: Header{Type: TypeReject, Release: 7, Reason: "does not compile"}},
		{Header: Header{Type: TypeReject, Position: 7, Reason: "a gap"}},
		{Header: Header{Type: TypeResync, Log: true}},
		{Header: Header{Type: TypeResync, Snapshot: true, Reason: "the state differs"}},
		{Header: Header{Type: TypeKeys, Manifest: "m"}, Body: []byte("set")},
		{Header: Header{Type: TypeLog}, Body: []byte("range")},
		{Header: Header{Type: TypeHeartbeat}, Body: []byte("beat")},
		{Header: Header{Type: TypeRelease, Release: 8, Base: someDigest}, Body: []byte("delta")},
		{Header: Header{Type: TypeBye, Reason: "stopping", RetryAfter: time.Second}},
	}
}

func TestWhatIsAppendedDecodesToTheSame(t *testing.T) {
	for _, f := range goodFrames() {
		data, err := f.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(data, len(data))
		if err != nil {
			t.Fatalf("%s: %v", f.Type, err)
		}
		if !reflect.DeepEqual(got.Header, f.Header) || !bytes.Equal(got.Body, f.Body) {
			t.Errorf("%s: got %+v, want %+v", f.Type, got, f)
		}
		if f.Type.FromPEP() == f.Type.FromNode() {
			t.Errorf("%s is sent by both ends or by none", f.Type)
		}
		if _, err := Decode(data, len(data)-1); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: larger than the bound: %v", f.Type, err)
		}
	}
}

// raw is a frame with this header text.
func raw(header, body string) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(header))), header...), body...)
}

func TestMalformedFramesAreRefused(t *testing.T) {
	hello := func(change func(map[string]any)) []byte {
		h := map[string]any{"id": "x", "tenants": []string{"acme"}, "nonce": "0123456789abcdef"}
		change(h)
		text, err := json.Marshal(map[string]any{"type": "hello", "hello": h})
		if err != nil {
			t.Fatal(err)
		}
		return raw(string(text), "")
	}
	if _, err := Decode(hello(func(map[string]any) {}), 1000); err != nil {
		t.Fatal(err)
	}
	many := make([]string, MaxTenants+1)
	for i := range many {
		many[i] = "t" + string(rune('a'+i%26)) + strings.Repeat("a", i/26)
	}
	slices.Sort(many)
	for name, data := range map[string][]byte{
		"nothing":                   {},
		"short length":              {0, 0, 1},
		"short header":              {0, 0, 0, 9, '{', '}'},
		"huge header":               append([]byte{0, 2, 0, 0}, make([]byte, 2<<16)...),
		"no JSON":                   raw("hello", ""),
		"a list":                    raw("[]", ""),
		"two values":                raw(`{"type":"resync","log":true}{}`, ""),
		"no type":                   raw(`{}`, ""),
		"unknown type":              raw(`{"type":"shell"}`, ""),
		"type of another kind":      raw(`{"type":1}`, ""),
		"unknown member":            raw(`{"type":"resync","log":true,"x":1}`, ""),
		"member in capitals":        raw(`{"type":"resync","Log":true}`, ""),
		"member twice":              raw(`{"type":"resync","log":false,"log":true}`, ""),
		"member that is null":       raw(`{"type":"resync","log":true,"held":null}`, ""),
		"another type's member":     raw(`{"type":"ack","held":{},"log":true}`, ""),
		"another type's body":       raw(`{"type":"ack","held":{}}`, "x"),
		"ack of nothing":            raw(`{"type":"ack"}`, ""),
		"ack with unknown member":   raw(`{"type":"ack","held":{"id":"x"}}`, ""),
		"ack below zero":            raw(`{"type":"ack","held":{"position":-1}}`, ""),
		"release without digest":    raw(`{"type":"ack","held":{"release":1}}`, ""),
		"digest in capitals":        raw(`{"type":"ack","held":{"release":1,"digest":"`+strings.Replace(someDigest, "abcdef", "ABCDEF", 1)+`"}}`, ""),
		"reject without reason":     raw(`{"type":"reject","release":1}`, ""),
		"reason too long":           raw(`{"type":"reject","reason":"`+strings.Repeat("x", maxReasonText+1)+`"}`, ""),
		"resync of nothing":         raw(`{"type":"resync"}`, ""),
		"keys without body":         raw(`{"type":"keys"}`, ""),
		"release without body":      raw(`{"type":"release","release":1}`, ""),
		"release 0":                 raw(`{"type":"release"}`, "x"),
		"base that is no digest":    raw(`{"type":"release","release":1,"base":"x"}`, "x"),
		"bye that waits for ever":   raw(`{"type":"bye","retry_after":99999999999999}`, ""),
		"bye that waits backwards":  raw(`{"type":"bye","retry_after":-1}`, ""),
		"hello without hello":       raw(`{"type":"hello"}`, ""),
		"hello without id":          hello(func(h map[string]any) { h["id"] = "" }),
		"id with a line break":      hello(func(h map[string]any) { h["id"] = "a\nb" }),
		"id too long":               hello(func(h map[string]any) { h["id"] = strings.Repeat("x", MaxID+1) }),
		"short nonce":               hello(func(h map[string]any) { h["nonce"] = "x" }),
		"no tenants":                hello(func(h map[string]any) { h["tenants"] = []string{} }),
		"tenants unsorted":          hello(func(h map[string]any) { h["tenants"] = []string{"b", "a"} }),
		"tenant twice":              hello(func(h map[string]any) { h["tenants"] = []string{"a", "a"} }),
		"all tenants and one":       hello(func(h map[string]any) { h["tenants"] = []string{"*", "a"} }),
		"tenant with a slash":       hello(func(h map[string]any) { h["tenants"] = []string{"a/b"} }),
		"too many tenants":          hello(func(h map[string]any) { h["tenants"] = many }),
		"label value of other type": hello(func(h map[string]any) { h["labels"] = map[string]any{"a": 1} }),
		"label with a line break":   hello(func(h map[string]any) { h["labels"] = map[string]string{"a": "b\nc"} }),
		"label without a name":      hello(func(h map[string]any) { h["labels"] = map[string]string{"": "b"} }),
		"version too long":          hello(func(h map[string]any) { h["version"] = strings.Repeat("x", MaxVersion+1) }),
		"held inside hello":         hello(func(h map[string]any) { h["held"] = map[string]any{} }),
	} {
		f, err := Decode(data, MaxPEPFrame*4)
		if !errors.Is(err, ErrFrame) {
			t.Errorf("%s: taken as %+v, error %v", name, f, err)
		}
	}
}

func TestPartsOfAPollAreReadOneByOne(t *testing.T) {
	answer := AppendPart(AppendPart(nil, []byte("one")), []byte("three"))
	r := bytes.NewReader(answer)
	for _, want := range []string{"one", "three"} {
		got, err := ReadPart(r, 5)
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if _, err := ReadPart(r, 5); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
	for cut := 1; cut < 7; cut++ {
		if _, err := ReadPart(bytes.NewReader(answer[:cut]), 5); !errors.Is(err, ErrFrame) {
			t.Errorf("cut off after %d bytes: %v", cut, err)
		}
	}
	if _, err := ReadPart(bytes.NewReader(answer), 2); !errors.Is(err, ErrFrame) {
		t.Errorf("over the bound: %v", err)
	}
}

func TestStateDigestSeesWhatCountsAtItsTime(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	entry := func(kind EntryKind, key string, position uint64, body string) *Entry {
		return &Entry{Position: position, Kind: kind, Tenant: "acme", Key: key, Body: json.RawMessage(body)}
	}
	roles := entry(EntryRoles, "user:a", 3, `{"roles":["admin"]}`)
	grant := entry(EntryGrant, "grt-1", 4, `{"validity":{"end":"2026-11-01T13:00:00Z"}}`)
	digest := func(at time.Time, entries ...*Entry) string {
		t.Helper()
		d, err := StateDigest(slices.Values(entries), at)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	both := digest(now, roles, grant)
	if digest(now, grant, roles) != both {
		t.Error("the order of entries matters")
	}
	for name, dead := range map[string]*Entry{
		"a revoked grant":           entry(EntryGrant, "grt-2", 9, `{"validity":{"end":"2026-11-01T13:00:00Z"},"ended":"2026-11-01T11:00:00Z"}`),
		"a restriction at its end":  entry(EntryRestriction, "rst-1", 9, `{"validity":{"end":"2026-11-01T12:00:00Z"}}`),
		"a subject without roles":   entry(EntryRoles, "user:b", 9, `{"roles":[]}`),
		"a subject with null roles": entry(EntryRoles, "user:b", 9, `{"roles":null}`),
	} {
		if digest(now, roles, grant, dead) != both {
			t.Errorf("%s is seen", name)
		}
	}
	moved := *grant
	moved.Position++
	other := *grant
	other.Tenant = "globex"
	for name, d := range map[string]string{
		"a missing entry":     digest(now, roles),
		"an older position":   digest(now, roles, &moved),
		"another tenant":      digest(now, roles, &other),
		"a later time":        digest(now.Add(time.Hour), roles, grant),
		"nothing held at all": digest(now),
	} {
		if d == both {
			t.Errorf("%s is not seen", name)
		}
	}
	if _, err := StateDigest(slices.Values([]*Entry{entry("spell", "x", 1, `{}`)}), now); !errors.Is(err, ErrFrame) {
		t.Errorf("unknown kind: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, frame := range goodFrames() {
		data, err := frame.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(raw(`{"type":"ack","held":null}`, ""))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := Decode(data, MaxPEPFrame)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatalf("error without ErrFrame: %v", err)
			}
			return
		}
		again, err := frame.Append(nil)
		if err != nil {
			t.Fatalf("taken, but cannot be written: %v", err)
		}
		back, err := Decode(again, len(again))
		if err != nil {
			t.Fatalf("taken and written, not taken again: %v", err)
		}
		if frame.Type == "" || !reflect.DeepEqual(normal(frame), normal(back)) {
			t.Fatalf("%+v became %+v", frame, back)
		}
	})
}

// normal forgets the difference between no labels and an empty object.
func normal(f Frame) Frame {
	if f.Hello != nil && len(f.Hello.Labels) == 0 {
		hello := *f.Hello
		hello.Labels = nil
		f.Hello = &hello
	}
	if len(f.Body) == 0 {
		f.Body = nil
	}
	return f
}
