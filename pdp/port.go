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

// TableProgram is implemented by programs that take other tables without being
// compiled anew: a change of tables then costs what the change costs.
type TableProgram interface {
	Program
	// WithTables returns the program as it would be compiled with these tables
	// and the same policies.
	WithTables(tables *Tables) Program
}

// Source is what compilers read: one release's files save its tables, and what
// the core has read out of them already.
type Source struct {
	Content *bundles.Content
	Tables  *Tables
	// Templates are the approval templates by name, as files: rules name them
	// and their digests cover them.
	Templates map[string]bundles.File
	// Attributes is the attribute schema.
	Attributes *AttributeSchema
}

// Input is one question as evaluators read it. It is shared by all of them,
// must not be changed, and is another question's once Evaluate has returned.
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

	room bool // the lists were made for this outcome alone
}

// NextOutcome appends an empty outcome of the policy. Its lists have the room of
// the outcome that was there in an earlier question, if there was one: who
// appends to them needs no memory of its own.
func NextOutcome(out []Outcome, p *Policy) []Outcome {
	if len(out) == cap(out) {
		return append(out, Outcome{Policy: p, room: true})
	}
	out = out[:len(out)+1]
	last := &out[len(out)-1]
	last.reset()
	last.Policy, last.room = p, true
	return out
}

// reset empties the outcome, and keeps the room of its lists if they are its
// own: a program may answer with lists that it keeps.
func (o *Outcome) reset() {
	if !o.room {
		*o = Outcome{}
		return
	}
	clear(o.Findings)
	clear(o.Obligations)
	clear(o.Limits)
	clear(o.Routes)
	*o = Outcome{Findings: o.Findings[:0], Obligations: o.Obligations[:0], Limits: o.Limits[:0], Routes: o.Routes[:0], room: true}
}

// Fail makes the outcome one of a policy that could not be evaluated.
func (o *Outcome) Fail(err *EvaluationError) {
	policy := o.Policy
	o.reset()
	o.Policy, o.Err = policy, err
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
