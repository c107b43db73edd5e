package cedareval

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	cedarast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// statement is one permit or forbid: one rule.
type statement struct {
	declaration
	policy       *policy
	placeholders []placeholder
	scope        scope
	scopeText    []condition // of principal, action and resource, for explanations
	conditions   []condition
	simple       simple        // the conditions; nil where only cedar-go is asked
	compiled     *cedar.Policy // the conditions; set when the program numbers the statement
	branch       int           // its first branch of the program
}

// condition is the body of one when or unless, or a clause of the scope.
type condition struct {
	body   ast.IsNode // nil for a clause of the scope
	unless bool
	line   int
	text   string // shortened to one line
}

// parseStatement parses the text of one statement with cedar-go. Errors are
// [*placedError]s.
func parseStatement(text string, shape *outline) (*ast.Policy, error) {
	var list cedar.PolicyList
	if err := list.UnmarshalCedar([]byte(shape.of(text))); err != nil {
		line, message := parseErrorPlace(err)
		return nil, &placedError{shape.line + line - 1, message}
	}
	if len(list) != 1 {
		return nil, &placedError{shape.line, "want one statement that ends with ;"}
	}
	statement := (*ast.Policy)(list[0].AST())
	if len(statement.Conditions) != len(shape.conditions) || len(shape.scope) != 3 {
		return nil, &placedError{shape.line, "cannot tell the parts of this statement apart"}
	}
	return statement, nil
}

var parsePlace = regexp.MustCompile(`<input>:(\d+):\d+:? ?`)

// parseErrorPlace takes the line out of a cedar-go error.
func parseErrorPlace(err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "parser error: ")
	line = 1
	if at := parsePlace.FindStringSubmatch(message); at != nil {
		if n, err := strconv.Atoi(at[1]); err == nil && n > 0 {
			line = n
		}
		message = parsePlace.ReplaceAllString(message, "")
	}
	return line, message
}

// newStatement takes apart what parseStatement returned.
func newStatement(parsed *ast.Policy, text string, shape *outline) *statement {
	s := &statement{scope: scopeOf(parsed)}
	for _, part := range shape.scope {
		s.scopeText = append(s.scopeText, condition{line: part.line, text: oneLine(part.of(text))})
	}
	for i, c := range parsed.Conditions {
		s.conditions = append(s.conditions, condition{
			body: c.Body, unless: c.Condition == ast.ConditionUnless,
			line: shape.conditions[i].line, text: oneLine(shape.conditions[i].of(text)),
		})
	}
	return s
}

// compile compiles the conditions. cedar-go hands the number back when the
// statement is satisfied or fails.
func (s *statement) compile(number int) {
	// The index settles the scope, and every effect is a finding: what is left
	// for cedar-go is a permit for whatever meets the conditions.
	rest := ast.Permit()
	for _, c := range s.conditions {
		rest.Conditions = append(rest.Conditions, ast.ConditionType{Condition: ast.Condition(!c.unless), Body: c.body})
	}
	rest.Position = ast.Position{Offset: number, Line: 1}
	s.simple = simpleConditions(s.conditions)
	s.compiled = cedar.NewPolicyFromAST((*cedarast.Policy)(rest))
}

// maxQuote bounds the policy text in an explanation, in bytes.
const maxQuote = 300

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxQuote {
		text = strings.ToValidUTF8(text[:maxQuote], "") + "…"
	}
	return text
}

// finding says what the satisfied statement says of the request.
func (s *statement) finding(in *pdp.Input) pdp.Finding {
	return pdp.Finding{Rule: s.rule, Path: s.path, Args: fill(s.placeholders, in.Value)}
}
