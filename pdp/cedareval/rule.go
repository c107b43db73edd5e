package cedareval

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// maxRuleID bounds a rule id, in bytes.
const maxRuleID = 128

// declaration is what a statement's annotations say.
type declaration struct {
	rule       *pdp.Rule
	path       string            // JSON pointer of its findings
	obligation *authz.Obligation // nil: none
}

// readRule reads the annotations of one statement. It reports every wrong one;
// the rule's id is filled in where there is one, for the faults' sake.
func readRule(statement *ast.Policy, shape *outline) (declaration, []*placedError) {
	d := declaration{rule: &pdp.Rule{Line: shape.line}}
	var faults []*placedError
	fault := func(line int, format string, args ...any) {
		faults = append(faults, &placedError{line, fmt.Sprintf(format, args...)})
	}
	values := map[string]string{}
	for _, a := range statement.Annotations {
		values[string(a.Key)] = string(a.Value)
	}
	d.rule.Kind = pdp.KindAllow
	if statement.Effect == ast.EffectForbid {
		d.rule.Kind = pdp.KindDeny
		if effect, ok := values["effect"]; ok && effect == "review" {
			d.rule.Kind = pdp.KindReview
		}
	}
	for _, a := range statement.Annotations {
		if err := d.annotate(string(a.Key), string(a.Value)); err != nil {
			fault(shape.annotations[string(a.Key)], "@%s: %v", a.Key, err)
		}
	}
	if d.rule.ID == "" {
		if _, given := values["id"]; !given {
			fault(shape.line, `this statement has no @id("…")`)
		}
	}
	if d.rule.Template != "" && d.rule.Kind == pdp.KindDeny && !d.rule.Waivable {
		fault(shape.annotations["template"], "@template: only a review or a waivable deny is put to approvers")
	}
	return d, faults
}

func (d *declaration) annotate(name, value string) error {
	rule := d.rule
	switch name {
	case "id":
		if err := validRuleID(value); err != nil {
			return err
		}
		rule.ID = value
	case "title":
		return nonEmpty(&rule.Title.EN, value)
	case "title_zh":
		return nonEmpty(&rule.Title.ZH, value)
	case "message":
		return nonEmpty(&rule.Message.EN, value)
	case "message_zh":
		return nonEmpty(&rule.Message.ZH, value)
	case "severity":
		if !slices.Contains([]string{"low", "medium", "high", "critical"}, value) {
			return errors.New("want low, medium, high or critical")
		}
		rule.Severity = value
	case "requirement":
		for id := range strings.SplitSeq(value, ",") {
			if id = strings.TrimSpace(id); id == "" {
				return errors.New(`want requirement ids such as "L2, L11"`)
			}
			rule.Requirement = append(rule.Requirement, id)
		}
	case "effect":
		if rule.Kind == pdp.KindAllow {
			return errors.New("a permit allows; only a forbid takes an effect")
		}
		if value != "review" {
			return errors.New(`want "review"; a forbid without it denies`)
		}
	case "waivable":
		if rule.Kind != pdp.KindDeny {
			return errors.New("only a deny can be waived")
		}
		return flag(&rule.Waivable, value)
	case "admits":
		if rule.Kind != pdp.KindReview {
			return errors.New("only a review admits")
		}
		return flag(&rule.Admits, value)
	case "template":
		if rule.Kind == pdp.KindAllow {
			return errors.New("only a review or a waivable deny is put to approvers")
		}
		return nonEmpty(&rule.Template, value)
	case "path":
		if err := validPath(value); err != nil {
			return err
		}
		d.path = value
	case "obligation":
		return d.readObligation(value)
	default:
		return errors.New("unknown annotation; see docs/policies.md for those there are")
	}
	return nil
}

func validRuleID(id string) error {
	if authz.ReservedRule(id) {
		return fmt.Errorf("%q is the decision core's own", id)
	}
	ok := id != "" && len(id) <= maxRuleID
	for i := range len(id) {
		ok = ok && (isWord(id[i]) || id[i] == '-' || id[i] == '.')
	}
	if !ok {
		return fmt.Errorf("%q: want at most %d letters, digits and ._-", id, maxRuleID)
	}
	return nil
}

func nonEmpty(to *string, value string) error {
	if value == "" {
		return errors.New("want a text that is not empty")
	}
	*to = value
	return nil
}

func flag(to *bool, value string) error {
	if value != "true" && value != "false" {
		return errors.New(`want "true" or "false"`)
	}
	*to = value == "true"
	return nil
}

// validPath accepts JSON pointers that can lead into a request.
func validPath(pointer string) error {
	for _, start := range []string{"/tenant", "/subject", "/action", "/resource", "/context"} {
		if rest, ok := strings.CutPrefix(pointer, start); ok && (rest == "" || rest[0] == '/') {
			return nil
		}
	}
	return errors.New("want a JSON pointer into the request, such as /resource/properties/region")
}

// readObligation reads one obligation. must is true unless it says otherwise.
func (d *declaration) readObligation(value string) error {
	v, err := authz.Parse([]byte(value))
	if err != nil {
		return err
	}
	obligation := &authz.Obligation{Must: true}
	if obligation.Params, err = authz.ObjectValue(); err != nil {
		return err
	}
	err = objectReader{
		"id": text(&obligation.ID),
		"must": func(v authz.Value) error {
			if v.Kind() != authz.KindBool {
				return errors.New("want true or false")
			}
			obligation.Must = v.Bool()
			return nil
		},
		"params": func(v authz.Value) error {
			if v.Kind() != authz.KindObject {
				return errors.New("want an object")
			}
			obligation.Params = v
			return nil
		},
	}.read(v)
	if err == nil && obligation.ID == "" {
		err = errors.New("id: required")
	}
	d.obligation = obligation
	return err
}
