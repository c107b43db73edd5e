package access

import (
	"context"
	"crypto/x509"
	"net/http"
)

// Authenticator is the part of a [Guard] that [OfRequest] asks.
type Authenticator interface {
	Authenticate(ctx context.Context, header string) (Caller, error)
	AuthenticateCertificate(ctx context.Context, cert *x509.Certificate) (Caller, error)
}

// OfRequest says who sent a request: by its Authorization header, or by the
// client certificate that TLS has verified where it has none. Errors are the
// guard's.
func OfRequest(g Authenticator, r *http.Request) (Caller, error) {
	header := r.Header.Get("Authorization")
	if header == "" && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return g.AuthenticateCertificate(r.Context(), r.TLS.VerifiedChains[0][0])
	}
	return g.Authenticate(r.Context(), header)
}
