package celeval

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	_ "time/tzdata" // now.getHours("Asia/Shanghai") answers on a host without zone files too

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"
)

// Bounds of one condition.
const (
	maxCondition    = 8 << 10 // bytes
	maxNesting      = 64
	maxNodes        = 10_000 // macros expanded
	maxLoops        = 3      // one inside another
	maxCost         = 1_000_000
	interruptEvery  = 64 // iterations
	maxRegexProgram = 500
	maxMatched      = 32 << 10 // bytes of a string given to matches
)

// newEnvironment returns the language of conditions; withTables says whether
// they may look at the tenant's tables.
func newEnvironment(withTables bool) (*cel.Env, error) {
	object := cel.MapType(cel.StringType, cel.DynType)
	options := []cel.EnvOption{
		cel.Variable("tenant", cel.StringType),
		cel.Variable("subject", object),
		cel.Variable("action", cel.StringType),
		cel.Variable("action_properties", object),
		cel.Variable("resource", object),
		cel.Variable("context", object),
		cel.Variable("now", cel.TimestampType),
		ext.Strings(), ext.Math(), ext.Network(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EnableErrorOnBadPresenceTest(true), // has(x.y) where x is a number is an error, not false
		cel.EnableIdentifierEscapeSyntax(),
		cel.ParserExpressionSizeLimit(maxCondition),
		cel.ParserRecursionLimit(maxNesting),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegexProgram),
		cel.ASTValidators(
			cel.ValidateComprehensionNestingLimit(maxLoops),
			cel.ValidateRegexLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateDurationLiterals(),
		),
	}
	if withTables {
		options = append(options, cel.Variable("tables", object))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("language of conditions: %w", err)
	}
	return env, nil
}

// condition is one compiled CEL expression. It is immutable.
type condition struct {
	text    string
	reads   []string // see reads.go
	program cel.Program
	loops   bool // it is worth interrupting
}

// flaw is one thing wrong with a condition, on a line of it, from 1.
type flaw struct {
	line    int
	message string
}

func flawAt(at common.Location, message string) flaw {
	if at.Line() < 1 { // of the whole expression
		return flaw{1, "condition: " + message}
	}
	return flaw{at.Line(), fmt.Sprintf("condition: %s (column %d)", message, at.Column()+1)}
}

// compileCondition returns every flaw it finds; the condition is usable only
// when there is none.
func compileCondition(env *cel.Env, text string) (*condition, []flaw) {
	if len(text) > maxCondition {
		return nil, []flaw{{1, fmt.Sprintf("a condition of %d bytes; at most %d", len(text), maxCondition)}}
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		flaws := make([]flaw, 0, len(issues.Errors()))
		for _, e := range issues.Errors() {
			flaws = append(flaws, flawAt(e.Location, e.Message))
		}
		return nil, flaws
	}
	if out := ast.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return nil, []flaw{{1, fmt.Sprintf("condition: gives %s, want a boolean", cel.FormatCELType(out))}}
	}
	s := scan{info: ast.NativeRep().SourceInfo()}
	s.expr(ast.NativeRep().Expr())
	if len(s.flaws) > 0 {
		return nil, s.flaws
	}
	program, err := env.Program(ast,
		cel.CostLimit(maxCost),
		cel.InterruptCheckFrequency(interruptEvery),
		cel.EvalOptions(cel.OptOptimize),
		cel.OptimizeRegex(boundedMatches(overloads.Matches), boundedMatches(overloads.MatchesString)),
	)
	if err != nil {
		return nil, []flaw{{1, "condition: " + err.Error()}}
	}
	return &condition{text: text, reads: s.sorted(), program: program, loops: s.loops}, nil
}

// boundedMatches compiles the literal pattern of matches once, and refuses
// text so long that a match could not be interrupted in time.
func boundedMatches(overload string) *interpreter.RegexOptimization {
	return &interpreter.RegexOptimization{
		Function:   overloads.Matches,
		OverloadID: overload,
		RegexIndex: 1,
		Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
			re, err := regexp.Compile(pattern)
			if err != nil {
				return nil, err
			}
			return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
				text, ok := args[0].(types.String)
				if !ok {
					return types.MaybeNoSuchOverloadErr(args[0])
				}
				if len(text) > maxMatched {
					return types.NewErr("a text of %d bytes is too long for matches; at most %d", len(text), maxMatched)
				}
				return types.Bool(re.MatchString(string(text)))
			}), nil
		},
	}
}

// errBudget is returned by holds when the time or the cost limit is spent.
var errBudget = errors.New("budget spent")

// eval makes a context, and a timer with it, only for loops: CEL asks nowhere
// else whether it is to stop.
func (c *condition) eval(ctx context.Context, vars interpreter.Activation) (out ref.Val, err error) {
	if c.loops {
		out, _, err = c.program.ContextEval(ctx, vars)
	} else {
		out, _, err = c.program.Eval(vars)
	}
	return out, err
}

// holds evaluates the condition. It never panics.
func (c *condition) holds(ctx context.Context, vars interpreter.Activation) (result bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			result, err = false, fmt.Errorf("internal error: %v", r)
		}
	}()
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("%w: %w", errBudget, err)
	}
	out, err := c.eval(ctx, vars)
	if err != nil {
		var cancelled interpreter.EvalCancelledError
		switch {
		case ctx.Err() != nil && errors.Is(err, interpreter.InterruptError{}):
			return false, fmt.Errorf("%w: %w", errBudget, ctx.Err())
		case errors.As(err, &cancelled):
			return false, fmt.Errorf("%w: it costs more than %d", errBudget, maxCost)
		}
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("gives %s, want a boolean", out.Type().TypeName())
	}
	return bool(b), nil
}
