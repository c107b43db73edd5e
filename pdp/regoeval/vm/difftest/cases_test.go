package difftest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/util"
)

// TestProgramsThatOnceDiffered repeats what random programs showed, made small.
// A failure of [TestRandomProgramsAnswerAsTopdown] prints such a file.
func TestProgramsThatOnceDiffered(t *testing.T) {
	files, err := filepath.Glob("testdata/differed/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := read(text)
			if err != nil {
				t.Fatal(err)
			}
			total := &tally{}
			if what := p.judge(t.Context(), total); what != "" {
				t.Error(what)
			}
			t.Log(total)
		})
	}
}

// read reads what [program.String] writes: packages of a rule a line, then
// worlds.
func read(text []byte) (*program, error) {
	p := &program{texts: map[string][]string{"lib": nil, "main": nil}}
	pkg := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "":
		case "package":
			pkg = rest
		case "ask:":
			p.rules = strings.Fields(rest)
		case "input:", "request:":
			p.worlds = append(p.worlds, world{request: word == "request:"})
			if err := unmarshal(rest, &p.worlds[len(p.worlds)-1].input); err != nil {
				return nil, err
			}
		case "data:":
			if err := unmarshal(rest, &p.worlds[len(p.worlds)-1].data); err != nil {
				return nil, err
			}
		default:
			p.texts[pkg] = append(p.texts[pkg], line)
		}
	}
	before := fmt.Sprint(p.texts)
	p.compile()
	if after := fmt.Sprint(p.texts); after != before {
		return nil, fmt.Errorf("the rules do not compile: %s are left of %s", after, before)
	}
	if len(p.rules) == 0 || len(p.worlds) == 0 {
		return nil, fmt.Errorf("nothing is asked, or in no world")
	}
	return p, nil
}

// unmarshal keeps numbers as they are written.
func unmarshal(text string, to *map[string]any) error {
	return util.NewJSONDecoder(bytes.NewReader([]byte(text))).Decode(to)
}

// TestTopdownConfusesVariables shows the error that [confused] is about. When
// OPA has mended it, both go.
func TestTopdownConfusesVariables(t *testing.T) {
	p, err := read([]byte(`package lib
r := true if { v := input.n; x := [1 | v in [1]; input.missing = v] }
ask: data.lib.r
input: {"n": 1}
data: {}`))
	if err != nil {
		t.Fatal(err)
	}
	_, input, data := p.worlds[0].documents()
	if got := topdownOf(p.compiler, data, input)(t.Context(), "data.lib.r", true); !confused(got.err) {
		t.Errorf("got %+v; where a variable is what input has under a name, topdown failed in a comprehension that compares it later", got)
	}
	total := &tally{}
	if what := p.judge(t.Context(), total); what != "" || total.confused == 0 {
		t.Errorf("%s; %s", what, total)
	}
}

// TestWhatIsNotComparedIsBounded holds that a run of programs cannot pass where
// many of its questions came to nothing.
func TestWhatIsNotComparedIsBounded(t *testing.T) {
	for name, total := range map[string]*tally{
		"budget": {answered: 600, spent: 4}, "time": {answered: 600, late: 4}, "errors inside topdown": {answered: 600, confused: 4},
	} {
		if total.comparable() == nil {
			t.Error(name, "is not bounded")
		}
	}
	if err := (&tally{answered: 600, spent: 3, late: 3, confused: 3}).comparable(); err != nil {
		t.Error(err)
	}
}

// TestABudgetThatIsSpentIsCounted asks what a plan computes and topdown's index
// passes over.
func TestABudgetThatIsSpentIsCounted(t *testing.T) {
	p, err := read([]byte(`package lib
r := 1 if { input.l == numbers.range(input.n, 3); input.o.missing }
ask: data.lib.r
input: {"n": 9007199254740991, "o": {}, "l": []}
data: {}`))
	if err != nil {
		t.Fatal(err)
	}
	total := &tally{}
	start := time.Now()
	if what := p.judge(t.Context(), total); what != "" || total.spent == 0 {
		t.Errorf("%s; %s", what, total)
	}
	t.Log(time.Since(start))
}
