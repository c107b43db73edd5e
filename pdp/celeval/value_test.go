package celeval

import (
	"testing"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// anyValue draws JSON values, from few names and numbers so that two often meet.
func anyValue(depth int) *rapid.Generator[authz.Value] {
	return rapid.Custom(func(t *rapid.T) authz.Value {
		kinds := 7
		if depth == 0 {
			kinds = 5
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return authz.Value{}
		case 1:
			return authz.BoolValue(rapid.Bool().Draw(t, "bool"))
		case 2:
			return authz.MustValue(rapid.Int64Range(-2, 2).Draw(t, "int"))
		case 3:
			return authz.MustValue(float64(rapid.IntRange(-5, 5).Draw(t, "halves")) / 2)
		case 4:
			return authz.StringValue(rapid.SampledFrom([]string{"", "a", "b", "é", "e\u0301"}).Draw(t, "text"))
		case 5:
			return authz.ListValue(rapid.SliceOfN(anyValue(depth-1), 0, 3).Draw(t, "list")...)
		default:
			members := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "é"}), anyValue(depth-1), 0, 3).Draw(t, "object")
			v := authz.Value{}.With("x", authz.Value{}).Without("x")
			for name, member := range members {
				v = v.With(name, member)
			}
			return v
		}
	})
}

// What CEL sees must not depend on whether it sees our values or Go's own.
func TestValuesBehaveAsTheirGoForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyValue(3).Draw(t, "a"), anyValue(3).Draw(t, "b")
		ours, theirs := celValue(a), types.DefaultTypeAdapter.NativeToValue(a.Any())
		other, otherTheirs := celValue(b), types.DefaultTypeAdapter.NativeToValue(b.Any())
		for _, pair := range [][2]ref.Val{{ours, theirs}, {theirs, ours}, {ours, celValue(a)}} {
			if types.Equal(pair[0], pair[1]) != types.True {
				t.Fatalf("%s is not equal to itself", a.AppendJSON(nil))
			}
		}
		want := types.Equal(theirs, otherTheirs)
		for _, pair := range [][2]ref.Val{{ours, other}, {ours, otherTheirs}, {theirs, other}} {
			if types.Equal(pair[0], pair[1]) != want {
				t.Fatalf("%s == %s is not %v", a.AppendJSON(nil), b.AppendJSON(nil), want)
			}
		}
		if ours.Type() != theirs.Type() {
			t.Fatalf("type %v, want %v", ours.Type(), theirs.Type())
		}
		if m, ok := ours.(traits.Mapper); ok {
			their := theirs.(traits.Mapper)
			for _, key := range []ref.Val{types.String("a"), types.String("b"), types.String("é"), types.String("z")} {
				if m.Contains(key) != their.Contains(key) || m.Size() != their.Size() || types.IsError(m.Get(key)) != types.IsError(their.Get(key)) {
					t.Fatalf("%s[%v] differs", a.AppendJSON(nil), key)
				}
			}
		}
		if l, ok := ours.(traits.Lister); ok {
			their := theirs.(traits.Lister)
			if l.Contains(other) != their.Contains(otherTheirs) {
				t.Fatalf("%s in %s is not %v", b.AppendJSON(nil), a.AppendJSON(nil), their.Contains(otherTheirs))
			}
			for _, i := range []ref.Val{types.Int(-1), types.Int(0), types.Int(1), types.Int(9), types.Double(1), types.Double(0.5), types.String("0")} {
				if types.IsError(l.Get(i)) != types.IsError(their.Get(i)) {
					t.Fatalf("%s[%v]: %v, want %v", a.AppendJSON(nil), i, l.Get(i), their.Get(i))
				}
			}
			if types.Equal(l.Add(celValue(authz.ListValue(b))), their.Add(types.DefaultTypeAdapter.NativeToValue([]any{b.Any()}))) != types.True {
				t.Fatalf("%s + [%s] differs", a.AppendJSON(nil), b.AppendJSON(nil))
			}
		}
	})
}
