package policies_test

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// TestWhatIsNotDeniedOpensOnly443ToNamedSources reads random ingress with the
// standard library instead of the policies' own reading of it.
func TestWhatIsNotDeniedOpensOnly443ToNamedSources(t *testing.T) {
	decide := decider(t)
	request := fullRequests(t)[0]
	request.Resource.Properties = request.Resource.Properties.Without("public_ip")
	ports := []any{443, 443, "443", "443/443", 22, 3389, 80, 8080, "440-450", "1/65535", -1, "-1/-1", "all", 0, 443.5, "0443", "443 ", nil, []any{443}}
	protocols := []any{"tcp", "tcp", "udp", "icmp", "all", "ALL", "TCP", -1, "-1", 6, nil, ""}
	sources := []any{
		"203.0.113.0/24", "203.0.113.7/32", "10.0.0.0/8", "10.8.255.0/28", "192.168.1.0/24", "2400:3200::/32", "fd00::/8", "203.0.0.0/16",
		"0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "::ffff:0:0/96", "::ffff:0.0.0.0/96", "64:ff9b::/96", "2002::/16", "203.0.0.0/15",
		"10.0.0.0/7", "172.0.0.0/8", "203.0.113.9/24", "any", "*", "", " 0.0.0.0/0", "0/0", "203.0.113.0", nil, 7, []any{},
	}
	allowed, reviewed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		entry := rapid.Custom(func(t *rapid.T) map[string]any {
			e := map[string]any{"port": rapid.SampledFrom(ports).Draw(t, "port")}
			if rapid.Bool().Draw(t, "sourced") || rapid.Bool().Draw(t, "sourced again") {
				e["cidrs"] = rapid.SliceOfN(rapid.SampledFrom(sources), 0, 3).Draw(t, "cidrs")
			}
			if rapid.Bool().Draw(t, "with protocol") {
				e["protocol"] = rapid.SampledFrom(protocols).Draw(t, "protocol")
			}
			return e
		})
		entries := rapid.SliceOfN(entry, 0, 3).Draw(t, "ingress")
		req := request
		req.Resource.Properties = req.Resource.Properties.With("ingress", authz.MustValue(entries))
		d := decide(req)
		public := slices.ContainsFunc(entries, exposes)
		switch {
		case d.Effect == authz.Deny:
			return
		case d.Effect == authz.Allow && public:
			t.Fatalf("public ingress without a review: %v", entries)
		case d.Effect == authz.Allow:
			allowed++
		default:
			reviewed++
		}
		for _, e := range entries {
			if exposes(e) && !opensOnly443(e) {
				t.Fatalf("not denied: %v", e)
			}
			for _, s := range e["cidrs"].([]any) {
				prefix := netip.MustParsePrefix(s.(string))
				if exposes(e) && prefix.Addr().Is4() && !prefix.Addr().IsPrivate() && prefix.Bits() < 16 {
					t.Fatalf("too wide: %v", e)
				}
			}
		}
	})
	if allowed == 0 || reviewed == 0 {
		t.Errorf("the inputs say little: %d allowed, %d under review", allowed, reviewed)
	}
}

// exposes reports whether somebody outside private networks could use the entry.
func exposes(entry map[string]any) bool {
	sources, _ := entry["cidrs"].([]any)
	return len(sources) == 0 || slices.ContainsFunc(sources, func(s any) bool {
		text, _ := s.(string)
		prefix, err := netip.ParsePrefix(text)
		return err != nil || !slices.ContainsFunc(private, func(p netip.Prefix) bool {
			return p.Contains(prefix.Addr()) && p.Bits() <= prefix.Bits()
		})
	})
}

var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fc00::/7"),
}

func opensOnly443(entry map[string]any) bool {
	protocol, given := entry["protocol"]
	return (!given || protocol == "tcp") && slices.Contains([]any{443, "443", "443/443", "443-443"}, entry["port"])
}
