package policytest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// merge applies an RFC 7396 merge patch: objects merge, null removes, anything
// else replaces.
func merge(target, patch authz.Value) authz.Value {
	if patch.Kind() != authz.KindObject {
		return patch
	}
	if target.Kind() != authz.KindObject {
		target, _ = authz.ObjectValue() // no members, no error
	}
	for i := range patch.Len() {
		name, member := patch.Name(i), patch.Index(i)
		if member.Kind() == authz.KindNull {
			target = target.Without(name)
			continue
		}
		old, _ := target.Get(name)
		target = target.With(name, merge(old, member))
	}
	return target
}

// setAt returns v with the element at the given steps set. The last step may
// name a new member of an object, or "-" for a new element of a list; the
// others must be there.
func setAt(v authz.Value, steps []string, value authz.Value) (authz.Value, error) {
	if len(steps) == 0 {
		return value, nil
	}
	step, rest := steps[0], steps[1:]
	switch v.Kind() {
	case authz.KindObject:
		child, ok := v.Get(step)
		if !ok && len(rest) > 0 {
			return v, fmt.Errorf("there is no member %q to set something in", step)
		}
		child, err := setAt(child, rest, value)
		return v.With(step, child), err
	case authz.KindList:
		elems := make([]authz.Value, v.Len())
		for i := range elems {
			elems[i] = v.Index(i)
		}
		if step == "-" && len(rest) == 0 {
			return authz.ListValue(append(elems, value)...), nil
		}
		i, err := strconv.Atoi(step)
		if err != nil || i < 0 || i >= len(elems) || strconv.Itoa(i) != step {
			return v, fmt.Errorf("there is no element %q in a list of %d", step, len(elems))
		}
		elems[i], err = setAt(elems[i], rest, value)
		return authz.ListValue(elems...), err
	default:
		return v, fmt.Errorf("cannot set %q in a %s", step, v.Kind())
	}
}

// steps takes an RFC 6901 pointer apart.
func steps(pointer string) []string {
	if pointer == "" {
		return nil
	}
	all := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i := range all {
		all[i] = strings.ReplaceAll(strings.ReplaceAll(all[i], "~1", "/"), "~0", "~")
	}
	return all
}

// join extends a pointer by one step.
func join(pointer, step string) string {
	return pointer + "/" + strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1")
}

// set is a list as a set: sorted, without repetition, never nil.
func set(list []string) []string {
	sorted := append([]string{}, list...)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
