package pdp

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Masked replaces a value in records.
const Masked = "***"

// masking hides what policies call sensitive, and remembers what it hid.
type masking struct {
	hidden []string // as messages would show it
}

// recorded returns the question and the answer as they are written down: what
// applicable policies call sensitive is in neither.
func (q *question) recorded(d *authz.Decision) (authz.Request, *authz.Decision) {
	if !q.matched.masks() {
		return q.original, d
	}
	var m masking
	request := m.all(q.matched, q.original)
	resolved := m.all(q.matched, *q.input.Request)
	if len(m.hidden) == 0 {
		return request, d
	}
	in := q.input
	in.Value = resolved.Value()
	told := q.combineOn(&in).Decision
	told.ID, told.Approval = d.ID, d.Approval
	for i := range told.Reasons {
		// Arguments, and what a failing built-in says, may hold it too.
		r := &told.Reasons[i]
		r.Message, r.MessageZH = m.scrub(r.Message), m.scrub(r.MessageZH)
	}
	return request, &told
}

// Masked returns the request as a record or a grant may hold it.
func (s *Snapshot) Masked(req authz.Request, now time.Time) authz.Request {
	return new(masking).all(s.match(&req, now), req)
}

// masks reports whether a policy calls anything sensitive.
func (m matched) masks() bool {
	for p := range m.policies {
		if len(p.Masks) > 0 {
			return true
		}
	}
	return false
}

func (m *masking) all(applicable matched, req authz.Request) authz.Request {
	for p := range applicable.policies {
		for _, pointer := range p.Masks {
			place, steps := maskPlace(&req, pointer)
			if place != nil {
				*place = m.value(*place, steps)
			}
		}
	}
	return req
}

// maskPlace splits a pointer into the part of the request that masks may
// change, and the steps below it; nil where it names no such place.
func maskPlace(req *authz.Request, pointer string) (place *authz.Value, steps []string) {
	for _, part := range []struct {
		start string
		place *authz.Value
	}{
		{"/subject/properties/", &req.Subject.Properties},
		{"/action/properties/", &req.Action.Properties},
		{"/resource/properties/", &req.Resource.Properties},
		{"/context/", &req.Context},
	} {
		if rest, ok := strings.CutPrefix(pointer, part.start); ok && rest != "" {
			steps = strings.Split(rest, "/")
			for i := range steps {
				steps[i] = strings.ReplaceAll(strings.ReplaceAll(steps[i], "~1", "/"), "~0", "~")
			}
			return part.place, steps
		}
	}
	return nil, nil
}

// checkMask refuses a mask that would hide nothing.
func checkMask(pointer string) error {
	if place, _ := maskPlace(new(authz.Request), pointer); place == nil {
		return fmt.Errorf("mask %q: want a JSON pointer below /subject/properties, /action/properties, /resource/properties or /context", pointer)
	}
	return nil
}

// value replaces what the steps name inside v; "*" is any element or member.
// What has another form than the steps expect is replaced whole: what is
// sensitive may be anywhere in it.
func (m *masking) value(v authz.Value, steps []string) authz.Value {
	if len(steps) == 0 {
		return m.hide(v)
	}
	step := steps[0]
	_, noIndex := strconv.Atoi(step)
	switch v.Kind() {
	case authz.KindString, authz.KindInt, authz.KindFloat:
		return m.hide(v)
	case authz.KindList:
		if step != "*" && noIndex != nil {
			return m.hide(v)
		}
	}
	return v.Map(func(name string, child authz.Value) authz.Value {
		if step == "*" || step == name {
			return m.value(child, steps[1:])
		}
		return child
	})
}

func (m *masking) hide(v authz.Value) authz.Value {
	switch v.Kind() {
	case authz.KindString, authz.KindInt, authz.KindFloat:
		if shown := fillValue(v); shown != "" && !slices.Contains(m.hidden, shown) {
			m.hidden = append(m.hidden, shown)
		}
	case authz.KindList, authz.KindObject:
		for i := range v.Len() {
			m.hide(v.Index(i))
		}
	}
	return authz.StringValue(Masked)
}

// scrub replaces what was hidden where a text shows it, the longest first.
func (m *masking) scrub(text string) string {
	slices.SortFunc(m.hidden, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, shown := range m.hidden {
		text = strings.ReplaceAll(text, shown, Masked)
	}
	return text
}
