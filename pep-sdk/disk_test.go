package pep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// onDisk runs a PEP until its state is on disk, and ends it and its node.
func onDisk(t *testing.T, n *node, dir string) {
	t.Helper()
	p := start(t, n.config(dir))
	ready(t, p)
	until(t, p, "current", func(s Status) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return !s.Stale && s.Revision == authz.Revision{Release: n.release.Release, Position: n.position}
	})
	stop(t, p)
}

// alone starts a PEP that reaches nobody.
func alone(t *testing.T, n *node, dir string) *PEP {
	t.Helper()
	config := n.config(dir)
	config.Server = "http://127.0.0.1:1"
	return start(t, config)
}

func TestWhatIsOnDiskIsVerifiedAgain(t *testing.T) {
	other := newSigner()
	for name, row := range map[string]struct {
		change func(t *testing.T, n *node, file func(string) string)
		denied string // empty: it decides
		aside  string
	}{
		"nothing was changed": {change: func(*testing.T, *node, func(string) string) {}},
		"no file at all": {func(t *testing.T, _ *node, file func(string) string) {
			for _, name := range []string{keysFile, logFile, releaseFile, beatFile} {
				remove(t, file(name))
			}
		}, "no release", ""},
		"no heartbeat":              {func(t *testing.T, _ *node, file func(string) string) { remove(t, file(beatFile)) }, "log", ""},
		"no log":                    {func(t *testing.T, _ *node, file func(string) string) { remove(t, file(logFile)) }, "log", ""},
		"no release":                {func(t *testing.T, _ *node, file func(string) string) { remove(t, file(releaseFile)) }, "no release", ""},
		"no keys":                   {func(t *testing.T, _ *node, file func(string) string) { remove(t, file(keysFile)) }, "no release", ""},
		"the release is cut off":    {func(t *testing.T, _ *node, file func(string) string) { halve(t, file(releaseFile)) }, "no release", releaseFile},
		"the release is empty":      {func(t *testing.T, _ *node, file func(string) string) { write(t, file(releaseFile), nil) }, "no release", releaseFile},
		"the heartbeat is empty":    {func(t *testing.T, _ *node, file func(string) string) { write(t, file(beatFile), nil) }, "log", beatFile},
		"the keys are another's":    {func(t *testing.T, _ *node, file func(string) string) { write(t, file(keysFile), []byte(other.signed)) }, "no release", keysFile},
		"the log is cut in a range": {func(t *testing.T, _ *node, file func(string) string) { halve(t, file(logFile)) }, "log", ""},
		"the log lost its end": {func(t *testing.T, _ *node, file func(string) string) {
			data := read(t, file(logFile))
			write(t, file(logFile), data[:strings.IndexByte(string(data), '\n')+1])
		}, "log", ""},
		"the log has noise at its end": {change: func(t *testing.T, _ *node, file func(string) string) {
			write(t, file(logFile), append(read(t, file(logFile)), "half a li"...))
		}},
		"a heartbeat of another installation": {func(t *testing.T, n *node, file func(string) string) {
			write(t, file(beatFile), []byte(sign(other.log, trust.KindHeartbeat, n.beatBody(""))))
		}, "log", beatFile},
		"a release that a stolen key signs": {func(t *testing.T, n *node, file func(string) string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.replaceKey(&n.releases, trustReleases)
			n.release = n.seal(n.contents[n.release.Digest.String()], 1)
			write(t, file(keysFile), []byte(n.signed))
		}, "no release", releaseFile},
		"a heartbeat of a stolen key": {func(t *testing.T, n *node, file func(string) string) {
			n.replaceKey(&n.log, trustLog)
			write(t, file(keysFile), []byte(n.signed))
		}, "log", beatFile},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, "acme")
			n.publish("allow order.create\nallow order.refund\nreview order.delete")
			n.grant("order.delete", time.Hour)
			dir := t.TempDir()
			onDisk(t, n, dir)
			p := start(t, n.config(dir)) // appends to what is there
			until(t, p, "fresh", func(s Status) bool { return s.Connected && !s.Stale })
			from := n.seen()
			at := n.restrict("order.refund", time.Hour)
			n.wait(t, from, acked(1, at))
			vouched := time.Now()
			n.beat()
			until(t, p, "vouched for", func(s Status) bool { return s.Heartbeat.After(vouched) })
			stop(t, p)
			file := func(name string) string { return filepath.Join(dir, "state", name) }
			row.change(t, n, file)
			p = alone(t, n, dir)
			a, err := p.Decide(t.Context(), request("order.create"))
			if row.denied != "" {
				if !errors.Is(err, ErrNoState) || !strings.Contains(err.Error(), row.denied) || a.Allowed() {
					t.Errorf("%+v, %v; want none for %q", a, err, row.denied)
				}
			} else {
				if err != nil || !a.Allowed() || !a.Stale {
					t.Errorf("%+v, %v", a, err)
				}
				wantEffect(t, p, "order.refund", authz.Deny)
				wantEffect(t, p, "order.delete", authz.Review)
			}
			if row.aside != "" {
				if _, err := os.Stat(file(row.aside + setAside)); err != nil {
					t.Errorf("it is not set aside: %v", err)
				}
			}
			stop(t, p)
			// Whatever was there, a node mends it.
			p = start(t, n.config(dir))
			until(t, p, "mended", func(s Status) bool { return s.Connected && !s.Stale && p.view.Load().denied == "" })
			wantEffect(t, p, "order.refund", authz.Deny)
		})
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func halve(t *testing.T, file string) {
	t.Helper()
	data := read(t, file)
	write(t, file, data[:len(data)/2])
}

func TestAnOlderCopyOfTheDiskBringsNoGrantBackAndMovesOn(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create\nreview order.delete")
	n.grant("order.delete", time.Hour)
	dir, older := t.TempDir(), t.TempDir()
	onDisk(t, n, dir)
	if err := os.CopyFS(older, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	n.revoke("order.delete")
	n.publish("deny order.create\nreview order.delete")
	p := alone(t, n, older)
	wantEffect(t, p, "order.delete", authz.Review)
	stop(t, p)
	p = start(t, n.config(older))
	until(t, p, "current", func(s Status) bool { return s.Revision == authz.Revision{Release: 2, Position: 2} && !s.Stale })
	wantEffect(t, p, "order.create", authz.Deny)
	wantEffect(t, p, "order.delete", authz.Review)
}

func TestFilesOfDifferentAgesDoNotVouchForEachOther(t *testing.T) {
	for _, name := range []string{releaseFile, logFile} {
		n := startNode(t, "acme")
		n.publish("allow order.create")
		n.restrict("order.refund", time.Hour)
		dir := t.TempDir()
		onDisk(t, n, dir)
		old := read(t, filepath.Join(dir, "state", name))
		n.publish("deny order.create\ndeny order.pay")
		n.restrict("order.ship", time.Hour)
		onDisk(t, n, dir)
		write(t, filepath.Join(dir, "state", name), old)
		p := alone(t, n, dir)
		if a, err := p.Decide(t.Context(), request("order.create")); err == nil && a.Allowed() {
			t.Errorf("an older %s decides: %+v", name, a)
		}
		stop(t, p)
	}
}

func TestTheLocalClockIsNotOnDisk(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create")
	dir := t.TempDir()
	config := n.config(dir)
	config.Now = func() time.Time { return time.Date(2222, 2, 2, 2, 2, 2, 0, time.UTC) }
	p := start(t, config)
	ready(t, p)
	until(t, p, "fresh", func(s Status) bool { return !s.Stale })
	stop(t, p)
	p = alone(t, n, dir)
	if now := p.Status().Now; now.Year() == 2222 {
		t.Errorf("now %s", now)
	}
	wantEffect(t, p, "order.create", authz.Allow)
}

func TestAClockThatWasSetBackIsNoLowerThanTheSignedTime(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create")
	dir := t.TempDir()
	began := time.Now()
	onDisk(t, n, dir)
	config := n.config(dir)
	config.Server = "http://127.0.0.1:1"
	config.Now = func() time.Time { return began.Add(-24 * time.Hour) }
	p := start(t, config)
	if now := p.Status().Now; now.Before(began) {
		t.Errorf("now %s, and a node signed at %s or later", now, began)
	}
}

func TestADiskThatFailsStopsNoDecisionAndIsCaughtUp(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create")
	dir := t.TempDir()
	var log lockedLog
	config := n.config(dir)
	config.Log = slog.New(slog.NewTextHandler(&log, nil))
	p := start(t, config)
	ready(t, p)
	until(t, p, "fresh", func(s Status) bool { return !s.Stale })
	state := filepath.Join(dir, "state")
	away := filepath.Join(dir, "away")
	if err := os.Rename(state, away); err != nil { // every write fails now, for root too
		t.Fatal(err)
	}
	n.publish("allow order.create\nallow order.pay")
	at := n.restrict("order.refund", time.Hour)
	n.wait(t, 0, acked(2, at))
	wantEffect(t, p, "order.pay", authz.Allow)
	until(t, p, "alarming", func(Status) bool { return strings.Contains(log.String(), "cannot be written") })
	if err := os.Rename(away, state); err != nil {
		t.Fatal(err)
	}
	stop(t, p) // writes what is left
	p = alone(t, n, dir)
	wantEffect(t, p, "order.pay", authz.Allow)
	if got := p.Status().Revision; got != (authz.Revision{Release: 2, Position: at}) {
		t.Errorf("%s", got)
	}
}

// newTestDisk is a disk without its goroutine.
func newTestDisk(t *testing.T) *disk {
	d, err := newDisk(t.TempDir(), slog.New(slog.DiscardHandler), func() {}, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheDiskDropsRangesOnlyUntilTheLogComesAnew(t *testing.T) {
	d := newTestDisk(t)
	if err := os.RemoveAll(d.dir); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", maxWaiting/4)
	for range 10 {
		d.save(&saving{log: []string{big}})
		if err := d.flush(); err == nil && !d.lost {
			t.Fatal("it can write")
		}
	}
	if !d.lost || len(d.waiting.log) != 0 {
		t.Fatalf("lost %t, %d wait", d.lost, len(d.waiting.log))
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.save(&saving{log: []string{"range 11"}})
	if err := d.flush(); err != nil || d.good != 0 {
		t.Errorf("a range after a gap was written: %v, %d", err, d.good)
	}
	d.save(&saving{log: []string{"all of it"}, reset: true})
	d.save(&saving{log: []string{"and more"}})
	if err := d.flush(); err != nil || d.lost {
		t.Errorf("%v, lost %t", err, d.lost)
	}
	if got := string(read(t, filepath.Join(d.dir, logFile))); got != "all of it\nand more\n" {
		t.Errorf("%q", got)
	}
}

func TestWhatAFailedWriteLeftIsCutOff(t *testing.T) {
	d := newTestDisk(t)
	d.save(&saving{log: []string{"one"}, reset: true})
	if err := d.flush(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(d.dir, logFile)
	write(t, file, append(read(t, file), "tw"...)) // a crash, or a full disk
	d.save(&saving{log: []string{"two"}})
	if err := d.flush(); err != nil {
		t.Fatal(err)
	}
	if got := string(read(t, file)); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
}

func TestManyRangesAreReplacedByTheStateThatTheyLeadTo(t *testing.T) {
	b := readyBench()
	b.out = nil
	for i := range compactRanges + 2 {
		b.put(stream.EntryRestriction, fmt.Sprint("order.", i%3), valid(noon, noon.Add(time.Hour)))
		b.give(b.rangeFrom(b.position-1, false))
		if i%50 == 0 {
			b.m.link.rejects = 0
		}
	}
	resyncs := 0
	for _, f := range b.out {
		if f.Type == stream.TypeResync && f.Log {
			resyncs++
		}
	}
	if resyncs != 1 {
		t.Fatalf("asked %d times", resyncs)
	}
	b.give(b.rangeFrom(0, true))
	if b.m.log.ranges != 1 || len(b.m.log.entries) != 5 {
		t.Errorf("%d ranges, %d entries", b.m.log.ranges, len(b.m.log.entries))
	}
}

func TestADamagedReleaseOnDiskIsNotCompiled(t *testing.T) {
	d := newTestDisk(t)
	b := readyBench()
	d.save(&saving{keys: b.signed, beat: string(b.heartbeat("").Body), log: []string{string(b.rangeFrom(0, true).Body)}, reset: true, release: b.m.active})
	if err := d.flush(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(d.dir, releaseFile)
	good := read(t, file)
	for i := 0; i < len(good); i += 7 {
		data := append([]byte(nil), good...)
		data[i] ^= 0x40
		write(t, file, data)
		m := &machine{root: b.trust(), audience: b.m.audience, clock: newClock(at(0, 0), MaxGrantStale)}
		engine := &tiny{}
		if err := d.load(context.Background(), m, engine, at(0, 0)); err != nil {
			t.Fatal(err)
		}
		if m.active != nil && m.active.Digest != b.m.active.Digest || m.active == nil && engine.compiles.Load() > 0 {
			t.Fatalf("byte %d changed: %+v", i, m.active)
		}
	}
}
