package regoeval

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// watch counts what an engine should not do, tells the log of it, and keeps
// what it takes to find out why. It is safe for concurrent use.
type watch struct {
	counts
	log    *slog.Logger
	folder string
	now    func() time.Time

	mu   sync.Mutex
	told map[string]time.Time // the last incident of each policy that was told
}

const (
	// tellEvery is how often one policy's incidents are told.
	tellEvery = time.Minute
	// maxTold bounds the policies that are remembered.
	maxTold = 1000
	// maxReproducers is how many files are kept, of at most maxDetail bytes of
	// each text.
	maxReproducers = 20
	maxDetail      = 64 << 10
)

func newWatch(o Options) *watch {
	w := &watch{log: o.Log, folder: o.Reproducers, now: o.Now, told: map[string]time.Time{}}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.now == nil {
		w.now = time.Now
	}
	return w
}

// Incident is one reproducer. It holds nothing of the request but its digest:
// what in it is sensitive, policies of other languages say too, and a program
// does not know them.
type Incident struct {
	What    string         `json:"what"` // "panic" or "difference"
	Time    time.Time      `json:"time"`
	Policy  string         `json:"policy"`
	File    bundles.Digest `json:"file"`    // of the policy's text
	Release bundles.Digest `json:"release"` // of the release's content
	Request bundles.Digest `json:"request"` // SHA-256 of the request as policies see it, as JSON
	Clock   time.Time      `json:"clock"`   // the decision's
	Detail  string         `json:"detail"`
	Stack   string         `json:"stack,omitempty"`
}

// tell logs an incident and keeps it, unless the policy had one just now.
func (w *watch) tell(p *Program, e *entry, in *pdp.Input, what, detail, stack string) {
	if !w.due(e.module.id) {
		return
	}
	i := Incident{
		What: what, Time: w.now().UTC(), Policy: e.module.id, File: sha256.Sum256(e.module.data), Release: p.content.Digest(),
		Request: sha256.Sum256(in.Value.AppendJSON(nil)), Clock: in.Now.UTC(), Detail: bounded(detail), Stack: bounded(stack),
	}
	kept, err := w.keep(i)
	attrs := []any{"policy", i.Policy, "release", i.Release.String(), "request", i.Request.String(), "detail", i.Detail}
	if kept != "" {
		attrs = append(attrs, "reproducer", kept)
	}
	if err != nil {
		attrs = append(attrs, "reproducer_error", err)
	}
	if what == whatPanic {
		w.log.Error("the compiled Rego engine panicked: the policy denies; --rego-engine=topdown does without it", attrs...)
	} else {
		w.log.Error("the Rego engines differ: the stricter answer counts", attrs...)
	}
}

const (
	whatPanic      = "panic"
	whatDifference = "difference"
)

// due reports whether the policy's incident is to be told, and then counts as
// told.
func (w *watch) due(policy string) bool {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, ok := w.told[policy]; ok && now.Sub(last) < tellEvery {
		return false
	}
	for known, last := range w.told {
		if now.Sub(last) >= tellEvery {
			delete(w.told, known)
		}
	}
	if len(w.told) >= maxTold {
		return false
	}
	w.told[policy] = now
	return true
}

// keep writes a reproducer, in place of the oldest where there are enough. It
// returns its path, "" where none are kept.
func (w *watch) keep(i Incident) (string, error) {
	if w.folder == "" {
		return "", nil
	}
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := os.MkdirAll(w.folder, 0o700); err != nil {
		return "", err
	}
	known, err := os.ReadDir(w.folder) // sorted, and names begin with the time
	if err != nil {
		return "", err
	}
	known = slices.DeleteFunc(known, func(f os.DirEntry) bool { return !strings.HasSuffix(f.Name(), reproducerEnding) })
	for len(known) >= maxReproducers {
		if err := os.Remove(filepath.Join(w.folder, known[0].Name())); err != nil {
			return "", err
		}
		known = known[1:]
	}
	name := fmt.Sprintf("%s-%s-%.100s%s", i.Time.Format("20060102T150405.000000"), i.What, strings.ReplaceAll(i.Policy, "/", "-"), reproducerEnding)
	path := filepath.Join(w.folder, name)
	return path, os.WriteFile(path, append(data, '\n'), 0o600)
}

const reproducerEnding = ".rego-engine.json"

func bounded(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxDetail)], "")
}

// panicked counts and tells a panic of the compiled engine.
func (w *watch) panicked(p *Program, e *entry, in *pdp.Input, detail, stack string) {
	w.panics.Add(1)
	w.tell(p, e, in, whatPanic, detail, stack)
}

// differ counts and tells an answer in which the engines differ.
func (w *watch) differ(p *Program, e *entry, in *pdp.Input, what string) {
	w.differences.Add(1)
	w.tell(p, e, in, whatDifference, what, "")
}
