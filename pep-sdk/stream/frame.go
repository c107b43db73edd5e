package stream

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Subprotocol is the WebSocket subprotocol that both ends must name.
const Subprotocol = "xiezhi.v1"

// Times of the protocol.
const (
	HeartbeatEvery = 5 * time.Second
	// SilentAfter is how long a PEP waits for any frame before it takes the
	// connection for dead.
	SilentAfter = 3 * HeartbeatEvery
	// WriteWithin is how long a node tries to hand one frame to a PEP before
	// it drops the connection.
	WriteWithin = 10 * time.Second
)

// Bounds of frames in bytes. A PEP's frames are small; a node's hold releases.
const (
	MaxHeader     = 64 << 10
	MaxPEPFrame   = 64 << 10
	MaxNodeFrame  = 600 << 20
	maxReasonText = 4 << 10
)

// Type says what a frame is.
type Type string

const (
	// From the PEP.
	TypeHello  Type = "hello"  // Hello; first, and once
	TypeAck    Type = "ack"    // what the PEP now holds and enforces
	TypeReject Type = "reject" // what it was sent and does not take, with the reason
	TypeResync Type = "resync" // asks for the log from 0, or for a snapshot

	// From the node.
	TypeKeys      Type = "keys"      // body: the signed key set; Manifest: the active one signed anew, if its key was revoked
	TypeLog       Type = "log"       // body: a signed LogRange
	TypeHeartbeat Type = "heartbeat" // body: a signed Heartbeat
	TypeRelease   Type = "release"   // body: a bundle; Base: the digest it is a delta on
	TypeBye       Type = "bye"       // the node closes: Reason, and RetryAfter
)

// Frame is one message: a JSON header and a body of bytes.
type Frame struct {
	Header
	Body []byte `json:"-"`
}

// Header is the JSON part of a frame. Which members it has depends on Type;
// an unknown member is an error.
type Header struct {
	Type  Type   `json:"type"`
	Hello *Hello `json:"hello,omitempty"`
	Held  *Held  `json:"held,omitempty"` // of ack
	// Of release: its number, and the digest of the content that the body is a
	// delta on, empty for a snapshot. Of reject: what was refused.
	Release uint64 `json:"release,omitempty"`
	Base    string `json:"base,omitempty"`
	// Position is what a refused log range led to.
	Position uint64 `json:"position,omitempty"`
	Manifest string `json:"manifest,omitempty"`
	// Log and Snapshot are what a resync asks for.
	Log      bool   `json:"log,omitempty"`
	Snapshot bool   `json:"snapshot,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// RetryAfter is how long a PEP waits at least after a bye.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
}

// Hello is what a PEP says of itself.
type Hello struct {
	ID      string            `json:"id"` // unique within its credential's subject
	Labels  map[string]string `json:"labels,omitempty"`
	Tenants []string          `json:"tenants"`           // an audience: sorted, or "*"
	Nonce   string            `json:"nonce"`             // new in each process and each connection
	Version string            `json:"version,omitempty"` // of the SDK
	Held
}

// Held is what a PEP holds and enforces.
type Held struct {
	Keys     uint64 `json:"keys,omitempty"`    // version of its key set
	Release  uint64 `json:"release,omitempty"` // of its active release
	Digest   string `json:"digest,omitempty"`  // of that release's content
	KeyID    string `json:"kid,omitempty"`     // that signed its manifest
	Position uint64 `json:"position,omitempty"`
	Stale    bool   `json:"stale,omitempty"`
}

// LogRange is the part (From, To] of the log as one audience gets it: of every
// key whose newest entry lies in the range, that entry. No entry means
// "nothing for you".
type LogRange struct {
	From    uint64   `json:"from"`
	To      uint64   `json:"to"`
	Tenants []string `json:"tenants"`
	// Reset begins at From 0: everything held before is dropped. More says
	// that the next range belongs to it; they take effect together.
	Reset   bool    `json:"reset,omitempty"`
	More    bool    `json:"more,omitempty"`
	Entries []Entry `json:"entries,omitempty"`
}

// EntryKind says what an entry is.
type EntryKind string

const (
	EntryRoles       EntryKind = "roles"       // body: Roles
	EntryGrant       EntryKind = "grant"       // body: authz.Grant, without the request that people read
	EntryRestriction EntryKind = "restriction" // body: authz.Restriction
)

// Entry is one object, whole, as of one position.
type Entry struct {
	Position uint64          `json:"position"`
	Kind     EntryKind       `json:"kind"`
	Tenant   string          `json:"tenant"`
	Key      string          `json:"key"` // unique within Kind and Tenant
	Body     json.RawMessage `json:"body"`
}

// Roles are the roles of one subject, Entry.Key ("user:li.wei"), in one tenant.
// None means that the subject lost them all.
type Roles struct {
	Roles []string `json:"roles"`
}

// Heartbeat is a node's word for what was newest at Time.
type Heartbeat struct {
	// Time is when the node began to read what Release and Position say.
	Time time.Time `json:"time"`
	Node string    `json:"node"`
	// Release and Digest are what this PEP should hold, which in a rollout is
	// not always the newest.
	Release  uint64   `json:"release"`
	Digest   string   `json:"digest"`
	Position uint64   `json:"position"`
	Keys     uint64   `json:"keys"` // version of the key set
	Tenants  []string `json:"tenants"`
	Nonce    string   `json:"nonce,omitempty"` // of the hello, in the first one
	// State is StateDigest over what the PEP should hold as of Position and
	// Time, in some heartbeats: the timed comparison.
	State string `json:"state,omitempty"`
}

// ErrFrame wraps every error about a frame's form.
var ErrFrame = errors.New("malformed frame")

// Append appends the frame as it stands on the wire: the length of the header
// (4 bytes, big endian), the header, the body.
func (f *Frame) Append(buf []byte) ([]byte, error) {
	header, err := json.Marshal(&f.Header)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if len(header) > MaxHeader {
		return nil, fmt.Errorf("%w: header of %d bytes, at most %d", ErrFrame, len(header), MaxHeader)
	}
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(header)))
	return append(append(buf, header...), f.Body...), nil
}
