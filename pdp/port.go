package pdp

import (
	"context"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Compiler turns the files of its language into a [Program]. There is one per
// language; each takes the files it knows by their names and ignores others.
type Compiler interface {
	// Compile returns [Faults] as its error where the candidate is wrong. It
	// reports every fault it can find, not only the first.
	Compile(ctx context.Context, source *Source) (Program, error)
}

// Program is the compiled policies of one language in one release. It is
// immutable and safe for concurrent use.
type Program interface {
	Policies() []*Policy

	// Evaluate answers for each of the given policies, all of them this
	// program's and all applicable, by appending one Outcome each to out.
	// A failure is an Outcome with Err set, never a missing Outcome. It stops
	// as soon as it can when ctx ends; what is unanswered then gets an Err
	// with CauseBudgetSpent. It never panics on any input.
	Evaluate(ctx context.Context, in *Input, policies []*Policy, out []Outcome) []Outcome
}

// Source is what compilers read: one release's files, and what the core has
// read out of them already.
type Source struct {
	Content *bundles.Content
	Tables  *Tables
	// Templates are the approval templates by name, as files: rules name them
	// and their digests cover them.
	Templates map[string]bundles.File
	// Attributes is the attribute schema.
	Attributes *AttributeSchema
}

// Tables are per-tenant and platform data: data.xiezhi.tenants.<t>.tables.<name>
// and data.xiezhi.platform.tables.<name>. Immutable.
type Tables struct {
	Platform authz.Value            // object: table name → content
	Tenants  map[string]authz.Value // tenant → the same
}

// Input is one question as evaluators read it. It is shared by all of them
// and must not be changed.
type Input struct {
	// Request has the trusted attributes merged into its properties.
	Request *authz.Request
	// Value is Request.Value(), built once.
	Value authz.Value
	// Now is the clock of this decision.
	Now time.Time
	// Explain asks for Outcome.Traces.
	Explain bool
}

// Outcome is what one policy says of one request.
type Outcome struct {
	Policy      *Policy
	Findings    []Finding
	Obligations []authz.Obligation // Policy and Rule are filled in by the evaluator
	Limits      []authz.Limit
	Routes      []authz.Route
	Err         *EvaluationError
	Traces      []RuleTrace // only when Input.Explain
}

// Finding is one DENY, REVIEW or ALLOW.
type Finding struct {
	Rule *Rule
	Path string      // JSON pointer into the request, or empty
	Args authz.Value // object filling the message's placeholders, or null
}

// Cause says why an evaluation failed.
type Cause string

const (
	CausePolicyError          Cause = "policy_error"          // the policy itself failed
	CauseBudgetSpent          Cause = "budget_spent"          // time or steps ran out
	CauseAttributeUnavailable Cause = "attribute_unavailable" // a source did not answer
	CauseUnsupportedValue     Cause = "unsupported_value"     // the request holds what the language cannot express
)

// EvaluationError is a policy that applies and could not be evaluated; it
// becomes the DENY finding evaluation_error.
type EvaluationError struct {
	Cause   Cause
	Rule    string // where it is known
	File    string
	Line    int
	Message string
}

func (e *EvaluationError) Error() string { return e.Message }

// RuleTrace is one rule's part in an explanation.
type RuleTrace struct {
	Rule    string `json:"rule"`
	Matched bool   `json:"matched"`
	// Why says, for a rule that did not match, the first condition that did
	// not hold (file:line and its text); for one that did, where it matched.
	Why string `json:"why"`
}

// Branch is a Rego body or else, or one outcome of a Cedar or CEL condition.
type Branch struct {
	Policy string
	Rule   string // where the branch belongs to one declared rule
	File   string
	Line   int
	What   string // "body", "else", "condition true", "condition false"
	Hits   int
}

// Coverable is implemented by programs that can tell which branches an
// evaluation reached.
type Coverable interface {
	Program
	// Branches lists every branch with no hits.
	Branches() []Branch
	// Cover evaluates like Evaluate and counts into hits, which is indexed
	// as Branches is. Not for the decision path.
	Cover(ctx context.Context, in *Input, policies []*Policy, hits []int) []Outcome
}
