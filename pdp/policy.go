package pdp

import (
	"fmt"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Layer says whom a policy speaks for.
type Layer uint8

const (
	// LayerTenant policies hold inside their own tenant.
	LayerTenant Layer = iota
	// LayerPlatform policies hold for every tenant: guardrails, and the shipped roles.
	LayerPlatform
	// LayerSelf policies decide who may call Xiezhi itself; they take no part in other decisions.
	LayerSelf
	// LayerDynamic is a restriction: DENY or REVIEW for a time, in one tenant.
	LayerDynamic
)

func (l Layer) String() string {
	return [...]string{"tenant", "platform", "self", "dynamic"}[l]
}

// Text is a sentence in English and Chinese. Placeholders {name} are filled
// from a finding's arguments.
type Text struct {
	EN string `json:"en" yaml:"en"`
	ZH string `json:"zh" yaml:"zh"`
}

// Placeholders visits the names between braces, as [fillText] replaces them, of
// both languages.
func (t Text) Placeholders(yield func(name string) bool) {
	for _, text := range []string{t.EN, t.ZH} {
		for {
			_, rest, open := strings.Cut(text, "{")
			name, after, closed := strings.Cut(rest, "}")
			if !open || !closed {
				break
			}
			if !yield(name) {
				return
			}
			text = after
		}
	}
}

// RuleKind says which set of its policy a rule contributes to.
type RuleKind uint8

const (
	KindDeny RuleKind = iota
	KindReview
	KindAllow
	KindObligation
	KindLimit
	KindRoute
)

func (k RuleKind) String() string {
	return [...]string{"deny", "review", "allow", "obligations", "limits", "route"}[k]
}

// Effect returns the effect of a rule that finds, and whether the rule does:
// rules that oblige, limit or route have none.
func (k RuleKind) Effect() (effect authz.Effect, finds bool) {
	switch k {
	case KindAllow:
		return authz.Allow, true
	case KindReview:
		return authz.Review, true
	default:
		return authz.Deny, k == KindDeny
	}
}

// Rule is one declared id in a policy.
type Rule struct {
	ID          string
	Kind        RuleKind
	Title       Text
	Message     Text
	Severity    string   // low, medium, high, critical
	Requirement []string // ids of the requirements ledger
	Waivable    bool     // a DENY that a grant may waive
	Admits      bool     // a REVIEW that counts as an ALLOW once satisfied
	Template    string   // approval template that a REVIEW or waivable DENY names
	File        string   // where it is declared
	Line        int
	// Digest covers the rule's policy (text and metadata), every module and
	// schema it can reach, and its approval template; never tables. A grant
	// names it together with the id (docs/semantics.md).
	Digest bundles.Digest
}

// Durability says what must have happened to the decision record before the
// answer leaves (docs/semantics.md).
type Durability uint8

const (
	Buffered Durability = iota // handed to the spool, on disk within 50 ms
	Strict                     // on disk before the answer
)

// Scope says which requests a policy applies to. Patterns are exact names or
// a prefix followed by one "*"; an empty list matches everything.
type Scope struct {
	Actions        []string `json:"actions,omitempty" yaml:"actions"`
	ResourceTypes  []string `json:"resource_types,omitempty" yaml:"resource_types"`
	BusinessSystem string   `json:"business_system,omitempty" yaml:"business_system"`
}

// Policy is the unit that applies, fails and is scoped: one Rego package, one
// Cedar file, one rule document, or one restriction. It is immutable.
type Policy struct {
	ID         string // "platform/network", "tenants/acme/sizes", "self/rights", "dynamic/<id>"
	Layer      Layer
	Tenant     string // of LayerTenant and LayerDynamic
	Language   string // "rego", "cedar", "cel"
	File       string
	Title      Text
	Scope      Scope
	Reads      []string // "subject.roles", "context.source_ip": attributes and context members it reads
	Unbound    []string // context members it reads that a request digest leaves out
	Masks      []string // JSON pointers into the request, hidden in records
	Audit      Durability
	StaleBound time.Duration // 0: the server's default
	Rules      []*Rule

	// slot is the policy's index in its program, set by the evaluator through
	// SetSlot and handed back to it.
	slot int
}

// SetSlot lets an evaluator number its policies, so that finding its own data
// for a policy is an index and not a map look-up.
func (p *Policy) SetSlot(n int) { p.slot = n }

// Slot returns what SetSlot set.
func (p *Policy) Slot() int { return p.slot }

// Rule returns the declared rule with this id.
func (p *Policy) Rule(id string) (*Rule, bool) {
	for _, r := range p.Rules {
		if r.ID == id {
			return r, true
		}
	}
	return nil, false
}

// PolicyPlace splits a policy id into layer and tenant, and refuses ids that
// stand nowhere: they begin with platform/, self/ or tenants/<tenant>/.
func PolicyPlace(id string) (Layer, string, error) {
	first, rest, ok := strings.Cut(id, "/")
	if ok && rest != "" {
		switch first {
		case "platform":
			return LayerPlatform, "", nil
		case "self":
			return LayerSelf, "", nil
		case "tenants":
			tenant, name, ok := strings.Cut(rest, "/")
			if ok && name != "" && authz.ValidTenant(tenant) == nil {
				return LayerTenant, tenant, nil
			}
		}
	}
	return 0, "", fmt.Errorf("%q: want platform/…, self/… or tenants/<tenant>/…", id)
}

// Fault is one thing wrong with a candidate release: where, and what to do.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 where the whole file is meant
	Policy  string `json:"policy,omitempty"` // policy id
	Rule    string `json:"rule,omitempty"`
	Message string `json:"message"`
}

func (f Fault) String() string {
	where := f.File
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	if f.Rule != "" {
		return fmt.Sprintf("%s: rule %s: %s", where, f.Rule, f.Message)
	}
	return where + ": " + f.Message
}

// Faults is the error of a candidate that does not compile.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}
