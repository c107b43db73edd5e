package celeval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// reader decodes one document strictly: what it does not know, finds twice or
// finds in another type is a fault on its line. JSON and YAML become the same
// tree of nodes first.
type reader struct {
	file   string
	faults pdp.Faults
}

func (r *reader) fault(line int, format string, args ...any) {
	r.faults = append(r.faults, pdp.Fault{File: r.file, Line: line, Message: fmt.Sprintf(format, args...)})
}

// tree returns the document's root, or nil after a fault.
func (r *reader) tree(data []byte) *yaml.Node {
	if len(data) > maxDocument {
		r.fault(0, "a rule document of %d bytes; at most %d", len(data), maxDocument)
		return nil
	}
	if !utf8.Valid(data) {
		r.fault(0, "not valid UTF-8")
		return nil
	}
	before := len(r.faults)
	var root *yaml.Node
	if strings.HasSuffix(r.file, ".json") {
		root = r.jsonTree(data)
	} else {
		root = r.yamlTree(data)
	}
	if len(r.faults) > before {
		return nil
	}
	return root
}

func (r *reader) jsonTree(data []byte) *yaml.Node {
	t := jsonTree{decoder: json.NewDecoder(bytes.NewReader(data)), data: data}
	t.decoder.UseNumber()
	root, err := t.node(0)
	if err != nil {
		var syntax *json.SyntaxError
		line := t.line()
		switch {
		case errors.As(err, &syntax):
			line = lineOf(data, syntax.Offset)
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
		r.fault(line, "not JSON: %v", err)
		return nil
	}
	if _, err := authz.Parse(data); err != nil {
		var field *authz.FieldError
		line := 0
		if errors.As(err, &field) {
			line = lineAt(root, field.Path)
		}
		r.fault(line, "%v", err)
		return nil
	}
	return root
}

// jsonTree builds YAML nodes of JSON tokens, since encoding/json knows where
// it is and yaml does not read all of JSON.
type jsonTree struct {
	decoder *json.Decoder
	data    []byte
}

func (t *jsonTree) line() int { return lineOf(t.data, t.decoder.InputOffset()) }

func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(int(offset), len(data))], []byte("\n"))
}

func (t *jsonTree) node(depth int) (*yaml.Node, error) {
	if depth > authz.MaxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", authz.MaxDepth)
	}
	token, err := t.decoder.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: t.line()}
	switch token := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if token == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for t.decoder.More() {
			child, err := t.node(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err = t.decoder.Token() // the closing one
	case string:
		n.Tag, n.Value = "!!str", token
	case json.Number:
		n.Tag, n.Value = "!!float", token.String()
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(token)
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, err
}

// lineAt finds the line of the member that a JSON pointer leads to, or of the
// last one on the way there.
func lineAt(n *yaml.Node, pointer string) int {
	line := n.Line
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		var next *yaml.Node
		step = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					line, next = n.Content[i].Line, n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
				line, next = n.Content[i].Line, n.Content[i]
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return line
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

func (r *reader) yamlTree(data []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		line := 1
		message := strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			line, _ = strconv.Atoi(m[1])
			message = strings.Replace(message, m[0], "", 1)
		}
		if errors.Is(err, io.EOF) {
			message = "the file is empty"
		}
		r.fault(line, "not YAML: %s", message)
		return nil
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		r.fault(max(second.Line, 1), "one file holds one rule document")
		return nil
	}
	if len(document.Content) != 1 {
		r.fault(1, "the file is empty")
		return nil
	}
	r.plain(document.Content[0], 0)
	return document.Content[0]
}

// plain refuses what YAML has and JSON has not: a reader should see what a
// rule says without resolving references.
func (r *reader) plain(n *yaml.Node, depth int) {
	switch {
	case depth > authz.MaxDepth:
		r.fault(n.Line, "nested deeper than %d levels", authz.MaxDepth)
		return
	case n.Kind == yaml.AliasNode, n.Anchor != "", n.Tag == "!!merge":
		r.fault(n.Line, "anchors, aliases and merge keys are not read; write it out")
		return
	case n.Style&yaml.TaggedStyle != 0:
		r.fault(n.Line, "tag %s: tags are not read; leave it out", n.Tag)
		return
	}
	for _, child := range n.Content {
		r.plain(child, depth+1)
	}
}

// members says how to read each member of an object.
type members map[string]func(*yaml.Node)

// object reads a mapping and faults members that are unknown or come twice.
// It returns whether n is a mapping.
func (r *reader) object(n *yaml.Node, what string, known members) bool {
	if n.Kind != yaml.MappingNode {
		r.fault(n.Line, "%s: want an object, not %s", what, describe(n))
		return false
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := known[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			r.fault(key.Line, "%s: a member's name must be a string", what)
		case !ok:
			r.fault(key.Line, "%s: unknown member %q; it has %s", what, key.Value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case seen[key.Value]:
			r.fault(key.Line, "%s: member %q is given twice", what, key.Value)
		default:
			seen[key.Value] = true
			read(value)
		}
	}
	return true
}

// required faults members that n lacks.
func (r *reader) required(n *yaml.Node, what string, names ...string) {
	for _, name := range names {
		if member(n, name) == nil {
			r.fault(n.Line, "%s: %q is required", what, name)
		}
	}
}

func member(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return "a string"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "a boolean"
	case "!!timestamp":
		return "the date " + n.Value
	default:
		return "null"
	}
}

// list reads each element with read.
func (r *reader) list(n *yaml.Node, what string, read func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.fault(n.Line, "%s: want a list, not %s", what, describe(n))
		return
	}
	for _, element := range n.Content {
		read(element)
	}
}

// text reads a string that is not empty.
func (r *reader) text(n *yaml.Node, what string) string {
	switch {
	case n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str":
		r.fault(n.Line, "%s: want a string, not %s; put it in quotes if it is one", what, describe(n))
		return ""
	case strings.TrimSpace(n.Value) == "":
		r.fault(n.Line, "%s: must not be empty", what)
	}
	return n.Value
}

// texts reads a list of strings that are not empty.
func (r *reader) texts(n *yaml.Node, what string) []string {
	var all []string
	r.list(n, what, func(n *yaml.Node) { all = append(all, r.text(n, what)) })
	return all
}

// oneOf reads one of the given words.
func (r *reader) oneOf(n *yaml.Node, what string, words ...string) string {
	word := r.text(n, what)
	if word != "" && !slices.Contains(words, word) {
		r.fault(n.Line, "%s %q: want %s", what, word, strings.Join(words, ", "))
	}
	return word
}

func (r *reader) boolean(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Value != "true" && n.Value != "false" {
		r.fault(n.Line, "%s: want true or false, not %s", what, describe(n))
	}
	return n.Value == "true"
}

// positive reads a number above 0.
func (r *reader) positive(n *yaml.Node, what string) float64 {
	v := r.value(n, what)
	if v.Float() <= 0 {
		r.fault(n.Line, "%s: want a number above 0", what)
	}
	return v.Float()
}

// count reads an integer above 0.
func (r *reader) count(n *yaml.Node, what string) int64 {
	v := r.value(n, what)
	if v.Kind() != authz.KindInt || v.Int() <= 0 {
		r.fault(n.Line, "%s: want an integer above 0", what)
	}
	return v.Int()
}

// value reads any JSON value.
func (r *reader) value(n *yaml.Node, what string) authz.Value {
	switch n.Kind {
	case yaml.MappingNode:
		all := make([]authz.Member, 0, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i]; key.ShortTag() != "!!str" {
				r.fault(key.Line, "%s: a member's name must be a string", what)
			}
			all = append(all, authz.Member{Name: n.Content[i].Value, Value: r.value(n.Content[i+1], what)})
		}
		v, err := authz.ObjectValue(all...)
		if err != nil {
			r.fault(n.Line, "%s: %v", what, err)
		}
		return v
	case yaml.SequenceNode:
		all := make([]authz.Value, len(n.Content))
		for i := range n.Content {
			all[i] = r.value(n.Content[i], what)
		}
		return authz.ListValue(all...)
	}
	switch n.ShortTag() {
	case "!!str":
		return authz.StringValue(n.Value)
	case "!!bool":
		return authz.BoolValue(r.boolean(n, what))
	case "!!null":
		return authz.Value{}
	case "!!int", "!!float":
		v, err := authz.Parse([]byte(n.Value))
		if err == nil && (v.Kind() == authz.KindInt || v.Kind() == authz.KindFloat) {
			return v
		}
		r.fault(n.Line, "%s: %s is not a JSON number within the limits of requests", what, n.Value)
	default:
		r.fault(n.Line, "%s: want a JSON value, not %s; put it in quotes if it is a string", what, describe(n))
	}
	return authz.Value{}
}
