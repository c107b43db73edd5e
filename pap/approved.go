package pap

import (
	"fmt"
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// KindCase tells all nodes, in order with the grant that it may have minted,
// that a case ended: one record a case, a [CaseEnd].
const KindCase Kind = "case"

// CaseEnd is the body of a record of kind [KindCase].
type CaseEnd struct {
	State string `json:"state"`
	Grant string `json:"grant,omitempty"`
}

// MintApproved stores the grant of an approved case in the transaction that
// settles it. It asks for no right: the votes were the right.
func MintApproved(tx Tx, g authz.Grant) error {
	return put(tx, KindGrant, g.ID, g.Tenant, g.CreatedAt, g)
}

// EndApproved ends a grant that an approval minted.
func EndApproved(tx Tx, id, why string, at time.Time) error {
	g, err := get[authz.Grant](tx, KindGrant, id)
	if err != nil {
		return err
	}
	_, err = endIn(tx, KindGrant, id, g.Tenant, why, at)
	return err
}

// CaseGrants is what cases need to know of the grants that they minted. The
// transactions of both databases implement it.
type CaseGrants interface {
	// WakeCase makes an approved case due at once. A case that is not there, or
	// not approved, stays as it is.
	WakeCase(id string) error
	// CountedUses is how many uses of a grant were counted.
	CountedUses(grant string) (int, error)
}

func caseGrants(tx Tx) (CaseGrants, error) {
	cases, ok := tx.(CaseGrants)
	if !ok {
		return nil, fmt.Errorf("%T keeps no cases", tx)
	}
	return cases, nil
}

// putEnded stores a grant that ended, and has its case looked at.
func putEnded(tx Tx, g *authz.Grant, at time.Time) error {
	if err := put(tx, KindGrant, g.ID, g.Tenant, at, g); err != nil {
		return err
	}
	id, ok := g.Case()
	if !ok {
		return nil
	}
	cases, err := caseGrants(tx)
	if err != nil {
		return err
	}
	return cases.WakeCase(id)
}

// usedUp has the case looked at whose grant's last use was counted.
func usedUp(tx Tx, g *authz.Grant) error {
	id, ok := g.Case()
	if !ok {
		return nil
	}
	cases, err := caseGrants(tx)
	if err != nil {
		return err
	}
	if counted, err := cases.CountedUses(g.ID); err != nil || counted < g.Uses {
		return err
	}
	return cases.WakeCase(id)
}

// ApprovedGrant returns a grant that an approval minted, as it is stored, and
// whether its last use is taken.
func ApprovedGrant(tx Tx, id string) (g authz.Grant, spent bool, err error) {
	if g, err = get[authz.Grant](tx, KindGrant, id); err != nil || g.Uses == 0 {
		return g, false, err
	}
	cases, err := caseGrants(tx)
	if err != nil {
		return g, false, err
	}
	counted, err := cases.CountedUses(id)
	return g, counted >= g.Uses, err
}

// PutCaseEnd tells all nodes that a case ended.
func PutCaseEnd(tx Tx, id, tenant string, at time.Time, end CaseEnd) error {
	return put(tx, KindCase, id, tenant, at, end)
}

// ActsFor lists a subject, its owner, the owner's owner and so on.
func ActsFor(tx Tx, tenant, name string) ([]string, error) { return actsFor(tx, tenant, name) }

// maxBehind is how much of the log [StillHolds] looks through.
const maxBehind = 1000

// StillHolds returns nil if what a node knew at a revision is what the
// transaction sees, as far as rules and people go: it decides by the same
// release, and nothing in the log since is of the directory. Else it is
// ErrVersion.
func StillHolds(tx Tx, known authz.Revision) error {
	if err := decidesBy(tx, known.Release); err != nil {
		return err
	}
	since, err := tx.Log(known.Position, maxBehind)
	if err != nil {
		return err
	}
	directory := []Kind{KindTenant, KindSubject, KindRole, KindBinding}
	if len(since) == maxBehind || slices.ContainsFunc(since, func(r Record) bool { return slices.Contains(directory, r.Kind) }) {
		return fmt.Errorf("the directory changed after %s: %w", known, ErrVersion)
	}
	return nil
}
