package authz

import (
	"encoding"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ParseDecision reads what [Decision.AppendJSON] writes, strictly: an unknown
// member, a wrong type, a missing effect, or an answer that contradicts itself
// is a [*FieldError], and then the zero Decision denies.
func ParseDecision(data []byte) (Decision, error) {
	v, err := parseTo(data, MaxAuditDepth)
	if err != nil {
		return Decision{}, err
	}
	var d Decision
	var says bool
	seen := map[string]bool{}
	err = eachMember(v, func(name string, v Value) (err error) {
		seen[name] = true
		switch name {
		case "decision_id":
			d.ID, err = textOf(v)
		case "effect":
			err = unmarshalText(v, &d.Effect)
		case "decision":
			says, err = boolOf(v)
		case "revision":
			err = unmarshalText(v, &d.Revision)
		case "stale":
			d.Stale, err = boolOf(v)
		case "reasons":
			d.Reasons, err = listOf(v, parseReason)
		case "obligations":
			d.Obligations, err = listOf(v, parseObligation)
		case "limits":
			d.Limits, err = listOf(v, parseLimit)
		case "route":
			d.Route, err = optionalOf(v, parseRoute)
		case "approval":
			d.Approval, err = optionalOf(v, parseApproval)
		case "permit":
			d.Permit, err = optionalOf(v, textOf)
		default:
			err = errUnknownMember
		}
		return err
	})
	if err != nil {
		return Decision{}, err
	}
	for _, name := range []string{"decision_id", "effect", "decision", "revision", "obligations", "limits"} {
		if !seen[name] {
			return Decision{}, &FieldError{Path: "/" + name, Detail: "required"}
		}
	}
	if says != d.Allowed() {
		return Decision{}, &FieldError{Path: "/decision", Detail: fmt.Sprintf("%t, and the effect is %s", says, d.Effect)}
	}
	return d, nil
}

var errUnknownMember = errors.New("unknown member")

func eachMember(v Value, set func(name string, v Value) error) error {
	if v.Kind() != KindObject {
		return &FieldError{Detail: fmt.Sprintf("want an object, not a %s", v.Kind())}
	}
	for i := range v.Len() {
		if err := set(v.Name(i), v.Index(i)); err != nil {
			return Under(err, "/"+escapePointer(v.Name(i)))
		}
	}
	return nil
}

func listOf[T any](v Value, parse func(Value) (T, error)) ([]T, error) {
	if v.Kind() != KindList {
		return nil, fmt.Errorf("want a list, not a %s", v.Kind())
	}
	var list []T
	for i := range v.Len() {
		elem, err := parse(v.Index(i))
		if err != nil {
			return nil, Under(err, "/"+strconv.Itoa(i))
		}
		list = append(list, elem)
	}
	return list, nil
}

func optionalOf[T any](v Value, parse func(Value) (T, error)) (*T, error) {
	if v.Kind() == KindNull {
		return nil, nil
	}
	parsed, err := parse(v)
	if err != nil {
		return nil, err
	}
	return &parsed, nil
}

func unmarshalText(v Value, to encoding.TextUnmarshaler) error {
	text, err := textOf(v)
	if err != nil {
		return err
	}
	return to.UnmarshalText([]byte(text))
}

func boolOf(v Value) (bool, error) {
	if v.Kind() != KindBool {
		return false, fmt.Errorf("want true or false, not a %s", v.Kind())
	}
	return v.Bool(), nil
}

func countOf(v Value) (int64, error) {
	if v.Kind() != KindInt {
		return 0, fmt.Errorf("want an integer, not a %s", v.Kind())
	}
	return v.Int(), nil
}

func parseReason(v Value) (r Reason, err error) {
	return r, eachMember(v, func(name string, v Value) error {
		if name == "effect" {
			return unmarshalText(v, &r.Effect)
		}
		texts := map[string]*string{
			"policy": &r.Policy, "rule": &r.Rule, "message": &r.Message, "message_zh": &r.MessageZH, "path": &r.Path,
			"severity": &r.Severity, "grant": &r.Grant, "cause": &r.Cause, "location": &r.Location, "failed_rule": &r.FailedRule,
		}
		return setText(texts[name], v)
	})
}

// setText sets a text member; to is nil where there is no such member.
func setText(to *string, v Value) (err error) {
	if to == nil {
		return errUnknownMember
	}
	*to, err = textOf(v)
	return err
}

func parseObligation(v Value) (o Obligation, err error) {
	o.Must = true // until it says otherwise
	return o, eachMember(v, func(name string, v Value) (err error) {
		switch name {
		case "policy":
			o.Policy, err = textOf(v)
		case "rule":
			o.Rule, err = textOf(v)
		case "id":
			o.ID, err = textOf(v)
		case "must":
			o.Must, err = boolOf(v)
		case "params":
			o.Params = v
		default:
			err = errUnknownMember
		}
		return err
	})
}

func parseLimit(v Value) (l Limit, err error) {
	return l, eachMember(v, func(name string, v Value) (err error) {
		switch name {
		case "policy":
			l.Policy, err = textOf(v)
		case "rule":
			l.Rule, err = textOf(v)
		case "key":
			l.Key, err = textOf(v)
		case "window":
			l.Window, err = textOf(v)
		case "burst":
			l.Burst, err = countOf(v)
		case "cost":
			l.Cost, err = countOf(v)
		case "rate":
			if k := v.Kind(); k != KindInt && k != KindFloat {
				return fmt.Errorf("want a number, not a %s", k)
			}
			l.Rate = v.Float()
		case "quota":
			l.Quota, err = optionalOf(v, parseQuota)
		default:
			err = errUnknownMember
		}
		return err
	})
}

func parseQuota(v Value) (q Quota, err error) {
	return q, eachMember(v, func(name string, v Value) (err error) {
		switch name {
		case "max":
			q.Max, err = countOf(v)
		case "reset":
			q.Reset, err = textOf(v)
		default:
			err = errUnknownMember
		}
		return err
	})
}

func parseRoute(v Value) (r Route, err error) {
	return r, eachMember(v, func(name string, v Value) error {
		return setText(map[string]*string{"policy": &r.Policy, "rule": &r.Rule, "pool": &r.Pool, "standby": &r.Standby}[name], v)
	})
}

func parseApproval(v Value) (a Approval, err error) {
	return a, eachMember(v, func(name string, v Value) (err error) {
		switch name {
		case "id":
			a.ID, err = textOf(v)
		case "status":
			a.Status, err = textOf(v)
		case "expires_at":
			var text string
			if text, err = textOf(v); err == nil {
				a.ExpiresAt, err = time.Parse(time.RFC3339Nano, text)
			}
		case "break_glass":
			a.BreakGlass, err = boolOf(v)
		default:
			err = errUnknownMember
		}
		return err
	})
}
