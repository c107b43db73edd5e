package stream

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// AllTenants as the only tenant of an audience means all of them
// (bundles.AllTenants).
const AllTenants = "*"

// Forever is when an entry without an end stops counting.
var Forever = time.Unix(1<<40, 0).UTC()

// CountsUntil is the time from which the entry is nothing to hold any more:
// its validity's end, [Forever] for roles, zero for what has ended and for a
// subject without roles.
func (e *Entry) CountsUntil() (time.Time, error) {
	var body struct {
		Roles    []string   `json:"roles"`
		Ended    *time.Time `json:"ended"`
		Validity struct {
			End time.Time `json:"end"`
		} `json:"validity"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return time.Time{}, fmt.Errorf("%w: entry %s %s/%s at %d: %w", ErrFrame, e.Kind, e.Tenant, e.Key, e.Position, err)
	}
	switch {
	case e.Kind == EntryRoles && len(body.Roles) > 0:
		return Forever, nil
	case e.Kind == EntryRoles || body.Ended != nil:
		return time.Time{}, nil
	case e.Kind == EntryGrant || e.Kind == EntryRestriction:
		return body.Validity.End, nil
	default:
		return time.Time{}, fault("entry of unknown kind %q", clip(string(e.Kind)))
	}
}

// Mark is what the timed comparison sees of an entry. The position stands for
// the body: what was written at one position never changes.
type Mark struct {
	Kind     EntryKind
	Tenant   string
	Key      string
	Position uint64
}

// Mark returns the entry's mark.
func (e *Entry) Mark() Mark { return Mark{e.Kind, e.Tenant, e.Key, e.Position} }

// Compare orders marks by kind, tenant, key and position.
func (m Mark) Compare(other Mark) int {
	return cmp.Or(
		strings.Compare(string(m.Kind), string(other.Kind)), strings.Compare(m.Tenant, other.Tenant),
		strings.Compare(m.Key, other.Key), cmp.Compare(m.Position, other.Position),
	)
}

// StateDigest is the digest of what counts at a time, for [Heartbeat.State]:
// of all entries held, those whose CountsUntil lies after it. Both ends
// compute it over what they hold as of the heartbeat's position, in any order.
func StateDigest(entries iter.Seq[*Entry], at time.Time) (string, error) {
	var marks []Mark
	for e := range entries {
		until, err := e.CountsUntil()
		if err != nil {
			return "", err
		}
		if until.After(at) {
			marks = append(marks, e.Mark())
		}
	}
	return DigestMarks(marks), nil
}

// DigestMarks is the digest over the marks of what counts, given in any order;
// they are sorted in place. It is for those who keep CountsUntil beside the
// entries.
func DigestMarks(marks []Mark) string {
	slices.SortFunc(marks, Mark.Compare)
	hash := sha256.New()
	var buf []byte
	for _, m := range marks {
		buf = buf[:0]
		for _, text := range []string{string(m.Kind), m.Tenant, m.Key} {
			buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(text))), text...)
		}
		buf = binary.BigEndian.AppendUint64(buf, m.Position)
		hash.Write(buf)
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}
