// Package difftest holds the compiled engine to OPA's topdown: random policies
// on random requests, the shipped policies on requests that are wrong in every
// place, and policies that are made to be slow.
package difftest

import (
	"context"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// programs is how many random programs a test run holds to topdown.
const programs = 60

var (
	duration = flag.Duration("differ", 0, "write random programs for so long, instead of a fixed number")
	from     = flag.Uint64("differ-from", 0, "the seed of the first of them; 0: 1, or the clock with -differ")
)

// FuzzPrograms holds runs of random programs to topdown: the same answer, as
// it is written and in the same order, or an error where topdown may answer.
func FuzzPrograms(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(random(seed))
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		hold(t, choices, &tally{})
	})
}

// TestRandomProgramsAnswerAsTopdown does what [FuzzPrograms] does, with
// programs that are larger, and the same in every run. With
// XIEZHI_TEST_LONG=1 they are ten times as many.
func TestRandomProgramsAnswerAsTopdown(t *testing.T) {
	seed, count := uint64(1), uint64(programs)
	if os.Getenv("XIEZHI_TEST_LONG") == "1" {
		count *= 10
	}
	var end time.Time
	if *duration > 0 {
		seed, count, end = uint64(time.Now().UnixNano()), 1<<40, time.Now().Add(*duration)
	}
	if *from > 0 {
		seed = *from
	}
	total := &tally{}
	for i := range count {
		if !end.IsZero() && time.Now().After(end) {
			break
		}
		if !hold(t, random(seed+i), total) {
			t.Logf("seed %d", seed+i)
		}
	}
	t.Log(total)
	if err := total.comparable(); err != nil {
		t.Error(err)
	}
	if total.answered < total.undefined || total.refused > total.rules/2 {
		t.Error("the programs show little: most are left to topdown, or have no answer")
	}
}

func random(seed uint64) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, 4096)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// patience is how long a program may take: that it takes long is no
// difference.
const patience = 20 * time.Second

func hold(t *testing.T, choices []byte, total *tally) bool {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := generate(choices)
	what := p.judge(ctx, total)
	if what == "" {
		return true
	}
	small := p.reduced(ctx)
	if said := small.judge(ctx, &tally{}); said != "" {
		p, what = small, said
	}
	t.Errorf("%s\n%s", what, p)
	return false
}
