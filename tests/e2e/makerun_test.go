//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/xiezhi-project/xiezhi/tests/process"
)

// What a newcomer does first: `make run` in a fresh copy of the repository,
// then the lines it prints, in another terminal.
func TestMakeRunPrintsLinesThatAnswerAsAnnounced(t *testing.T) {
	t.Parallel()
	clone, home := freshCopy(t), filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(t.TempDir(), "output")
	out, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	ready := filepath.Join(home, "ready.json")
	make := exec.Command("make", "run", `ARGS=--listen 127.0.0.1:0 --stream-listen 127.0.0.1:0 --data "a folder" --ready-file `+ready)
	make.Dir, make.Stdout = clone, out
	running, err := process.Start(t.Context(), make, home, syscall.SIGTERM, func(context.Context) error {
		_, err := os.Stat(ready)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// make hands no signal on; the server is its child, in its group.
		_ = syscall.Kill(-running.PID(), syscall.SIGTERM)
		if err := running.Stop(); err != nil {
			t.Error(err)
		}
	})
	printed, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^# (ALLOW|DENY|REVIEW): (.*)\n(curl .*)$`).FindAllStringSubmatch(string(printed), -1)
	var announced []string
	for _, line := range lines {
		announced = append(announced, line[1])
		d := decisionOfLine(t, clone, line[3])
		if d.Effect != line[1] || d.Decision != (line[1] == "ALLOW") {
			t.Errorf("%s\nwas announced as %s and answers %+v", line[3], line[1], d)
		}
		if closing := closingReasons(d); (line[1] == "DENY") != (closing["DENY"] > 0) || line[1] == "REVIEW" && closing["REVIEW"] == 0 {
			t.Errorf("%s\nanswers %s with the reasons %+v", line[3], d.Effect, d.Reasons)
		}
	}
	if got := strings.Join(announced, " "); got != "ALLOW DENY REVIEW" {
		t.Fatalf("three lines are promised: ALLOW DENY REVIEW; got %q in:\n%s", got, printed)
	}
	approve := regexp.MustCompile(`(?m)^for who in .* cheq approve (CASE) .*$`).FindString(string(printed))
	if approve == "" {
		t.Fatalf("nothing says how people answer:\n%s", printed)
	}
	review := lines[len(lines)-1][3]
	asked := decisionOfLine(t, clone, review)
	answered := exec.Command("sh", "-c", strings.Replace(approve, "CASE", asked.Approval.ID+" --yes", 1))
	answered.Dir = clone
	if text, err := answered.CombinedOutput(); err != nil || asked.Approval.ID == "" {
		t.Fatalf("%s\n%v: %s", approve, err, text)
	}
	if d := decisionOfLine(t, clone, review); d.Effect != "ALLOW" {
		t.Errorf("after both said yes: %+v", d)
	}
}

func closingReasons(d decision) map[string]int {
	count := map[string]int{}
	for _, r := range d.Reasons {
		if r.Message != "" {
			count[r.Effect]++
		}
	}
	return count
}

// freshCopy holds what a clone would: the files that git tracks, as they are
// now.
func freshCopy(t *testing.T) string {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached")
	list.Dir = repository
	names, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v: this test copies what git tracks", err)
	}
	clone := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(repository, name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(clone, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(repository, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return clone
}

// decisionOfLine runs a printed line as a shell does, or where there is no
// curl, does what its words say.
func decisionOfLine(t *testing.T, dir, line string) decision {
	t.Helper()
	var text []byte
	var err error
	if _, missing := exec.LookPath("curl"); missing == nil {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = dir
		text, err = cmd.Output()
	} else {
		text, err = insteadOfCurl(t.Context(), dir, line)
	}
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	var d decision
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s\nanswers no JSON: %s", line, text)
	}
	return d
}

var curlLine = regexp.MustCompile(`^curl -s (http://\S+) -H '(Content-Type): ([^']+)' -H '(Authorization): ([^']+)' -d '?@([^']+)'?$`)

func insteadOfCurl(ctx context.Context, dir, line string) ([]byte, error) {
	words := curlLine.FindStringSubmatch(line)
	if words == nil {
		return nil, fmt.Errorf("not a line of the form %s", curlLine)
	}
	file := words[6]
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	// curl -d strips line ends.
	body = []byte(strings.NewReplacer("\n", "", "\r", "").Replace(string(body)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, words[1], bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set(words[2], words[3])
	req.Header.Set(words[4], words[5])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
