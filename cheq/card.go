package cheq

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Card is what approvers are shown of a case, in whatever channel: all that a
// yes is about, and nothing that may change while they look at it.
type Card struct {
	Case      string          `json:"case"`
	Tenant    string          `json:"tenant"`
	Requester Person          `json:"requester"`
	Caller    Person          `json:"caller"`
	Reason    string          `json:"reason,omitempty"`
	Request   json.RawMessage `json:"request"`
	Digests   []string        `json:"digests"`
	Opens     []Opening       `json:"opens"`
	Newly     []Combination   `json:"newly,omitempty"`
	GrantFor  time.Duration   `json:"grant_for"`
	Uses      int             `json:"uses,omitempty"`
	DecideBy  time.Time       `json:"decide_by"`
	Extends   string          `json:"extends,omitempty"`
	// Change is the change of policy that a yes is about.
	Change *Change `json:"change,omitempty"`
	// BreakGlass names the template of an emergency.
	BreakGlass string `json:"break_glass,omitempty"`
}

// Card is the case as it is shown.
func (c *Case) Card() Card {
	return Card{
		Case: c.ID, Tenant: c.Tenant, Requester: c.Requester, Caller: c.Caller, Reason: c.Reason,
		Request: c.Request.AppendJSON(nil), Digests: c.Digests, Opens: c.Opens, Newly: c.Newly,
		GrantFor: c.GrantFor, Uses: c.Uses, DecideBy: c.DecideBy.UTC(), Extends: c.Extends, BreakGlass: c.BreakGlass, Change: c.Change,
	}
}

// Digest names what is shown: every vote says which it was given on, and
// minting computes it again.
func (c Card) Digest() (string, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("case %s: what is shown cannot be written: %w", c.Case, err)
	}
	return bundles.Digest(sha256.Sum256(data)).String(), nil
}

// ErrShown means that a vote, or a case, is about something else than what is
// shown of it.
var ErrShown = errors.New("not what was shown")

// Mint is the grant that an approved case is worth: bound to what was shown,
// from now for as long as was shown. Its id is the caller's to give. A case
// that is not what was shown any more mints nothing: ErrShown.
func (c *Case) Mint(id string, now time.Time) (authz.Grant, error) {
	digest, err := c.Card().Digest()
	if err != nil {
		return authz.Grant{}, err
	}
	if digest != c.Shown {
		return authz.Grant{}, fmt.Errorf("case %s: %w", c.ID, ErrShown)
	}
	g := authz.Grant{
		ID: id, Tenant: c.Tenant, Requests: c.Digests, Request: c.Request, Uses: c.Uses,
		Validity: authz.Validity{Start: now, End: now.Add(c.GrantFor)},
		Source:   authz.SourceApproval + c.ID, Reason: c.Reason, CreatedBy: c.ID, CreatedAt: now, BreakGlass: c.BreakGlass != "",
	}
	for _, o := range c.Opens {
		if o.Effect == authz.Review {
			g.Satisfies = append(g.Satisfies, o.RuleRef)
		} else {
			g.Waives = append(g.Waives, o.RuleRef)
		}
	}
	return g, c.minted(&g)
}
