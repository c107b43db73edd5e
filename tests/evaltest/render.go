package evaltest

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// rule is one rule, with its condition in each language.
type rule struct {
	id, effect       string // effect: deny, review or allow
	rego, cedar, cel string
	path             string // JSON pointer of the finding
	args             string // Rego: the object of placeholders
	message          string
	waivable         bool
	template         string
	obligation       string // JSON: {"id","must","params"}
	limit, route     string // JSON; Cedar has neither
}

// policy is one policy; its id is its place, "platform/p" by default.
type policy struct {
	id    string
	reads []string
	rules []rule
}

func (p policy) render(language string) (file, text string) {
	if p.id == "" {
		p.id = "platform/p"
	}
	switch language {
	case Rego:
		return p.id + ".rego", p.inRego()
	case Cedar:
		return p.id + ".cedar", p.inCedar()
	default:
		return p.id + ".policy.yaml", p.inCEL()
	}
}

func quoted(text any) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func indented(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n\t") }

func (p policy) inRego() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# METADATA\n# title: %s\n# custom:\n#   reads: %s\npackage xiezhi.%s\n", p.id, quoted(append([]string{}, p.reads...)), strings.ReplaceAll(p.id, "/", "."))
	for _, r := range p.rules {
		fmt.Fprintf(&b, "\n# METADATA\n# title: %s\n# custom:\n#   id: %s\n", r.id, r.id)
		if r.message != "" {
			fmt.Fprintf(&b, "#   message: {en: %s}\n", quoted(r.message))
		}
		if r.waivable {
			b.WriteString("#   waivable: true\n")
		}
		if r.template != "" {
			fmt.Fprintf(&b, "#   template: %s\n", r.template)
		}
		entry := `"rule": ` + quoted(r.id)
		if r.path != "" {
			entry += `, "path": ` + quoted(r.path)
		}
		if r.args != "" {
			entry += `, "args": ` + r.args
		}
		fmt.Fprintf(&b, "%s contains {%s} if {\n\t%s\n}\n", r.effect, entry, indented(r.rego))
		for _, set := range [][2]string{{"obligations", r.obligation}, {"limits", r.limit}, {"route", r.route}} {
			if members := set[1]; members != "" {
				fmt.Fprintf(&b, "\n%s contains {\"rule\": %s, %s if {\n\t%s\n}\n", set[0], quoted(r.id), strings.TrimPrefix(members, "{"), indented(r.rego))
			}
		}
	}
	return b.String()
}

func (p policy) inCedar() string {
	var b strings.Builder
	fmt.Fprintf(&b, "// @policy({\"title\":{\"en\":%s},\"reads\":%s})\n", quoted(p.id), quoted(append([]string{}, p.reads...)))
	for _, r := range p.rules {
		fmt.Fprintf(&b, "\n@id(%s)\n@title(%s)\n", quoted(r.id), quoted(r.id))
		for _, a := range [][2]string{{"message", r.message}, {"template", r.template}, {"path", r.path}, {"obligation", r.obligation}} {
			if a[1] != "" {
				fmt.Fprintf(&b, "@%s(%s)\n", a[0], quoted(a[1]))
			}
		}
		if r.waivable {
			b.WriteString("@waivable(\"true\")\n")
		}
		effect := "forbid"
		switch r.effect {
		case "allow":
			effect = "permit"
		case "review":
			b.WriteString("@effect(\"review\")\n")
		}
		fmt.Fprintf(&b, "%s (principal, action, resource)\nwhen {\n\t%s\n};\n", effect, indented(r.cedar))
	}
	return b.String()
}

func (p policy) inCEL() string {
	var b strings.Builder
	fmt.Fprintf(&b, "id: %s\ntitle: {en: %s}\nreads: %s\nrules:\n", path.Base(p.id), quoted(p.id), quoted(append([]string{}, p.reads...)))
	for _, r := range p.rules {
		fmt.Fprintf(&b, "  - id: %s\n    effect: %s\n    title: {en: %s}\n", r.id, strings.ToUpper(r.effect), quoted(r.id))
		if r.message != "" {
			fmt.Fprintf(&b, "    message: {en: %s}\n", quoted(r.message))
		}
		if r.waivable {
			b.WriteString("    waivable: true\n")
		}
		list := func(text string) string {
			if text == "" {
				return ""
			}
			return "[" + text + "]"
		}
		for _, m := range [][2]string{
			{"template", r.template}, {"path", r.path}, {"route", r.route}, {"obligations", list(r.obligation)}, {"limits", list(r.limit)},
		} {
			if m[1] != "" {
				fmt.Fprintf(&b, "    %s: %s\n", m[0], m[1])
			}
		}
		fmt.Fprintf(&b, "    condition: |\n      %s\n", strings.ReplaceAll(strings.TrimSpace(r.cel), "\n", "\n      "))
	}
	return b.String()
}
