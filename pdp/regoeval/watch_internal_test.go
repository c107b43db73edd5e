package regoeval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// watched is a program whose compiled policies can be made to go wrong.
type watched struct {
	*Program
	log    bytes.Buffer
	folder string
	now    time.Time
}

const secret = "hunter2"

func newWatched(t *testing.T, e Engine, policies ...string) *watched {
	t.Helper()
	w := &watched{folder: filepath.Join(t.TempDir(), "reproducers"), now: time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)}
	var list []bundles.File
	for i, text := range policies {
		name := string(rune('a' + i))
		list = append(list, bundles.File{Path: "platform/" + name + ".rego", Data: []byte("package xiezhi.platform." + name + "\n# METADATA\n# custom: {id: r}\n" + text)})
	}
	content, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	compiler := NewWith(Options{Engine: e, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Reproducers: w.folder, Now: func() time.Time { return w.now }})
	release, err := pdp.Compile(t.Context(), 1, content, compiler)
	if err != nil {
		t.Fatal(err)
	}
	w.Program = release.Programs()[0].(*Program)
	return w
}

func (w *watched) ask(t *testing.T) []pdp.Outcome {
	t.Helper()
	r := authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "x"}, Resource: authz.Entity{
		Type: "y", ID: "z", Properties: authz.MustValue(map[string]any{"user_data": secret})}}
	return w.Evaluate(t.Context(), &pdp.Input{Request: &r, Value: r.Value(), Now: w.now}, w.Policies(), nil)
}

func (w *watched) kept(t *testing.T) []Incident {
	t.Helper()
	files, err := os.ReadDir(w.folder)
	if err != nil {
		t.Fatal(err)
	}
	var all []Incident
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(w.folder, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 || bytes.Contains(data, []byte(secret)) || len(data) > 3*maxDetail {
			t.Errorf("%s: %v, %s", f.Name(), info.Mode(), data)
		}
		var i Incident
		if err := json.Unmarshal(data, &i); err != nil {
			t.Fatal(err)
		}
		all = append(all, i)
	}
	return all
}

func TestAPanicOfTheEngineDeniesAndLeavesAReproducer(t *testing.T) {
	w := newWatched(t, Compiled, `allow contains {"rule": "r", "args": {"x": input.resource.properties.user_data}}`, `allow contains {"rule": "r"}`, `allow contains {"rule": "r"}`)
	w.entries[1].calls[0] = vm.Entry(1 << 20) // there is no such function
	for range 3 {
		outcomes := w.ask(t)
		if e := outcomes[1].Err; e == nil || e.Cause != pdp.CausePolicyError || outcomes[0].Err != nil || outcomes[2].Err != nil || len(outcomes[2].Findings) != 1 {
			t.Fatalf("%+v", outcomes)
		}
	}
	if s := w.compiler.Stats(); s.Panics != 3 || len(s.Settled) != 0 {
		t.Errorf("%+v", s)
	}
	kept := w.kept(t)
	if len(kept) != 1 {
		t.Fatalf("kept %+v", kept)
	}
	i := kept[0]
	if i.What != "panic" || i.Policy != "platform/b" || i.Release != w.content.Digest() || !strings.Contains(i.Detail, "out of range") || !strings.Contains(i.Stack, "compiled.go") ||
		i.Request == (bundles.Digest{}) || i.File == (bundles.Digest{}) || !i.Clock.Equal(w.now) {
		t.Errorf("%+v", i)
	}
	if log := w.log.String(); strings.Count(log, "level=ERROR") != 1 || strings.Contains(log, secret) || !strings.Contains(log, "platform/b") || !strings.Contains(log, "reproducer="+w.folder) {
		t.Errorf("log %s", log)
	}
	w.now = w.now.Add(tellEvery)
	w.ask(t)
	if kept := w.kept(t); len(kept) != 2 {
		t.Errorf("a minute later there are %d", len(kept))
	}
}

func TestDifferencesAreAnsweredStrictlyAndTold(t *testing.T) {
	w := newWatched(t, Both, `deny contains {"rule": "r", "path": "/a"}`, `deny contains {"rule": "r", "path": "/b", "args": {"x": input.resource.properties.user_data}}`)
	w.ask(t)
	if s := w.compiler.Stats(); s.Differences != 0 || s.Compared != 2 || w.log.Len() > 0 {
		t.Fatalf("%+v, %s", s, &w.log)
	}
	w.entries[1].calls = w.entries[0].calls // one engine is wrong
	for range 2 {
		o := w.ask(t)[1]
		if o.Err != nil || len(o.Findings) != 2 || o.Findings[0].Path != "/b" || o.Findings[1].Path != "/a" {
			t.Fatalf("%+v", o)
		}
	}
	if s := w.compiler.Stats(); s.Differences != 2 || s.Compared != 6 {
		t.Errorf("%+v", s)
	}
	kept := w.kept(t)
	if len(kept) != 1 || kept[0].What != "difference" || kept[0].Policy != "platform/b" || kept[0].Detail != "deny r: 1 only compiled, 1 only topdown" {
		t.Errorf("%+v", kept)
	}
	if log := w.log.String(); strings.Count(log, "level=ERROR") != 1 || strings.Contains(log, secret) {
		t.Errorf("log %s", log)
	}
}

func TestTwentyReproducersAreKept(t *testing.T) {
	w := newWatched(t, Compiled, `deny contains {"rule": "r"}`)
	if err := os.MkdirAll(w.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.folder, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range maxReproducers + 5 {
		w.compiler.watch.now = func() time.Time { return w.now.Add(time.Duration(i) * time.Hour) }
		w.compiler.watch.tell(w.Program, &w.entries[0], &pdp.Input{}, whatPanic, fmt.Sprint(i), strings.Repeat("x", 10*maxDetail))
	}
	if err := os.Remove(filepath.Join(w.folder, "notes.txt")); err != nil {
		t.Errorf("another's file: %v", err)
	}
	kept := w.kept(t)
	if len(kept) != maxReproducers || kept[0].Detail != "5" || kept[len(kept)-1].Detail != "24" || len(kept[0].Stack) != maxDetail {
		t.Errorf("%d kept, from %s", len(kept), kept[0].Detail)
	}
}

func TestWhatCannotBeKeptIsToldAllTheSame(t *testing.T) {
	w := newWatched(t, Compiled, `deny contains {"rule": "r"}`)
	if err := os.WriteFile(w.folder, nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	w.entries[0].calls[0] = vm.Entry(1 << 20)
	if o := w.ask(t)[0]; o.Err == nil {
		t.Errorf("%+v", o)
	}
	if log := w.log.String(); !strings.Contains(log, "reproducer_error") {
		t.Errorf("log %s", log)
	}
}
