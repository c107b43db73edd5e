// Package access answers two questions about a caller of Xiezhi itself: who is
// it, by its access token, and may it do this, by the self policies of the
// active release (M1, M4).
//
// Both are answered anew for every call from the node's copy of the directory.
// A copy that has not been confirmed against the store for longer than
// Config.Fresh is first brought up to date, so a revocation holds everywhere
// within that time. A node that cannot read the store goes on with the copy for
// Config.GrantStale, and then refuses every caller.
package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What callers branch on.
var (
	// ErrUnauthenticated means that the credential is missing or not good.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrUnavailable means that the node cannot tell whether it is.
	ErrUnavailable = errors.New("the directory cannot be read")
)

// Caller is an authenticated caller.
type Caller struct {
	Type    string
	ID      string
	Tenant  string // "" for the platform's own
	TokenID string
	Rights  []string // the scope of the token; "*" does not bound
}

// Name is the caller as audit records have it, "user:li.wei".
func (c *Caller) Name() string { return pap.SubjectName(c.Type, c.ID) }

// DeniedError says which right was missing where, and what the self policies
// said. It wraps pap.ErrForbidden.
type DeniedError struct {
	Caller   string
	Right    string
	Tenant   string // pap.Platform for the platform
	Decision authz.Decision
}

func (e *DeniedError) Error() string {
	why := make([]string, 0, len(e.Decision.Reasons))
	for _, r := range e.Decision.Reasons {
		if r.Effect != authz.Allow {
			why = append(why, r.Message)
		}
	}
	return fmt.Sprintf("%s lacks the right %s in %s: %s", e.Caller, e.Right, e.Tenant, strings.Join(why, " "))
}

// Unwrap makes the error one that pap knows.
func (e *DeniedError) Unwrap() error { return pap.ErrForbidden }

// Feed is what keeps the directory current.
type Feed interface {
	// Age is how long ago the store was last read successfully.
	Age() time.Duration
	// Read brings the directory up to date now, or fails soon.
	Read(ctx context.Context) error
}

// Config is what a Guard is handed; every field but GrantStale is required.
type Config struct {
	PDP       *pdp.PDP
	Directory *pap.Directory
	Feed      Feed
	Now       func() time.Time
	// Fresh is how old the directory may be before it is read again; at most
	// the second in which a revocation must hold.
	Fresh time.Duration
	// GrantStale is how old it may be while the store cannot be read; 0: no
	// older than Fresh.
	GrantStale time.Duration
}

// Guard authenticates and authorizes. It is safe for concurrent use.
type Guard struct {
	config   Config
	verdicts atomic.Pointer[verdicts]
}

// New returns a Guard.
func New(c Config) *Guard { return &Guard{config: c} }

// Authenticate reads an Authorization header. The error wraps
// ErrUnauthenticated or ErrUnavailable, and does not repeat the credential.
func (g *Guard) Authenticate(ctx context.Context, header string) (Caller, error) {
	scheme, credential, _ := strings.Cut(header, " ")
	if header == "" {
		return Caller{}, fmt.Errorf("%w: send Authorization: Bearer <access token>", ErrUnauthenticated)
	}
	id, hash, ok := pap.SplitToken(strings.TrimSpace(credential))
	if !strings.EqualFold(scheme, "Bearer") || !ok {
		return Caller{}, fmt.Errorf("%w: want Authorization: Bearer %s…", ErrUnauthenticated, pap.TokenPrefix)
	}
	if err := g.refresh(ctx); err != nil {
		return Caller{}, err
	}
	token, subject, err := g.config.Directory.Credential(id, hash, g.config.Now())
	if err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	return Caller{Type: subject.Type, ID: subject.ID, Tenant: subject.Tenant, TokenID: token.ID, Rights: token.Rights}, nil
}

// Allow returns nil if the self policies give the caller the right in the
// tenant ([pap.Platform] for the platform), else a [*DeniedError].
func (g *Guard) Allow(ctx context.Context, c Caller, right, tenant string) error {
	known := g.current()
	asked := verdict{c.TokenID, right, tenant}
	if known.allows(asked) {
		return nil
	}
	d, err := g.config.PDP.MaySelf(ctx, g.request(c, right, tenant))
	if err != nil {
		return fmt.Errorf("decide whether %s may %s: %w", c.Name(), right, err)
	}
	if !d.Allowed() && spent(d) {
		return fmt.Errorf("decide whether %s may %s: the time was over: %w", c.Name(), right, ErrUnavailable)
	}
	if !d.Allowed() {
		return &DeniedError{Caller: c.Name(), Right: strings.TrimSuffix(right, own), Tenant: tenant, Decision: d}
	}
	known.add(asked)
	return nil
}

// spent reports whether the answer is for want of time, and so tells nothing
// of the caller.
func spent(d authz.Decision) bool {
	return slices.ContainsFunc(d.Reasons, func(r authz.Reason) bool { return r.Cause == string(pdp.CauseBudgetSpent) })
}

// request is the question that the self policies answer. A caller has the
// roles of its home: a tenant's caller none in another tenant, the platform's
// its platform roles everywhere.
func (g *Guard) request(c Caller, right, tenant string) authz.Request {
	var roles []string
	if c.Tenant == "" || c.Tenant == tenant {
		roles = g.config.Directory.Roles(c.Tenant, c.Name())
	}
	return SelfRequest(c, roles, right, tenant)
}

// Rights to ask for a subject that is not the caller.
const (
	RightOnBehalf         = "decide.on_behalf"
	RightEvaluateOnBehalf = "evaluate.on_behalf"
	RightOpenOnBehalf     = "cheq.open.on_behalf"
)

// Rights about cases, which are somebody else's unless [Own] says otherwise.
const (
	RightReadCase    = "cheq.read"
	RightAnswerCase  = "cheq.answer"
	RightCommentCase = "cheq.comment"
	RightRevokeCase  = "cheq.revoke"
)

// ofOthers are the rights whose questions have context.self false.
var ofOthers = []string{
	RightOnBehalf, RightEvaluateOnBehalf, RightOpenOnBehalf, RightReadCase, RightAnswerCase, RightCommentCase, RightRevokeCase,
}

// own marks a right that is asked for about what is the caller's own.
const own = " (own)"

// Own is a right as a Guard is asked for it where it is about what is the
// caller's own business: the self policies see the same right, and context.self.
func Own(right string) string { return right + own }

// SelfRequest builds the question for given roles.
func SelfRequest(c Caller, roles []string, right, tenant string) authz.Request {
	right, ownBusiness := strings.CutSuffix(right, own)
	properties, _ := authz.ObjectValue( // the names differ
		authz.Member{Name: "roles", Value: authz.Strings(roles...)},
		authz.Member{Name: "platform", Value: authz.BoolValue(c.Tenant == "")},
	)
	context, _ := authz.ObjectValue(
		authz.Member{Name: "token_rights", Value: authz.Strings(c.Rights...)},
		authz.Member{Name: "self", Value: authz.BoolValue(ownBusiness || !slices.Contains(ofOthers, right))},
	)
	return authz.Request{
		Tenant:   tenant,
		Subject:  authz.Entity{Type: "xiezhi.caller", ID: c.Name(), Properties: properties},
		Action:   authz.Action{Name: right},
		Resource: authz.Entity{Type: "xiezhi.tenant", ID: tenant},
		Context:  context,
	}
}

// Actor is the caller as pap knows it.
func (g *Guard) Actor(c Caller) pap.Actor {
	unbounded := c
	unbounded.Rights = []string{"*"}
	unbounded.TokenID = "of " + c.Tenant + "/" + c.Name() // no token's id: verdicts are kept by it
	as := func(c Caller) func(ctx context.Context, right, tenant string) error {
		return func(ctx context.Context, right, tenant string) error { return g.Allow(ctx, c, right, tenant) }
	}
	return pap.Actor{Name: c.Name(), Tenant: c.Tenant, May: as(c), Could: as(unbounded), Rights: c.Rights}
}

// ErrLockout refuses a release under which nobody could administer Xiezhi.
var ErrLockout = errors.New("under these self policies no administrator remains")

// adminRights are what some platform subject must keep.
var adminRights = []string{"release.publish.self", "directory.write"}

// KeepsAdministrator checks a candidate's self policies: some platform subject
// that is in the directory now must keep the rights to mend them.
func (g *Guard) KeepsAdministrator(ctx context.Context, candidate *pdp.Snapshot) error {
	admins := g.config.Directory.PlatformAdmins()
	if len(admins) == 0 {
		return nil // before bootstrap there is nobody to lock out
	}
	for _, admin := range admins {
		keeps := true
		c := Caller{Type: admin.Type, ID: admin.ID, Rights: []string{"*"}}
		roles := g.config.Directory.Roles("", c.Name())
		for _, right := range adminRights {
			d, err := g.config.PDP.MaySelfOn(ctx, candidate, SelfRequest(c, roles, right, pap.Platform))
			keeps = keeps && err == nil && d.Allowed()
		}
		if keeps {
			return nil
		}
	}
	return fmt.Errorf("%w: no platform subject would keep %s; change the policy or bind an administrator first", ErrLockout, strings.Join(adminRights, " and "))
}
