package builtin

import (
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// patternFuncs are the functions of a regular expression, with its place among
// the arguments. What is wrong with a pattern OPA's say.
var patternFuncs = map[string]patternFunc{
	ast.RegexMatch.Name:                 {0, matches},
	ast.RegexMatchDeprecated.Name:       {0, matches},
	ast.RegexSplit.Name:                 {0, splitBy},
	ast.RegexFind.Name:                  {0, findAll},
	ast.RegexFindAllStringSubmatch.Name: {0, findGroups},
	ast.RegexReplace.Name:               {1, replaceBy},
}

type patternFunc struct {
	at   int
	call func(c *Call, re *pattern, args []value.Value) (value.Value, error)
}

var patterns = patternTable()

func patternTable() table {
	all := table{ast.RegexIsValid.Name: func(_ *Call, args []value.Value) (value.Value, error) { return validPattern(args[0]) }}
	for name, f := range patternFuncs {
		all[name] = f.compile
	}
	return all
}

var regexps compiled[*pattern]

func compileRegexp(text string) (*pattern, error) {
	return regexps.get(text, nil, func(s source) (*pattern, error) { return newPattern(s.text) })
}

// pattern is a regular expression and of how many instructions it is: looking
// for it takes up to so many steps a byte.
type pattern struct {
	*regexp.Regexp
	size int
}

func newPattern(text string) (*pattern, error) {
	if len(text) > mostPattern {
		return nil, ErrWork
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	code, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	return &pattern{re, len(code.Inst)}, nil
}

// worksOn counts what looking for the pattern may take, once.
func (p *pattern) worksOn(c *Call, s string) bool { return c.works(p.size * (len(s) + 1)) }

// worksOnAll counts looking for all matches, each of which may take as much.
// Where that could be too much it is tried, and given up.
func (p *pattern) worksOnAll(c *Call, s string) (ok bool) {
	once := p.size * (len(s) + 1)
	if once > mostWork {
		return false
	}
	if once*min(len(s)+1, mostWork) <= mostWork {
		return c.works(once)
	}
	defer func() {
		if cause := recover(); cause == ErrWork {
			ok = false
		} else if cause != nil {
			panic(cause)
		}
	}()
	p.ReplaceAllStringFunc(s, func(string) string {
		if c.Work += p.size; c.ended() {
			panic(ErrWork)
		}
		return ""
	})
	return true
}

func (f patternFunc) compile(c *Call, args []value.Value) (value.Value, error) {
	if _, _, ok := texts(args); !ok {
		return ask()
	}
	re, err := compileRegexp(args[f.at].Text())
	switch {
	case err == ErrWork:
		return tooMuch()
	case err != nil:
		return ask()
	}
	return f.call(c, re, args)
}

// mostBoundPattern is how large a pattern may be that a program keeps, in bytes
// by estimate.
const mostBoundPattern = 1 << 20

// bound compiles a constant pattern once. It is nil where there is none.
func (f patternFunc) bound(args []value.Value) Func {
	if args[f.at].Kind() != value.String || (source{text: args[f.at].Text()}).size() > mostBoundPattern {
		return nil
	}
	re, err := newPattern(strings.Clone(args[f.at].Text()))
	if err != nil {
		return nil
	}
	return func(c *Call, args []value.Value) (value.Value, error) {
		if _, _, ok := texts(args); !ok {
			return ask()
		}
		return f.call(c, re, args)
	}
}

func validPattern(v value.Value) (value.Value, error) {
	if v.Kind() != value.String {
		return ofBool(false)
	}
	switch _, err := compileRegexp(v.Text()); {
	case err == ErrWork:
		return tooMuch()
	case err != nil:
		return ask()
	}
	return ofBool(true)
}

func matches(c *Call, re *pattern, args []value.Value) (value.Value, error) {
	if !re.worksOn(c, args[1].Text()) {
		return tooMuch()
	}
	return ofBool(re.MatchString(args[1].Text()))
}

// holdsMatches reports whether the heap may hold where a pattern and its groups
// are found in a text, at most so many times if that is not negative. Go keeps
// all of that for each match.
func (c *Call) holdsMatches(re *pattern, s string, most int64) bool {
	each := 16 * (re.NumSubexp() + 1)
	if c.holds((len(s) + 1) * each) {
		return true
	}
	n := matchesIn(re, s)
	if most >= 0 {
		n = min(n, int(most))
	}
	return c.holds(n * each)
}

// matchesIn counts without keeping anything.
func matchesIn(re *pattern, s string) (n int) {
	re.ReplaceAllStringFunc(s, func(string) string { n++; return "" })
	return n
}

func splitBy(c *Call, re *pattern, args []value.Value) (value.Value, error) {
	switch s := args[1].Text(); {
	case !re.worksOnAll(c, s):
		return tooMuch()
	case !c.holdsMatches(re, s, -1):
		return full()
	}
	return c.array(re.Split(args[1].Text(), -1)...)
}

func findAll(c *Call, re *pattern, args []value.Value) (value.Value, error) {
	n, ok := args[2].Int()
	if !ok {
		return ask()
	}
	switch s := args[1].Text(); {
	case !re.worksOnAll(c, s):
		return tooMuch()
	case !c.holdsMatches(re, s, n):
		return full()
	}
	return c.array(re.FindAllString(args[1].Text(), int(n))...)
}

func findGroups(c *Call, re *pattern, args []value.Value) (value.Value, error) {
	most, ok := args[2].Int()
	if !ok {
		return ask()
	}
	s, groups := args[1].Text(), re.NumSubexp()+1
	switch {
	case !re.worksOnAll(c, s):
		return tooMuch()
	case !c.holdsMatches(re, s, most):
		return full()
	}
	found := re.FindAllStringSubmatchIndex(s, int(most))
	outer := c.Heap.NewArray(len(found))
	for _, at := range found {
		inner := c.Heap.NewArray(groups)
		for i := 0; i < len(at); i += 2 {
			group := ""
			if at[i] >= 0 {
				group = s[at[i]:at[i+1]]
			}
			c.Heap.Append(inner, value.OfString(group))
		}
		c.Heap.Append(outer, inner)
	}
	return outer, nil
}

func replaceBy(c *Call, re *pattern, args []value.Value) (value.Value, error) {
	if args[2].Kind() != value.String {
		return ask()
	}
	s, by := args[0].Text(), args[2].Text()
	if !re.worksOnAll(c, s) {
		return tooMuch()
	}
	// Matches do not overlap, so what one reference to a group puts in is no
	// longer than the text in all.
	kept := len(s) * (1 + strings.Count(by, "$"))
	if !c.holds(kept+(len(s)+1)*len(by)) && !c.holds(kept+matchesIn(re, s)*len(by)) {
		return full()
	}
	return c.changed(s, re.ReplaceAllString(s, by))
}
