package serve

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// policies is the engine, with the release that last passed the gate at hand:
// a node that publishes does not compile twice.
type policies struct {
	*engine.Engine
	gated atomic.Pointer[pdp.Release]
}

// compile compiles a release that is to be active here.
func (p *policies) compile(ctx context.Context, content *bundles.Content) (*pdp.Release, error) {
	r := p.gated.Load()
	if r == nil || r.Content.Digest() != content.Digest() {
		var err error
		if r, err = p.Compile(ctx, content); err != nil {
			return nil, err
		}
	}
	p.Announce(r)
	return r, nil
}

// regoStats counts for the metrics; active may be nil.
func (p *policies) regoStats(active *pdp.Snapshot) httpd.RegoStats {
	if active == nil {
		return httpd.RegoStats(p.RegoStats(nil))
	}
	return httpd.RegoStats(p.RegoStats(active.Release))
}

// gate lets a candidate pass that compiles, whose test cases hold, and under
// which an administrator remains.
type gate struct {
	policies *policies
	guard    *access.Guard
}

func (g gate) Check(ctx context.Context, content *bundles.Content, changed []string) (pap.Candidate, error) {
	release, report, err := g.policies.GateReport(ctx, content, changed)
	if err != nil {
		return nil, err
	}
	snapshot := &pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}}
	if err := g.guard.KeepsAdministrator(ctx, snapshot); err != nil {
		return nil, err
	}
	g.policies.gated.Store(release)
	return candidate{snapshot, cheq.Tests{Passed: report.Passed, Failed: len(report.Failed)}}, nil
}

// candidate is a snapshot as pap sees it.
type candidate struct {
	snapshot *pdp.Snapshot
	tests    cheq.Tests // of one that passed the gate
}

func (c candidate) Number() uint64 { return c.snapshot.Release.Number }

func (c candidate) Rule(name string) (pap.RuleInfo, bool) {
	if rule, ok := c.snapshot.Release.Rule(name); ok {
		_, tenant, _ := pdp.PolicyPlace(name) // names of compiled rules parse
		return ruleInfo(rule, tenant), true
	}
	rule, restriction, ok := c.snapshot.Dynamic.Rule(name, time.Now())
	if !ok {
		return pap.RuleInfo{}, false
	}
	info := ruleInfo(rule, restriction.Tenant)
	info.Platform = restriction.Platform
	return info, true
}

// ruleInfo describes a rule of this tenant's, "" for the platform's.
func ruleInfo(rule *pdp.Rule, tenant string) pap.RuleInfo {
	info := pap.RuleInfo{Digest: rule.Digest.String(), Waivable: rule.Waivable, Tenant: tenant}
	info.Effect, info.Finding = rule.Kind.Effect()
	return info
}

func (c candidate) RequestDigest(req authz.Request) (string, error) {
	digest, err := c.snapshot.RequestDigest(req, time.Now())
	return digest.String(), err
}

func (c candidate) Masked(req authz.Request) authz.Request {
	return c.snapshot.Masked(req, time.Now())
}

// useCounter counts uses of grants in the store.
type useCounter struct {
	pap *pap.Service
}

func (u *useCounter) CountUses(ctx context.Context, grants []*authz.Grant, caller pdp.Caller, decisionID string) ([]string, error) {
	key := decisionID
	if caller.IdempotencyKey != "" {
		key = caller.Name + " " + caller.IdempotencyKey
	}
	return u.pap.CountUses(ctx, grants, key)
}

func (u *useCounter) SpentUses(ctx context.Context, grants []*authz.Grant) ([]string, error) {
	return u.pap.SpentUses(ctx, grants)
}
