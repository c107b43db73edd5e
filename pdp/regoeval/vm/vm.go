package vm

import (
	"time"

	"github.com/open-policy-agent/opa/v1/topdown/cache"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// Entry is a rule of a program that can be asked for by itself.
type Entry int32

// Input is what one evaluation is given.
type Input struct {
	Value value.Value // `input`; undefined: there is none
	Data  value.Value // `data` without the rules; undefined: there is none
	Now   time.Time
	// Patterns keeps compiled patterns between evaluations; nil keeps none.
	Patterns cache.InterQueryValueCache
	// Lenient makes errors of built-in functions undefined, as OPA does unless
	// it is told otherwise.
	Lenient bool
	Steps   int // calls and elements visited; 0: DefaultSteps
	Values  int // that may be made; 0: DefaultValues
}

// Bounds of one evaluation.
const (
	DefaultSteps  = 5_000_000
	DefaultValues = 2_000_000
)

// maxDepth is how deep rules may call each other. OPA refuses recursion, so
// only a program of that many rules gets there.
const maxDepth = 10_000
