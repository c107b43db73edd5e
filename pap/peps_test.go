package pap

import "testing"

func TestNoTwoPEPsShareAKey(t *testing.T) {
	seen := map[string][3]string{}
	for _, p := range [][3]string{
		{"acme", "service:a", "b/c"}, {"acme", "service:a/b", "c"}, {"acme", "service:a%2Fb", "c"}, {"", "service:a", "b/c"},
	} {
		key := PEPKey(p[0], p[1], p[2])
		if other, taken := seen[key]; taken {
			t.Errorf("%q is the key of %q and %q", key, p, other)
		}
		seen[key] = p
	}
}
