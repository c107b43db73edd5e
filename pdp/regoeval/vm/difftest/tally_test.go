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
	spent, late, confused                           int // of no use: see [tally.comparable]
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
	fmt.Fprintf(&s, "%d programs of %d rules, %d of them left to topdown; questions: %d answered alike, %d undefined alike, %d failed alike, %d failed in two ways, %d failed here and answered by topdown; not comparable: %d beyond a run's budget, %d beyond topdown's time, %d errors inside topdown",
		t.programs, t.rules, t.refused, t.answered, t.undefined, t.failed, t.otherwise, t.settled, t.spent, t.late, t.confused)
	most := slices.SortedFunc(maps.Keys(t.why), func(a, b string) int { return t.why[b] - t.why[a] })
	for _, why := range most[:min(notes, len(most))] {
		fmt.Fprintf(&s, "\n%6d %s", t.why[why], why)
	}
	return s.String()
}

// comparable fails where more than a few questions came to nothing, of each
// 300 one:
//
//   - a run spent its budget: a plan computes numbers.range(1, 1e15) of a rule
//     that topdown's index never lets begin;
//   - topdown was not done in time, which ends the program;
//   - topdown met an error of its own (see [confused]).
func (t *tally) comparable() error {
	questions := t.answered + t.undefined + t.failed + t.settled + t.otherwise
	for what, n := range map[string]int{"spent their budget": t.spent, "were too long for topdown": t.late, "are errors inside topdown": t.confused} {
		if n > 1+questions/300 {
			return fmt.Errorf("%d questions %s, of %d others", n, what, questions)
		}
	}
	return nil
}
