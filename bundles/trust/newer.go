package trust

import (
	"crypto"
	"fmt"
	"time"
)

// With returns the ring under a newer key set, that another holder of the root
// key made: it signs with the private halves that are here as far as that set
// still lets them. The set is verified against the root.
func (r *Ring) With(signed string, now time.Time) (*Ring, error) {
	set, err := r.root.Open(signed, now)
	if err != nil {
		return nil, err
	}
	if set.Version() < r.set.Version() {
		return nil, fmt.Errorf("key set: version %d: version %d is here already", set.Version(), r.set.Version())
	}
	newer := &Ring{root: r.root, set: set, private: map[string]crypto.Signer{}}
	for id, signer := range r.private {
		if key, ok := set.Key(id); ok && key.RevokedAt.IsZero() {
			newer.private[id] = signer
		}
	}
	return newer, nil
}
