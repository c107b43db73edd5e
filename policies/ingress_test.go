package policies_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

var (
	somePorts = []any{
		443, "443", "443/443", "443-443", 22, 3389, 80, 442, 444, 8080, "440-450", "443/444", "1/65535", -1, "-1/-1", "all", 0, 443.5, "0443", "443 ", nil, []any{443},
	}
	someProtocols = []any{absent, "tcp", "udp", "icmp", "all", "ALL", "TCP", -1, "-1", 6, nil, ""}
	someSources   = []any{
		"203.0.113.0/24", "203.0.113.7/32", "10.0.0.0/8", "10.8.255.0/28", "172.16.0.0/12", "192.168.1.0/24", "2400:3200::/32", "fd00::/8", "203.0.0.0/16",
		"0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "::ffff:0:0/96", "::ffff:0.0.0.0/96", "64:ff9b::/96", "2002::/16", "203.0.0.0/15",
		"10.0.0.0/7", "172.0.0.0/8", "203.0.113.9/24", "any", "*", "", " 0.0.0.0/0", "0/0", "203.0.113.0", nil, 7, []any{},
	}
)

const absent = "\x00absent"

// someEntries are every port with every protocol, every pair of sources, and
// entries without sources.
func someEntries() []map[string]any {
	var entries []map[string]any
	add := func(port, protocol any, sources ...any) {
		e := map[string]any{"port": port, "cidrs": sources}
		if protocol != absent {
			e["protocol"] = protocol
		}
		entries = append(entries, e)
	}
	for _, port := range somePorts {
		for _, protocol := range someProtocols {
			add(port, protocol, "203.0.113.0/24")
			add(port, protocol, "10.8.0.0/16")
		}
		entries = append(entries, map[string]any{"port": port}, map[string]any{"port": port, "cidrs": []any{}})
	}
	for i, one := range someSources {
		add(8080, absent, one)
		for _, other := range someSources[i:] {
			add(443, absent, one, other)
		}
	}
	return entries
}

// The oracle reads ingress with the standard library, not as the policies do.
func TestWhatIsNotDeniedOpensOnly443ToNamedSources(t *testing.T) {
	decide := decider(t)
	request := fullRequests(t)[0]
	request.Resource.Properties = request.Resource.Properties.Without("public_ip")
	seen := map[authz.Effect]int{}
	for _, e := range someEntries() {
		req := request
		req.Resource.Properties = req.Resource.Properties.With("ingress", authz.MustValue([]any{e}))
		effect := decide(req).Effect
		seen[effect]++
		if want := judge(e); effect != want {
			t.Errorf("%v: want %v, got %v", e, want, effect)
		}
	}
	if len(seen) != 3 {
		t.Errorf("the entries say little: %v", seen)
	}
}

// judge says what an entry deserves.
func judge(entry map[string]any) authz.Effect {
	protocol, given := entry["protocol"]
	sources, _ := entry["cidrs"].([]any)
	public := false
	for _, s := range sources {
		text, _ := s.(string)
		prefix, err := netip.ParsePrefix(text)
		switch {
		case err != nil, prefix.Masked().String() != text, prefix.Addr().Is4In6():
			return authz.Deny
		case !slices.ContainsFunc(privateRanges, inside(prefix)):
			public = true
			if slices.ContainsFunc(tunnels, inside(prefix)) || prefix.Bits() < map[bool]int{true: 16, false: 32}[prefix.Addr().Is4()] {
				return authz.Deny
			}
		}
	}
	https := slices.Contains([]any{443, "443", "443/443", "443-443"}, entryPort(entry))
	switch {
	case len(sources) == 0, given && protocol != "tcp" && protocol != "udp" && protocol != "icmp":
		return authz.Deny
	case public && https && protocol != "udp" && protocol != "icmp":
		return authz.Review
	case public:
		return authz.Deny
	case https, slices.Contains([]any{80, 442, 444, 8080, "440-450", "443/444"}, entryPort(entry)):
		return authz.Allow
	case protocol == "icmp" && slices.Contains([]any{22, 3389, "1/65535", -1, "-1/-1", "all"}, entryPort(entry)):
		return authz.Allow // ICMP has no ports to open
	default:
		return authz.Deny // 22 or 3389 from elsewhere than the bastion, or no port at all
	}
}

// entryPort is the port where it can be compared.
func entryPort(entry map[string]any) any {
	if _, list := entry["port"].([]any); list {
		return nil
	}
	return entry["port"]
}

func inside(prefix netip.Prefix) func(netip.Prefix) bool {
	return func(p netip.Prefix) bool { return p.Bits() <= prefix.Bits() && p.Contains(prefix.Addr()) }
}

var (
	privateRanges = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
	tunnels       = prefixes("64:ff9b::/96", "2001::/32", "2002::/16", "::/96")
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}
