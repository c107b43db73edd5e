package difftest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tally counts what comparisons came to.
type tally struct {
	programs, rules, refused                        int
	answered, undefined, failed, settled, otherwise int
	why                                             map[string]int
}

func (t *tally) note(why string) {
	if t.why == nil {
		t.why = map[string]int{}
	}
	t.why[why]++
}

// notes is how many kinds of notes are shown.
const notes = 20

func (t *tally) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d programs of %d rules, %d of them left to topdown; questions: %d answered alike, %d undefined alike, %d failed alike, %d failed in two ways, %d failed here and answered by topdown",
		t.programs, t.rules, t.refused, t.answered, t.undefined, t.failed, t.otherwise, t.settled)
	most := slices.SortedFunc(maps.Keys(t.why), func(a, b string) int { return t.why[b] - t.why[a] })
	for _, why := range most[:min(notes, len(most))] {
		fmt.Fprintf(&s, "\n%6d %s", t.why[why], why)
	}
	return s.String()
}
