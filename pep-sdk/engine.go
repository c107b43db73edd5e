package pep

import (
	"context"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// Engine decides in-process. Package pdp/local has the one that knows Rego,
// Cedar and rule documents; without an engine every decision is the server's.
type Engine interface {
	// Compile compiles the verified content of a release, off the decision
	// path. Nothing becomes active. An error says what is wrong; the PEP
	// rejects the release with it.
	Compile(ctx context.Context, release uint64, content *bundles.Content) (Compiled, error)
	// Apply makes a change active in one swap, or fails and changes nothing.
	// Calls do not overlap; they do overlap with Decide.
	Apply(c Change) error
	// Decide decides on what is active. It is safe for concurrent use. An
	// error means that there is no answer: treat it as DENY.
	Decide(ctx context.Context, req authz.Request, f authz.Freshness) (Outcome, error)
}

// Compiled is a release that an [Engine] compiled; its own business.
type Compiled any

// Change is what becomes active together.
type Change struct {
	// Release replaces the active one; nil keeps it.
	Release Compiled
	// Reset drops every entry held before; then Entries are all there are.
	Reset   bool
	Entries []stream.Entry
	// Position of the log that the entries lead to.
	Position uint64
	// Now is the newest signed time: what has ended by then may be forgotten.
	// The zero time forgets only what was ended by somebody.
	Now time.Time
}

// Outcome is what an [Engine] decided.
type Outcome struct {
	Decision authz.Decision
	// Needs names what only the server has and might change the answer:
	// "attribute", "uses", "approval"; empty where nothing is missing.
	Needs string
	// Record writes the decision down in the caller's name, with what
	// policies call sensitive masked, and says whether it must be on disk
	// before the answer is used.
	Record func(caller string) (record authz.AuditRecord, strict bool, err error)
}
