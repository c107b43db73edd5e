package access

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// CertificateScheme is the scheme of the URI by which a client certificate
// names a subject of the directory: xiezhi://<tenant or platform>/<type>/<id>.
const CertificateScheme = "xiezhi"

// certificateID begins the TokenID of a caller that a certificate named; no
// token's id holds a colon.
const certificateID = "certificate:"

// AuthenticateCertificate reads a client certificate that TLS has verified
// against the configured authorities. The subject that it names must be in the
// directory and enabled; the certificate does not bound its rights. The error
// wraps ErrUnauthenticated or ErrUnavailable.
func (g *Guard) AuthenticateCertificate(ctx context.Context, cert *x509.Certificate) (Caller, error) {
	tenant, typ, id, err := certificateSubject(cert)
	if err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	if err := g.refresh(ctx); err != nil {
		return Caller{}, err
	}
	name := pap.SubjectName(typ, id)
	if _, err := g.config.Directory.SubjectStanding(tenant, name); err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	return Caller{Type: typ, ID: id, Tenant: tenant, TokenID: certificateID + tenant + "/" + name, Rights: []string{"*"}}, nil
}

// certificateSubject reads the one URI of the scheme.
func certificateSubject(cert *x509.Certificate) (tenant, typ, id string, err error) {
	var found *url.URL
	for _, uri := range cert.URIs {
		if uri.Scheme == CertificateScheme {
			if found != nil {
				return "", "", "", fmt.Errorf("the client certificate names two subjects")
			}
			found = uri
		}
	}
	if found == nil {
		return "", "", "", fmt.Errorf("the client certificate has no subject alternative name %s://<tenant or platform>/<type>/<id>", CertificateScheme)
	}
	parts := strings.Split(found.EscapedPath(), "/")
	if len(parts) != 3 || found.User != nil || found.RawQuery != "" || found.Fragment != "" || found.Port() != "" {
		return "", "", "", fmt.Errorf("client certificate: want %s://<tenant or platform>/<type>/<id>", CertificateScheme)
	}
	if typ, err = url.PathUnescape(parts[1]); err == nil {
		id, err = url.PathUnescape(parts[2])
	}
	if err != nil || typ == "" || id == "" || found.Host == "" || strings.Contains(typ, ":") {
		return "", "", "", fmt.Errorf("client certificate: want %s://<tenant or platform>/<type>/<id>", CertificateScheme)
	}
	if tenant = found.Host; tenant == pap.Platform {
		tenant = ""
	}
	return tenant, typ, id, nil
}

// Standing says why a caller that was authenticated before would not be now,
// or nil. It asks this node's directory as it is, without reading the store.
func (g *Guard) Standing(c Caller) error {
	var err error
	if strings.HasPrefix(c.TokenID, certificateID) {
		_, err = g.config.Directory.SubjectStanding(c.Tenant, c.Name())
	} else {
		err = g.config.Directory.TokenStanding(c.TokenID, g.config.Now())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	return nil
}

// Ground is what verdicts rest on, to be compared: while it is the same, so
// are they, but for self policies that read the clock.
type Ground struct {
	directory uint64
	release   *pdp.Release
}

// Ground returns the present one.
func (g *Guard) Ground() Ground {
	ground := Ground{directory: g.config.Directory.Version()}
	if s := g.config.PDP.Active(); s != nil {
		ground.release = s.Release
	}
	return ground
}

// refresh brings the directory up to date where it is too old to answer from.
// While the store cannot be read, what was known last counts for GrantStale.
func (g *Guard) refresh(ctx context.Context) error {
	if g.config.Feed.Age() <= g.config.Fresh {
		return nil
	}
	err := g.config.Feed.Read(ctx)
	if err == nil || g.config.Feed.Age() < g.config.GrantStale {
		return nil
	}
	return fmt.Errorf("%w: credentials count for %s after it was read last: %w", ErrUnavailable, g.config.GrantStale, err)
}
