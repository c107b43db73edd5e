package policytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const (
	maxDocument = 4 << 20 // bytes in one file
	maxFaults   = 100     // told of one file
)

// document is one YAML file as a JSON value, and its faults. Places in it are
// JSON pointers; the line of a fault is found from its pointer.
type document struct {
	file   string
	root   *yaml.Node
	value  authz.Value
	faults pdp.Faults // the first of them
	wrong  int        // how many there are
}

// readDocument reads what JSON can say out of one YAML file.
func readDocument(file string, data []byte) *document {
	d := &document{file: file}
	if len(data) > maxDocument {
		d.fault("", "%d bytes; at most %d", len(data), maxDocument)
		return d
	}
	if !utf8.Valid(data) {
		d.fault("", "not valid UTF-8")
		return d
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := decoder.Decode(&first); errors.Is(err, io.EOF) || err == nil && len(first.Content) != 1 {
		d.fault("", "the file is empty")
		return d
	} else if err != nil {
		d.syntaxFault(err)
		return d
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		d.faultAt(max(second.Line, 1), "want one YAML document in the file")
		return d
	}
	d.root = first.Content[0]
	d.value = d.convert(d.root, 0)
	return d
}

func (d *document) fault(pointer, format string, args ...any) {
	if len(d.faults) == maxFaults { // spares finding the line
		d.wrong++
		return
	}
	message := fmt.Sprintf(format, args...)
	if pointer != "" {
		message = pointer + ": " + message
	}
	d.faultAt(d.line(pointer), "%s", message)
}

func (d *document) faultAt(line int, format string, args ...any) {
	d.wrong++
	if len(d.faults) == maxFaults {
		return
	}
	d.faults = append(d.faults, pdp.Fault{File: d.file, Line: line, Message: fmt.Sprintf(format, args...)})
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

func (d *document) syntaxFault(err error) {
	line, message := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = strings.Replace(message, m[0], "", 1)
	}
	d.faultAt(line, "not YAML: %s", message)
}

// line finds the line of the member that a pointer leads to, or of the last
// one on the way there.
func (d *document) line(pointer string) int {
	n := d.root
	if n == nil {
		return 0
	}
	line := n.Line
	for _, step := range steps(pointer) {
		var next *yaml.Node
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
			return line
		}
		n = next
	}
	return line
}

// convert refuses what YAML has and JSON has not.
func (d *document) convert(n *yaml.Node, depth int) authz.Value {
	switch {
	case depth > authz.MaxDepth:
		d.faultAt(n.Line, "nested deeper than %d levels", authz.MaxDepth)
		return authz.Value{}
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.faultAt(n.Line, "anchors and aliases are not read; write it out, or put it into the request that the cases share")
		return authz.Value{}
	case n.Style&yaml.TaggedStyle != 0:
		d.faultAt(n.Line, "tag %s: tags are not read; leave it out", n.Tag)
		return authz.Value{}
	case n.Kind == yaml.MappingNode:
		return d.convertMapping(n, depth)
	case n.Kind == yaml.SequenceNode:
		elems := make([]authz.Value, len(n.Content))
		for i, child := range n.Content {
			elems[i] = d.convert(child, depth+1)
		}
		return authz.ListValue(elems...)
	}
	v, err := scalar(n)
	if err != nil {
		d.faultAt(n.Line, "%v", err)
	}
	return v
}

func (d *document) convertMapping(n *yaml.Node, depth int) authz.Value {
	members := make([]authz.Member, 0, len(n.Content)/2)
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			d.faultAt(key.Line, "member name %q: want a string; put it in quotes", key.Value)
		case seen[key.Value]:
			d.faultAt(key.Line, "member %q is given twice", key.Value)
		default:
			seen[key.Value] = true
			members = append(members, authz.Member{Name: key.Value, Value: d.convert(n.Content[i+1], depth+1)})
		}
	}
	v, _ := authz.ObjectValue(members...) // no name is there twice
	return v
}

// scalar reads one value. A date is the text that stands there: JSON has none.
func scalar(n *yaml.Node) (authz.Value, error) {
	switch n.ShortTag() {
	case "!!null":
		return authz.Value{}, nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return authz.BoolValue(b), err
	case "!!int", "!!float":
		v, err := authz.Parse([]byte(n.Value))
		if err != nil || v.Number() == "" {
			return authz.Value{}, fmt.Errorf("%s is not a number that a request can carry; put it in quotes if it is text", n.Value)
		}
		return v, nil
	default:
		return authz.StringValue(n.Value), nil
	}
}

// object checks that v is an object with none but the known members; no names
// means any.
func (d *document) object(v authz.Value, at string, known ...string) bool {
	if v.Kind() != authz.KindObject {
		d.fault(at, "want an object, not a %s", v.Kind())
		return false
	}
	for i := range v.Len() {
		if name := v.Name(i); len(known) > 0 && !slices.Contains(known, name) {
			d.fault(join(at, name), "unknown member; it has %s", strings.Join(known, ", "))
		}
	}
	return true
}

func (d *document) text(v authz.Value, at string) string {
	if v.Kind() != authz.KindString || v.Text() == "" {
		d.fault(at, "want a string that is not empty, not a %s", v.Kind())
	}
	return v.Text()
}

// texts reads a list of strings. It is never nil.
func (d *document) texts(v authz.Value, at string) []string {
	all := []string{}
	if v.Kind() != authz.KindList {
		d.fault(at, "want a list, not a %s", v.Kind())
		return all
	}
	for i := range v.Len() {
		all = append(all, d.text(v.Index(i), join(at, strconv.Itoa(i))))
	}
	return all
}
