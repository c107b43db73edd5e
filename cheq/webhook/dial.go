package webhook

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// errInternal refuses an address inside somebody's network.
var errInternal = errors.New("the address is internal, which this hook may not call")

// client calls one hook. It uses no proxy, since only what it dials itself can
// it look at, and keeps no connection.
func client(allowInternal bool) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if !allowInternal {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return Public(address) }
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second,
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Public refuses an address, as it is about to be dialled, that does not lead
// to the public internet.
func Public(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return errInternal
	}
	addr := at.Addr().Unmap()
	if addr.Zone() != "" || !addr.IsGlobalUnicast() || addr.IsPrivate() || addr.Is6() && !outer6.Contains(addr) {
		return errInternal
	}
	for _, reserved := range reservedPrefixes {
		if reserved.Contains(addr) {
			return errInternal
		}
	}
	return nil
}

// outer6 is all of IPv6 that is assigned to the public internet; it leaves out
// addresses that translate to IPv4 (64:ff9b::/96).
var outer6 = netip.MustParsePrefix("2000::/3")

// reservedPrefixes are of the IANA special-purpose registries, beside what
// netip knows, and what clouds keep for their hosts' own services.
var reservedPrefixes = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),    // carrier NAT; Alibaba Cloud's metadata
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's host services
	netip.MustParsePrefix("192.0.0.0/24"),     // protocols; Oracle Cloud's metadata
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"), // protocols; Teredo holds an IPv4 address
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4 holds one too
	netip.MustParsePrefix("3fff::/20"),
}
