package builtin

import (
	"math"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var times = table{
	ast.NowNanos.Name: func(c *Call, _ []value.Value) (value.Value, error) { return ofInt(c.Now.UnixNano()) },
	ast.ParseRFC3339Nanos.Name: text1(func(_ *Call, s string) (value.Value, error) {
		return instant(time.Parse(time.RFC3339, s))
	}),
	ast.ParseNanos.Name: text2(func(_ *Call, layout, s string) (value.Value, error) {
		return instant(time.Parse(layoutOf(layout), s))
	}),
	ast.ParseDurationNanos.Name: text1(duration),
	ast.Format.Name:             formatTime,
	ast.Date.Name:               date,
	ast.Clock.Name:              clock,
	ast.Weekday.Name:            weekday,
	ast.AddDate.Name:            addDate,
	ast.Diff.Name:               timeDiff,
}

var (
	firstInstant = time.Unix(0, math.MinInt64)
	lastInstant  = time.Unix(0, math.MaxInt64)
)

// instant is a time in nanoseconds, if they can be counted.
func instant(t time.Time, err error) (value.Value, error) {
	if err != nil || t.Before(firstInstant) || t.After(lastInstant) {
		return ask()
	}
	return ofInt(t.UnixNano())
}

// duration leaves days, weeks and years to OPA.
func duration(_ *Call, s string) (value.Value, error) {
	if strings.ContainsAny(s, "dwy") {
		return ask()
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return ask()
	}
	return ofInt(int64(d))
}

// timeOf reads nanoseconds, or [nanoseconds, zone, layout]; the layout is "" where
// there is none.
func timeOf(v value.Value) (t time.Time, layout string, ok bool) {
	at, zone := v, time.UTC
	if v.Kind() == value.Array {
		if v.Len() == 0 {
			return t, "", false
		}
		at = v.Elem(0)
		if v.Len() > 1 {
			if zone, ok = zoneOf(v.Elem(1)); !ok {
				return t, "", false
			}
		}
		if v.Len() > 2 {
			if v.Elem(2).Kind() != value.String {
				return t, "", false
			}
			layout = v.Elem(2).Text()
		}
	}
	ns, ok := at.Int()
	return time.Unix(0, ns).In(zone), layout, ok
}

var zones compiled[*time.Location]

func zoneOf(v value.Value) (*time.Location, bool) {
	if v.Kind() != value.String {
		return nil, false
	}
	switch name := v.Text(); name {
	case "", "UTC":
		return time.UTC, true
	case "Local":
		return time.Local, true
	default:
		zone, err := zones.get(name, nil, func(s source) (*time.Location, error) { return time.LoadLocation(s.text) })
		return zone, err == nil
	}
}

// layoutOf knows the layouts that OPA has names for.
func layoutOf(name string) string {
	switch name {
	case "ANSIC":
		return time.ANSIC
	case "UnixDate":
		return time.UnixDate
	case "RubyDate":
		return time.RubyDate
	case "RFC822":
		return time.RFC822
	case "RFC822Z":
		return time.RFC822Z
	case "RFC850":
		return time.RFC850
	case "RFC1123":
		return time.RFC1123
	case "RFC1123Z":
		return time.RFC1123Z
	case "RFC3339":
		return time.RFC3339
	case "RFC3339Nano":
		return time.RFC3339Nano
	}
	return name
}

func formatTime(c *Call, args []value.Value) (value.Value, error) {
	t, layout, ok := timeOf(args[0])
	if !ok {
		return ask()
	}
	if layout == "" {
		layout = time.RFC3339Nano
	}
	return c.made(t.AppendFormat(c.text[:0], layoutOf(layout)))
}

// ints is an array of small numbers.
func (c *Call) ints(numbers ...int) (value.Value, error) {
	array := c.Heap.NewArray(len(numbers))
	for _, n := range numbers {
		c.Heap.Append(array, value.OfInt(int64(n)))
	}
	return array, nil
}

func date(c *Call, args []value.Value) (value.Value, error) {
	t, _, ok := timeOf(args[0])
	if !ok {
		return ask()
	}
	year, month, day := t.Date()
	return c.ints(year, int(month), day)
}

func clock(c *Call, args []value.Value) (value.Value, error) {
	t, _, ok := timeOf(args[0])
	if !ok {
		return ask()
	}
	return c.ints(t.Clock())
}

func weekday(_ *Call, args []value.Value) (value.Value, error) {
	t, _, ok := timeOf(args[0])
	if !ok {
		return ask()
	}
	return value.OfString(t.Weekday().String()), nil
}

func addDate(_ *Call, args []value.Value) (value.Value, error) {
	t, _, ok := timeOf(args[0])
	years, okY := args[1].Int()
	months, okM := args[2].Int()
	days, okD := args[3].Int()
	if !ok || !okY || !okM || !okD {
		return ask()
	}
	return instant(t.AddDate(int(years), int(months), int(days)), nil)
}

// timeDiff counts by the calendar of the first time's zone: whole years, then
// months, and so on. What a unit lacks is borrowed from the next, a month as
// long as the one in which the earlier time lies.
func timeDiff(c *Call, args []value.Value) (value.Value, error) {
	from, _, ok := timeOf(args[0])
	to, _, okToo := timeOf(args[1])
	if !ok || !okToo {
		return ask()
	}
	to = to.In(from.Location())
	if from.After(to) {
		from, to = to, from
	}
	fields := func(t time.Time) [6]int {
		year, month, day := t.Date()
		hour, minute, second := t.Clock()
		return [...]int{year, int(month), day, hour, minute, second}
	}
	later, earlier := fields(to), fields(from)
	monthDays := time.Date(earlier[0], time.Month(earlier[1])+1, 0, 0, 0, 0, 0, time.UTC).Day()
	full := [...]int{0, 12, monthDays, 24, 60, 60}
	var diff [6]int
	for i := len(diff) - 1; i >= 0; i-- {
		diff[i] += later[i] - earlier[i]
		if diff[i] < 0 && i > 0 {
			diff[i] += full[i]
			diff[i-1]--
		}
	}
	return c.ints(diff[:]...)
}
