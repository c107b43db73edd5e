package authz

import (
	"fmt"
	"strconv"
	"strings"
)

// Revision names what an answer was based on: a release and a position in the
// log of everything that is not a release. It is also the consistency token
// that writes return and reads accept. Its text is "r42.g7".
type Revision struct {
	Release  uint64
	Position uint64
}

// String returns the revision as it stands on the wire.
func (r Revision) String() string { return string(r.append(make([]byte, 0, 24))) }

func (r Revision) append(buf []byte) []byte {
	buf = strconv.AppendUint(append(buf, 'r'), r.Release, 10)
	return strconv.AppendUint(append(buf, '.', 'g'), r.Position, 10)
}

// IsZero reports whether nothing has been published yet.
func (r Revision) IsZero() bool { return r == Revision{} }

// Includes reports whether a node at r has seen everything that other names.
func (r Revision) Includes(other Revision) bool {
	return r.Release >= other.Release && r.Position >= other.Position
}

// ParseRevision reads "r42.g7".
func ParseRevision(text string) (Revision, error) {
	release, position, ok := strings.Cut(text, ".")
	if !ok || !strings.HasPrefix(release, "r") || !strings.HasPrefix(position, "g") {
		return Revision{}, fmt.Errorf("revision %q: want r<release>.g<position>, such as r42.g7", text)
	}
	r, err := parseCounter(release[1:])
	if err != nil {
		return Revision{}, fmt.Errorf("revision %q: release: %w", text, err)
	}
	g, err := parseCounter(position[1:])
	if err != nil {
		return Revision{}, fmt.Errorf("revision %q: position: %w", text, err)
	}
	return Revision{Release: r, Position: g}, nil
}

// parseCounter accepts only the spelling that String writes.
func parseCounter(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	if strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("%q has leading zeros or a sign", text)
	}
	return n, nil
}

// MarshalText implements encoding.TextMarshaler.
func (r Revision) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Revision) UnmarshalText(text []byte) error {
	parsed, err := ParseRevision(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}
