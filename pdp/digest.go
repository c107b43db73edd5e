package pdp

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/gowebpki/jcs"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// requestDigest is the SHA-256 over the RFC 8785 form of what an approval, a
// grant and a permit are bound to: the request less the subject's properties
// and less the context members that no applicable policy declares it reads.
func requestDigest(req *authz.Request, contextMembers []string) (bundles.Digest, error) {
	bound := authz.Request{
		Tenant:   req.Tenant,
		Subject:  authz.Entity{Type: req.Subject.Type, ID: req.Subject.ID},
		Action:   req.Action,
		Resource: req.Resource,
	}
	for _, name := range contextMembers {
		if v, ok := req.Context.Get(name); ok {
			bound.Context = bound.Context.With(name, v)
		}
	}
	canonical, err := Canonical(bound.Value())
	if err != nil {
		return bundles.Digest{}, fmt.Errorf("canonical form of the request: %w", err)
	}
	return sha256.Sum256(canonical), nil
}

// Canonical returns the RFC 8785 form of a value.
func Canonical(v authz.Value) ([]byte, error) { return jcs.Transform(v.AppendJSON(nil)) }

// boundContext lists the context members that a digest covers: each that an
// applicable policy reads and does not itself list as unbound.
func boundContext(applicable matched) []string {
	var members []string
	for p := range applicable.policies {
		for _, read := range p.Reads {
			name, ok := strings.CutPrefix(read, "context.")
			if ok && !slices.Contains(p.Unbound, name) && !slices.Contains(members, name) {
				members = append(members, name)
			}
		}
		if p.Scope.BusinessSystem != "" && !slices.Contains(members, "business_system") {
			members = append(members, "business_system")
		}
	}
	slices.Sort(members)
	return members
}
