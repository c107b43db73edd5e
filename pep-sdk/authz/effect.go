package authz

import "fmt"

// Effect is the outcome of a rule or of a whole decision (X2).
type Effect uint8

// The zero Effect denies, so that a forgotten field never opens.
const (
	Deny Effect = iota
	Review
	Allow
)

// String returns DENY, REVIEW or ALLOW.
func (e Effect) String() string {
	switch e {
	case Allow:
		return "ALLOW"
	case Review:
		return "REVIEW"
	default:
		return "DENY"
	}
}

// MarshalText writes the effect as it stands on the wire.
func (e Effect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads DENY, REVIEW or ALLOW, in capitals only.
func (e *Effect) UnmarshalText(text []byte) error {
	switch string(text) {
	case "DENY":
		*e = Deny
	case "REVIEW":
		*e = Review
	case "ALLOW":
		*e = Allow
	default:
		return fmt.Errorf("effect %q: want ALLOW, REVIEW or DENY", text)
	}
	return nil
}
