package cedareval

import (
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// read returns v as Cedar has it; t is its type under the schema, nil for none.
// It is false where Cedar, or the type, has no such value. What is missing
// further down is left out: findGaps says where.
func read(v authz.Value, t resolved.IsType) (types.Value, bool) {
	switch t := t.(type) {
	case nil:
		return readPlain(v)
	case resolved.StringType:
		return readKind(v, authz.KindString)
	case resolved.LongType:
		return readKind(v, authz.KindInt)
	case resolved.BoolType:
		return readKind(v, authz.KindBool)
	case resolved.EntityType:
		return readReference(v, types.EntityType(t))
	case resolved.ExtensionType:
		return readExtension(v, string(t))
	case resolved.SetType:
		if v.Kind() != authz.KindList {
			return nil, false
		}
		return readSet(v, t.Element), true
	case resolved.RecordType:
		if v.Kind() != authz.KindObject {
			return nil, false
		}
		return readRecord(v, func(name string) (resolved.IsType, bool) {
			attribute, ok := t[types.String(name)]
			return attribute.Type, ok
		}), true
	default:
		return nil, false
	}
}

func readKind(v authz.Value, want authz.Kind) (types.Value, bool) {
	if v.Kind() != want {
		return nil, false
	}
	return readPlain(v)
}

func readPlain(v authz.Value) (types.Value, bool) {
	switch v.Kind() {
	case authz.KindBool:
		return types.Boolean(v.Bool()), true
	case authz.KindInt:
		return types.Long(v.Int()), true
	case authz.KindFloat:
		return readDecimal(v.Number())
	case authz.KindString:
		return types.String(v.Text()), true
	case authz.KindList:
		return readSet(v, nil), true
	case authz.KindObject:
		return readRecord(v, func(string) (resolved.IsType, bool) { return nil, true }), true
	default:
		return nil, false
	}
}

// readDecimal refuses more than four places and exponents, which mean more.
func readDecimal(text string) (types.Value, bool) {
	d, err := types.ParseDecimal(text)
	return d, err == nil
}

func readSet(v authz.Value, element resolved.IsType) types.Value {
	elements := make([]types.Value, 0, v.Len())
	for i := range v.Len() {
		if e, ok := read(v.Index(i), element); ok {
			elements = append(elements, e)
		}
	}
	return types.NewSet(elements...)
}

func readRecord(v authz.Value, typeOf func(name string) (resolved.IsType, bool)) types.Value {
	record := make(types.RecordMap, v.Len())
	for i := range v.Len() {
		t, known := typeOf(v.Name(i))
		if !known {
			continue
		}
		if member, ok := read(v.Index(i), t); ok {
			record[types.String(v.Name(i))] = member
		}
	}
	return types.NewRecord(record)
}

// readReference reads {"type","id"}, alone or under __entity. The type may be
// written with dots, as requests do, or with "::".
func readReference(v authz.Value, want types.EntityType) (types.Value, bool) {
	if inner, ok := v.Get("__entity"); ok {
		v = inner
	}
	typ, hasType := v.Get("type")
	id, hasID := v.Get("id")
	if !hasType || !hasID || v.Len() != 2 || typ.Kind() != authz.KindString || id.Kind() != authz.KindString {
		return nil, false
	}
	if strings.ReplaceAll(typ.Text(), ".", "::") != string(want) {
		return nil, false
	}
	return types.NewEntityUID(want, types.String(id.Text())), true
}

// readExtension reads "10.0.0.1", alone or as {"fn","arg"}, alone or under
// __extn. Where a decimal is declared, a number serves.
func readExtension(v authz.Value, want string) (types.Value, bool) {
	if call, ok := v.Get("__extn"); ok {
		v = call
	}
	if v.Kind() == authz.KindObject {
		function, _ := v.Get("fn")
		argument, _ := v.Get("arg")
		if name := function.Text(); v.Len() != 2 || name != want && (name != "ip" || want != "ipaddr") {
			return nil, false
		}
		if v = argument; v.Kind() != authz.KindString {
			return nil, false
		}
	}
	switch {
	case want == "decimal" && v.Kind() == authz.KindInt:
		d, err := types.NewDecimal(v.Int(), 0)
		return d, err == nil
	case want == "decimal" && v.Kind() == authz.KindFloat:
		return readDecimal(v.Number())
	case v.Kind() != authz.KindString:
		return nil, false
	}
	var value types.Value
	var err error
	switch want {
	case "decimal":
		value, err = types.ParseDecimal(v.Text())
	case "ipaddr":
		value, err = types.ParseIPAddr(v.Text())
	case "datetime":
		value, err = types.ParseDatetime(v.Text())
	case "duration":
		value, err = types.ParseDuration(v.Text())
	default:
		return nil, false
	}
	return value, err == nil
}

// trail is the way from a root to a value, last step first. It lives on the
// stack of findGaps, so that a request without gaps costs no memory.
type trail struct {
	up   *trail
	step string
}

func (t *trail) place(r root) place {
	depth := 0
	for at := t; at != nil; at = at.up {
		depth++
	}
	steps := make([]string, depth)
	for at := t; at != nil; at = at.up {
		depth--
		steps[depth] = at.step
	}
	return place{r, steps}
}

// element is the step into a list. No policy can name it.
const element = "[]"

// findGaps appends the places at and below v that read leaves out.
func findGaps(gaps []place, r root, at *trail, v authz.Value, t resolved.IsType) []place {
	record, typed := t.(resolved.RecordType)
	set, typedSet := t.(resolved.SetType)
	switch {
	case v.Kind() == authz.KindList && (t == nil || typedSet):
		for i := range v.Len() {
			gaps = findGaps(gaps, r, &trail{at, element}, v.Index(i), set.Element)
		}
	case v.Kind() == authz.KindObject && (t == nil || typed):
		for i := range v.Len() {
			below := &trail{at, v.Name(i)}
			attribute, declared := record[types.String(v.Name(i))]
			if typed && !declared {
				gaps = append(gaps, below.place(r))
				continue
			}
			gaps = findGaps(gaps, r, below, v.Index(i), attribute.Type)
		}
		gaps = findMissing(gaps, r, at, v, record)
	case t == nil && plain(v.Kind()):
	default:
		if _, ok := read(v, t); !ok {
			gaps = append(gaps, at.place(r))
		}
	}
	return gaps
}

// plain reports whether every value of the kind is one of Cedar's.
func plain(k authz.Kind) bool {
	return k == authz.KindString || k == authz.KindInt || k == authz.KindBool
}

// findMissing appends the members that the record requires and v lacks.
func findMissing(gaps []place, r root, at *trail, v authz.Value, record resolved.RecordType) []place {
	for name, attribute := range record {
		if attribute.Optional {
			continue
		}
		if _, given := v.Get(string(name)); !given {
			gaps = append(gaps, (&trail{at, string(name)}).place(r))
		}
	}
	return gaps
}
