package cedareval

import (
	"fmt"
	"strings"
)

// Limits of one statement. They keep what cedar-go does recursively within the
// stack, and what its validator does quadratically within seconds.
const (
	maxTokens  = 20_000
	maxNesting = 100
)

// span is a piece of a file. Line counts from 1.
type span struct {
	start, end, line int
}

func (s span) of(text string) string { return text[s.start:s.end] }

// outline says where the parts of one statement stand in its file. cedar-go
// knows only where a statement begins.
type outline struct {
	span                       // from the first annotation to the final ";"
	annotations map[string]int // name → line
	scope       []span         // the clauses of principal, action and resource
	conditions  []span         // the bodies of when and unless, without the braces
}

// fileOutline is what a file holds beside the statements' meaning.
type fileOutline struct {
	statements []outline
	comments   []span // line comments, from "//" to the end of the line
}

// placedError is an error at a line.
type placedError struct {
	line    int
	message string
}

func (e *placedError) Error() string { return e.message }

// outlineFile splits a file into statements. It checks only what it needs for
// that, and the limits; everything else is left to cedar-go's parser. Errors
// are [*placedError]s.
func outlineFile(text string) (*fileOutline, error) {
	file := &fileOutline{}
	lex := lexer{text: text, line: 1}
	var open *sketch
	for {
		t, err := lex.next()
		if err != nil {
			return nil, err
		}
		switch t.kind {
		case commentToken:
			file.comments = append(file.comments, t.span)
			continue
		case endToken:
			if open != nil { // unfinished: the parser says how
				file.statements = append(file.statements, open.outline)
			}
			return file, nil
		}
		if open == nil {
			open = &sketch{outline: outline{span: t.span, annotations: map[string]int{}}}
		}
		if err := open.add(t, text); err != nil {
			return nil, err
		}
		if open.done {
			file.statements = append(file.statements, open.outline)
			open = nil
		}
	}
}

// sketch is an outline in the making.
type sketch struct {
	outline
	tokens  int
	depth   int
	keyword token  // the last word outside all brackets
	bracket string // the outermost bracket that is open
	from    span   // where the part that is being read begins
	at      bool   // the last token was "@"
	done    bool
}

func (s *sketch) add(t token, text string) error {
	s.end = t.end
	if s.tokens++; s.tokens > maxTokens {
		return &placedError{s.line, fmt.Sprintf("a statement of more than %d tokens; split it", maxTokens)}
	}
	value := t.of(text)
	switch {
	case t.kind == wordToken && s.depth == 0:
		if s.at {
			s.annotations[value] = t.line
		}
		s.keyword = t
	case t.kind != signToken:
	case strings.Contains("([{", value):
		if s.depth++; s.depth > maxNesting {
			return &placedError{t.line, fmt.Sprintf("nested deeper than %d brackets", maxNesting)}
		}
		if s.depth == 1 {
			s.bracket, s.from = value, span{start: t.end, line: t.line}
		}
	case strings.Contains(")]}", value):
		if s.depth--; s.depth < 0 {
			return &placedError{t.line, "closes a bracket that is not open"}
		}
		if s.depth == 0 {
			s.part(t.start, text)
		}
	case value == "," && s.depth == 1 && s.inScope(text):
		s.part(t.start, text)
		s.from = span{start: t.end, line: t.line}
	case value == ";" && s.depth == 0:
		s.done = true
	}
	s.at = value == "@"
	return nil
}

func (s *sketch) inScope(text string) bool {
	word := s.keyword.of(text)
	return s.bracket == "(" && (word == "permit" || word == "forbid")
}

// part ends a clause of the scope or the body of a condition.
func (s *sketch) part(end int, text string) {
	part := span{s.from.start, end, s.from.line}
	word := s.keyword.of(text)
	switch {
	case s.inScope(text):
		if strings.TrimSpace(part.of(text)) != "" { // not what follows a trailing comma
			s.scope = append(s.scope, part)
		}
	case s.bracket == "{" && (word == "when" || word == "unless"):
		part.line = s.keyword.line
		s.conditions = append(s.conditions, part)
	}
}

type tokenKind uint8

const (
	endToken tokenKind = iota
	wordToken
	stringToken
	signToken // any other single byte
	commentToken
)

type token struct {
	span
	kind tokenKind
}

// lexer tells strings and comments from the rest, as cedar-go's scanner does.
type lexer struct {
	text string
	pos  int
	line int
}

func (l *lexer) next() (token, error) {
	if err := l.skip(); err != nil {
		return token{}, err
	}
	t := token{span: span{l.pos, l.pos, l.line}}
	rest := l.text[l.pos:]
	switch {
	case rest == "":
		return t, nil
	case strings.HasPrefix(rest, "//"):
		t.kind = commentToken
		line, _, _ := strings.Cut(rest, "\n")
		l.pos += len(line)
	case rest[0] == '"':
		t.kind = stringToken
		n := stringLength(rest)
		if n == 0 {
			return t, &placedError{l.line, "this string does not end on its line"}
		}
		l.pos += n
	case isWord(rest[0]):
		t.kind = wordToken
		for l.pos < len(l.text) && isWord(l.text[l.pos]) {
			l.pos++
		}
	default:
		t.kind = signToken
		l.pos++
	}
	t.end = l.pos
	return t, nil
}

// skip passes white space and block comments.
func (l *lexer) skip() error {
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == '\n':
			l.line++
			l.pos++
		case c == ' ' || c == '\t' || c == '\r':
			l.pos++
		case strings.HasPrefix(l.text[l.pos:], "/*"):
			body, _, closed := strings.Cut(l.text[l.pos+2:], "*/")
			if !closed {
				return &placedError{l.line, "this comment does not end"}
			}
			l.line += strings.Count(body, "\n")
			l.pos += len("/*") + len(body) + len("*/")
		default:
			return nil
		}
	}
	return nil
}

// stringLength returns the length of the string literal that text begins with,
// quotes included, or 0 where it does not end on its line.
func stringLength(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if i++; i < len(text) && text[i] == '\n' {
				return 0
			}
		case '"':
			return i + 1
		case '\n':
			return 0
		}
	}
	return 0
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
