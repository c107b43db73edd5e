package celeval

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// inputs are the variables of conditions. A macro's variable must not hide one.
var inputs = map[string]bool{
	"tenant": true, "subject": true, "action": true, "action_properties": true,
	"resource": true, "context": true, "tables": true, "now": true,
}

// refused are functions whose time or memory is more than linear in their
// arguments and is spent before the cost limit sees it.
var refused = map[string]string{
	"replace":       "its result can be as long as the product of its arguments",
	"join":          "its result can be as long as the product of its arguments",
	"format":        "its result can be longer than its arguments",
	"indexOf":       "its time is the product of its arguments; use contains, startsWith or split",
	"lastIndexOf":   "its time is the product of its arguments; use contains, endsWith or split",
	"reverse":       "no condition needs it",
	"strings.quote": "no condition needs it",
}

// scan walks a checked expression and collects what it reads: context members
// as "context.run_id", properties as "subject.roles" and "resource.cpu". What
// would hide a read from it is a flaw.
type scan struct {
	info  *ast.SourceInfo
	reads map[string]bool
	flaws []flaw
	loops bool
}

func (s *scan) sorted() []string { return slices.Sorted(maps.Keys(s.reads)) }

func (s *scan) flaw(e ast.Expr, format string, args ...any) {
	s.flaws = append(s.flaws, flawAt(s.info.GetStartLocation(e.ID()), fmt.Sprintf(format, args...)))
}

func (s *scan) read(name string) {
	if s.reads == nil {
		s.reads = map[string]bool{}
	}
	s.reads[name] = true
}

func (s *scan) expr(e ast.Expr) {
	if root, steps, ok := chain(e); ok {
		s.use(e, root, steps)
		return
	}
	switch e.Kind() {
	case ast.SelectKind:
		s.expr(e.AsSelect().Operand())
	case ast.CallKind:
		s.call(e, e.AsCall())
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			s.expr(element)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			s.expr(entry.AsMapEntry().Key())
			s.expr(entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, field := range e.AsStruct().Fields() {
			s.expr(field.AsStructField().Value())
		}
	case ast.ComprehensionKind:
		s.loops = true
		loop := e.AsComprehension()
		for _, name := range []string{loop.IterVar(), loop.IterVar2(), loop.AccuVar()} {
			if inputs[name] {
				s.flaw(e, "the variable %s would hide the input of that name; rename it", name)
			}
		}
		for _, part := range []ast.Expr{loop.IterRange(), loop.AccuInit(), loop.LoopCondition(), loop.LoopStep(), loop.Result()} {
			s.expr(part)
		}
	}
}

func (s *scan) call(e ast.Expr, call ast.CallExpr) {
	name := call.FunctionName()
	if why, ok := refused[name]; ok {
		s.flaw(e, "%s is not available: %s", name, why)
	}
	args := call.Args()
	if name == overloads.Matches && len(args) > 0 && args[len(args)-1].Kind() != ast.LiteralKind {
		s.flaw(e, "the pattern of matches must be a literal")
	}
	if call.IsMemberFunction() {
		s.expr(call.Target())
	}
	for _, arg := range args {
		s.expr(arg)
	}
}

// chain takes apart a chain of selections and constant indexes that begins at
// a variable.
func chain(e ast.Expr) (root string, steps []string, ok bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return strings.TrimPrefix(e.AsIdent(), "."), nil, true
	case ast.SelectKind:
		root, steps, ok = chain(e.AsSelect().Operand())
		return root, append(steps, e.AsSelect().FieldName()), ok
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.Index || len(call.Args()) != 2 || call.Args()[1].Kind() != ast.LiteralKind {
			return "", nil, false
		}
		name, isString := call.Args()[1].AsLiteral().(types.String)
		if !isString {
			return "", nil, false
		}
		root, steps, ok = chain(call.Args()[0])
		return root, append(steps, string(name)), ok
	default:
		return "", nil, false
	}
}

func (s *scan) use(e ast.Expr, root string, steps []string) {
	read, err := readOf(root, steps)
	switch {
	case err != nil:
		s.flaw(e, "%v", err)
	case read != "":
		s.read(read)
	}
}

// readOf names the read that a path into the request is, or "" where it is
// none. It refuses paths that end before the member they read, or lead nowhere.
func readOf(root string, steps []string) (string, error) {
	switch root {
	case "context":
		if len(steps) == 0 {
			return "", fmt.Errorf("context is used as a whole; name the member that is meant, such as context.run_id")
		}
		return "context." + steps[0], nil
	case "subject", "resource":
		switch {
		case len(steps) == 0:
			return "", fmt.Errorf("%s is used as a whole; name the member that is meant, such as %s.id", root, root)
		case steps[0] == "type" || steps[0] == "id":
			return "", nil
		case steps[0] != "properties":
			return "", fmt.Errorf("%s has type, id and properties, and no %q", root, steps[0])
		case len(steps) == 1:
			return "", fmt.Errorf("%s.properties is used as a whole; name the property that is meant, such as %s.properties.name", root, root)
		}
		return root + "." + steps[1], nil
	default:
		return "", nil
	}
}

// messageReads returns what the placeholders of a message read. A placeholder
// is a dotted path into the request; one that leads nowhere is an error.
func messageReads(t pdp.Text) ([]string, error) {
	var reads []string
	for name := range t.Placeholders {
		steps := strings.Split(name, ".")
		read, err := readOf(steps[0], steps[1:])
		if err == nil && !placed(steps) {
			err = fmt.Errorf("want a member of the request, such as {resource.properties.cpu}")
		}
		if err != nil {
			return nil, fmt.Errorf("placeholder {%s}: %w", name, err)
		}
		if read != "" {
			reads = append(reads, read)
		}
	}
	return reads, nil
}

// placed reports whether a path can lead to a member of a request. The core,
// which fills messages, joins the steps to a JSON pointer without escaping.
func placed(steps []string) bool {
	if slices.Contains(steps, "") || strings.ContainsAny(strings.Join(steps, ""), "/~") {
		return false
	}
	if len(steps) == 1 {
		return steps[0] == "tenant"
	}
	switch second := steps[1]; steps[0] {
	case "subject", "resource":
		return second == "properties" && len(steps) > 2 || (second == "type" || second == "id") && len(steps) == 2
	case "action":
		return second == "properties" && len(steps) > 2 || second == "name" && len(steps) == 2
	default:
		return steps[0] == "context"
	}
}
