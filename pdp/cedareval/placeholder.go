package cedareval

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// placeholder is a {dotted.path} in a message and where in the request its
// value stands.
type placeholder struct {
	name    string
	pointer string
}

// readPlaceholders finds the placeholders of both languages, each name once,
// sorted.
func readPlaceholders(message pdp.Text) ([]placeholder, error) {
	var found []placeholder
	for name := range message.Placeholders {
		pointer, err := requestPointer(name)
		if err != nil {
			return nil, err
		}
		found = append(found, placeholder{name, pointer})
	}
	slices.SortFunc(found, func(a, b placeholder) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(found, func(a, b placeholder) bool { return a.name == b.name }), nil
}

// requestPointer turns resource.properties.tenant into a JSON pointer.
func requestPointer(name string) (string, error) {
	steps := strings.Split(name, ".")
	if !knownPath(steps) || slices.Contains(steps, "") {
		return "", fmt.Errorf("placeholder {%s}: want a path into the request, such as {resource.properties.region}, {subject.id} or {context.source_ip}", name)
	}
	var pointer strings.Builder
	for _, step := range steps {
		pointer.WriteString("/" + escapeStep(step))
	}
	return pointer.String(), nil
}

// escapeStep writes one step of a JSON pointer (RFC 6901).
func escapeStep(step string) string {
	return strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1")
}

func knownPath(steps []string) bool {
	if len(steps) == 1 {
		return steps[0] == "tenant"
	}
	switch second := steps[1]; steps[0] {
	case "subject", "resource":
		return second == "properties" && len(steps) > 2 || (second == "type" || second == "id") && len(steps) == 2
	case "action":
		return second == "properties" && len(steps) > 2 || second == "name" && len(steps) == 2
	case "context":
		return true
	default:
		return false
	}
}

// reads returns what reading the placeholder needs declared, such as
// "context.run_id", or "" for what is always there.
func (p placeholder) reads() string {
	steps := strings.Split(p.name, ".")
	switch {
	case steps[0] == "context":
		return "context." + steps[1]
	case len(steps) > 2 && steps[0] != "action":
		return steps[0] + "." + steps[2]
	default:
		return ""
	}
}

// fill returns the object that fills the placeholders from a request, or null
// for none. What the request does not hold is "?".
func fill(placeholders []placeholder, request authz.Value) authz.Value {
	if len(placeholders) == 0 {
		return authz.Value{}
	}
	args := make([]authz.Member, len(placeholders))
	for i, p := range placeholders {
		v, ok := request.Lookup(p.pointer)
		if !ok {
			v = authz.StringValue("?")
		}
		args[i] = authz.Member{Name: p.name, Value: v}
	}
	object, _ := authz.ObjectValue(args...) // the names are distinct
	return object
}
