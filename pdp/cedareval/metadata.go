package cedareval

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// metadataStart begins the comment line that holds a policy's metadata.
const metadataStart = "// @policy("

// readMetadata fills p from the file's one metadata comment. A file without
// one has the defaults: it applies to everything and reads nothing. Errors are
// [*placedError]s.
func readMetadata(p *pdp.Policy, text string, comments []span) error {
	found := 0
	for _, c := range comments {
		line := strings.TrimRight(c.of(text), " \t\r")
		object, ok := strings.CutPrefix(line, metadataStart)
		if !ok {
			// A misspelt start would drop the masks and the strict audit of the policy without a word.
			if strings.HasPrefix(strings.ToLower(strings.TrimLeft(line, "/ \t")), "@policy") {
				return &placedError{c.line, "policy metadata begins exactly with " + metadataStart}
			}
			continue
		}
		if found > 0 {
			return &placedError{c.line, fmt.Sprintf("a second policy metadata comment; the first is on line %d", found)}
		}
		found = c.line
		if object, ok = strings.CutSuffix(object, ")"); !ok {
			return &placedError{c.line, "policy metadata is one JSON object on one line and ends with )"}
		}
		v, err := authz.Parse([]byte(object))
		if err == nil {
			err = policyMembers(p).read(v)
		}
		if err != nil {
			return &placedError{c.line, "policy metadata: " + err.Error()}
		}
	}
	return nil
}

func policyMembers(p *pdp.Policy) objectReader {
	return objectReader{
		"title": textMembers(&p.Title).read,
		"scope": objectReader{
			"actions":         patterns(&p.Scope.Actions),
			"resource_types":  patterns(&p.Scope.ResourceTypes),
			"business_system": text(&p.Scope.BusinessSystem),
		}.read,
		"reads": texts(&p.Reads, func(name string) error {
			entity, member, _ := strings.Cut(name, ".")
			if member == "" || entity != "context" && strings.Contains(member, ".") || !slices.Contains([]string{"subject", "resource", "context"}, entity) {
				return fmt.Errorf("%q: want subject.<property>, resource.<property> or context.<member>", name)
			}
			return nil
		}),
		"unbound": texts(&p.Unbound, func(string) error { return nil }),
		"masks": texts(&p.Masks, func(pointer string) error {
			for _, start := range []string{"/subject/properties/", "/action/properties/", "/resource/properties/", "/context/"} {
				if len(pointer) > len(start) && strings.HasPrefix(pointer, start) {
					return nil
				}
			}
			return fmt.Errorf("%q: want a JSON pointer below /subject/properties, /action/properties, /resource/properties or /context", pointer)
		}),
		"audit": func(v authz.Value) error {
			switch v.Text() {
			case "strict":
				p.Audit = pdp.Strict
			case "buffered":
				p.Audit = pdp.Buffered
			default:
				return fmt.Errorf(`want "strict" or "buffered"`)
			}
			return nil
		},
		"stale_bound": func(v authz.Value) error {
			d, err := time.ParseDuration(v.Text())
			if err != nil || d <= 0 {
				return fmt.Errorf(`want a positive duration such as "1h"`)
			}
			p.StaleBound = d
			return nil
		},
	}
}

func textMembers(t *pdp.Text) objectReader {
	return objectReader{"en": text(&t.EN), "zh": text(&t.ZH)}
}

// objectReader reads an object: each member by its name, no others.
type objectReader map[string]func(authz.Value) error

func (m objectReader) read(v authz.Value) error {
	if v.Kind() != authz.KindObject {
		return fmt.Errorf("want an object, not a %s", v.Kind())
	}
	for i := range v.Len() {
		read, known := m[v.Name(i)]
		if !known {
			return fmt.Errorf("unknown member %q; want %s", v.Name(i), strings.Join(slices.Sorted(maps.Keys(m)), ", "))
		}
		if err := read(v.Index(i)); err != nil {
			return fmt.Errorf("%s: %w", v.Name(i), err)
		}
	}
	return nil
}

// text reads a string that is not empty.
func text(to *string) func(authz.Value) error {
	return func(v authz.Value) error {
		if v.Text() == "" {
			return fmt.Errorf("want a string that is not empty")
		}
		*to = v.Text()
		return nil
	}
}

// texts reads a list of strings, each checked.
func texts(to *[]string, check func(string) error) func(authz.Value) error {
	return func(v authz.Value) error {
		if v.Kind() != authz.KindList {
			return fmt.Errorf("want a list of strings, not a %s", v.Kind())
		}
		for i := range v.Len() {
			var element string
			if err := text(&element)(v.Index(i)); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
			if err := check(element); err != nil {
				return err
			}
			*to = append(*to, element)
		}
		return nil
	}
}

func patterns(to *[]string) func(authz.Value) error {
	return texts(to, func(pattern string) error {
		if strings.Contains(strings.TrimSuffix(pattern, "*"), "*") {
			return fmt.Errorf("%q: a * may stand only at the end", pattern)
		}
		return nil
	})
}
