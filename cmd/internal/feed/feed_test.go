package feed_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// broken is a store that can be made to fail, or to answer nothing.
type broken struct {
	pap.Store
	err   atomic.Pointer[error]
	hangs atomic.Bool
	views atomic.Int64
	blobs atomic.Int64 // that were read
	puts  atomic.Int64 // that were written
}

// counted counts the blobs that are read and written.
type counted struct {
	pap.Tx
	blobs, puts *atomic.Int64
}

func (c counted) Blob(digest bundles.Digest) ([]byte, error) {
	c.blobs.Add(1)
	return c.Tx.Blob(digest)
}

func (c counted) Blobs(digests []bundles.Digest) ([][]byte, error) {
	c.blobs.Add(int64(len(digests)))
	return c.Tx.Blobs(digests)
}

func (c counted) PutBlob(digest bundles.Digest, data []byte) error {
	c.puts.Add(1)
	return c.Tx.PutBlob(digest, data)
}

func (b *broken) Update(ctx context.Context, fn func(pap.Tx) error) error {
	return b.Store.Update(ctx, func(tx pap.Tx) error { return fn(counted{tx, &b.blobs, &b.puts}) })
}

func (b *broken) View(ctx context.Context, fn func(pap.Tx) error) error {
	b.views.Add(1)
	if b.hangs.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err := b.err.Load(); err != nil && *err != nil {
		return *err
	}
	return b.Store.View(ctx, func(tx pap.Tx) error { return fn(counted{tx, &b.blobs, &b.puts}) })
}

func (b *broken) fail(err error) { b.err.Store(&err) }

// rig is a feed on a store of its own.
type rig struct {
	*feed.Feed
	store   *broken
	pdp     *pdp.PDP
	config  feed.Config
	updates []feed.Update
	log     lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func newRig(t *testing.T, change func(*feed.Config)) *rig {
	t.Helper()
	store, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	compiler := engine.New()
	r := &rig{store: &broken{Store: store}}
	r.pdp = pdp.New(pdp.Config{Now: time.Now, NewID: func() string { return "id" }})
	r.config = feed.Config{
		Store: r.store, PDP: r.pdp, Directory: &pap.Directory{}, Compile: compiler.Compile, CompileRestriction: compiler.Restriction,
		Distribute: func(u feed.Update) { r.updates = append(r.updates, u) },
		Poll:       time.Millisecond, Now: time.Now, Log: slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	if change != nil {
		change(&r.config)
	}
	r.Feed = feed.New(r.config)
	return r
}

// publish stores a release of one rule document, and records beside it.
func (r *rig) publish(t *testing.T, number uint64, effect string, records ...pap.Record) {
	t.Helper()
	data := []byte("id: p\nname: P\nrules:\n  - {id: r, condition: 'true', effect: " + effect + ", message: {en: a, zh: b}}\n")
	content, err := bundles.NewContent([]bundles.File{{Path: "platform/p.policy.yaml", Data: data}})
	if err != nil {
		t.Fatal(err)
	}
	digest := bundles.Digest(sha256.Sum256(data))
	r.update(t, func(tx pap.Tx) error {
		if err := tx.PutBlob(digest, data); err != nil {
			return err
		}
		if err := tx.InsertRelease(pap.Release{Number: number, Digest: content.Digest(), Author: "a", CreatedAt: time.Now(),
			Files: []pap.ReleaseFile{{Path: "platform/p.policy.yaml", Digest: digest, Size: len(data)}}}); err != nil {
			return err
		}
		return put(tx, records...)
	})
}

func put(tx pap.Tx, records ...pap.Record) error {
	for _, record := range records {
		if _, err := tx.Put(record); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) update(t *testing.T, fn func(tx pap.Tx) error) {
	t.Helper()
	if err := r.store.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) sync(t *testing.T) {
	t.Helper()
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func record(kind pap.Kind, key, tenant string, body any) pap.Record {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return pap.Record{Kind: kind, Key: key, Tenant: tenant, At: time.Now(), Body: data}
}

func tenant(id string) pap.Record { return record(pap.KindTenant, id, id, pap.Tenant{ID: id}) }

func rollout(state pap.RolloutState) pap.Record {
	return record(pap.KindRollout, "rollout", "", pap.Rollout{Release: 2, Base: 1, State: state, Stages: []pap.Selector{{}}})
}

func TestOthersAreToldOfEveryReadInOrderAndWithoutGaps(t *testing.T) {
	r := newRig(t, nil)
	r.publish(t, 1, "ALLOW", tenant("a"))
	r.sync(t)
	r.sync(t)
	r.publish(t, 2, "DENY", tenant("b"), tenant("c"))
	r.sync(t)
	if len(r.updates) != 3 {
		t.Fatalf("%d updates", len(r.updates))
	}
	first, quiet, last := r.updates[0], r.updates[1], r.updates[2]
	if first.Release.Number != 1 || first.Content == nil || len(first.Records) != 1 || first.Read.IsZero() {
		t.Errorf("%+v", first)
	}
	if quiet.Release != nil || quiet.Content != nil || len(quiet.Records) != 0 || quiet.Head != first.Head || !quiet.Read.After(first.Read) {
		t.Errorf("a read that finds nothing: %+v", quiet)
	}
	if last.Release.Number != 2 || len(last.Records) != 2 || last.Records[0].Position != 2 || last.Records[1].Position != 3 || last.Head != (authz.Revision{Release: 2, Position: 3}) {
		t.Errorf("%+v", last)
	}
}

func TestOfALaterReleaseTheFilesAreReadThatChanged(t *testing.T) {
	r := newRig(t, nil)
	files := map[string]string{}
	publish := func(number uint64) {
		var list []bundles.File
		release := pap.Release{Number: number, Author: "a", CreatedAt: time.Now()}
		r.update(t, func(tx pap.Tx) error {
			for p, text := range files {
				digest := bundles.Digest(sha256.Sum256([]byte(text)))
				list = append(list, bundles.File{Path: p, Data: []byte(text)})
				release.Files = append(release.Files, pap.ReleaseFile{Path: p, Digest: digest, Size: len(text)})
				if err := tx.PutBlob(digest, []byte(text)); err != nil {
					return err
				}
			}
			content, err := bundles.NewContent(list)
			if err != nil {
				return err
			}
			release.Digest = content.Digest()
			return tx.InsertRelease(release)
		})
	}
	for i := range 20 {
		files[fmt.Sprintf("tables/t/t%02d.json", i)] = fmt.Sprint(i)
	}
	for number, change := range []func(){
		func() {},
		func() { files["tables/t/t07.json"] = "700" },
		func() {
			delete(files, "tables/t/t00.json")
			delete(files, "tables/t/t19.json")
			files["tables/t/t03a.json"], files["tables/t/t99.json"] = "31", "99"
		},
	} {
		change()
		publish(uint64(number + 1))
		before := r.store.blobs.Load()
		r.sync(t)
		if got, want := r.store.blobs.Load()-before, []int64{20, 1, 2}[number]; got != want {
			t.Errorf("release %d: %d files were read, want %d", number+1, got, want)
		}
		if got := r.updates[len(r.updates)-1]; got.Release.Number != uint64(number+1) || got.Content.Digest() != got.Release.Digest || len(got.Content.Files()) != len(files) {
			t.Errorf("release %d: told of %+v", number+1, got.Release)
		}
	}
}

// anything lets every candidate pass.
type anything struct{ pap.Candidate }

func (anything) Check(context.Context, *bundles.Content, []string) (pap.Candidate, error) {
	return anything{}, nil
}

func TestPublishingReadsAndStoresTheFilesThatChanged(t *testing.T) {
	r := newRig(t, nil)
	var ids atomic.Int64
	open := func() *pap.Service {
		return pap.New(pap.Config{Store: r.store, Gate: anything{}, Now: time.Now, NewID: func() string { return fmt.Sprint("id", ids.Add(1)) },
			CatchUp: func(context.Context) error { return nil }})
	}
	service, actor := open(), pap.Actor{Name: "user:a", May: func(context.Context, string, string) error { return nil }}
	files := map[string]string{}
	for i := range 20 {
		files[fmt.Sprintf("tables/t/t%02d.json", i)] = fmt.Sprint(i)
	}
	for number, row := range []struct {
		change      func()
		reads, puts int64
	}{
		{func() {}, 0, 20},
		{func() { files["tables/t/t07.json"] = "700" }, 0, 1},
		{func() { delete(files, "tables/t/t03.json"); files["tables/t/t99.json"] = "3" }, 0, 1},
		{func() { delete(files, "tables/t/t00.json") }, 0, 0},
		{func() { service = open(); files["tables/t/t98.json"] = "98" }, 19, 1}, // after a start
	} {
		row.change()
		var list []bundles.File
		for p, text := range files {
			list = append(list, bundles.File{Path: p, Data: []byte(text)})
		}
		content, err := bundles.NewContent(list)
		if err != nil {
			t.Fatal(err)
		}
		reads, puts := r.store.blobs.Load(), r.store.puts.Load()
		release, _, err := service.PublishContent(t.Context(), actor, content, "", false)
		if err != nil {
			t.Fatal(err)
		}
		if reads, puts = r.store.blobs.Load()-reads, r.store.puts.Load()-puts; reads != row.reads || puts != row.puts {
			t.Errorf("release %d: %d files read and %d stored, want %d and %d", number+1, reads, puts, row.reads, row.puts)
		}
		err = r.store.View(t.Context(), func(tx pap.Tx) error {
			stored, err := tx.Release(release.Number)
			if err != nil {
				return err
			}
			_, err = pap.ReadContent(tx, stored) // which holds the files against the digest
			return err
		})
		if err != nil || len(release.Files) != len(files) || release.Digest != content.Digest() {
			t.Errorf("release %d: %v", number+1, err)
		}
	}
}

func TestNodeKeepsTheBaseWhileARolloutRunsAlsoAfterAStart(t *testing.T) {
	r := newRig(t, nil)
	r.publish(t, 1, "ALLOW")
	r.sync(t)
	active := func(f *rig) uint64 { return f.pdp.Active().Release.Number }
	r.publish(t, 2, "DENY", rollout(pap.RolloutRunning))
	r.sync(t)
	if active(r) != 1 || r.updates[1].Release.Number != 2 {
		t.Errorf("decides by %d, told of %+v", active(r), r.updates[1].Release)
	}
	started := newRig(t, func(c *feed.Config) { c.Store = r.store })
	started.sync(t)
	if active(started) != 1 || started.updates[0].Release.Number != 2 {
		t.Errorf("a node that starts decides by %d, told of %+v", active(started), started.updates[0].Release)
	}
	r.update(t, func(tx pap.Tx) error { return put(tx, rollout(pap.RolloutHalted)) })
	r.sync(t)
	if active(r) != 1 {
		t.Errorf("halted: decides by %d", active(r))
	}
	r.update(t, func(tx pap.Tx) error { return put(tx, rollout(pap.RolloutDone)) })
	for _, f := range []*rig{r, started} {
		if f.sync(t); active(f) != 2 {
			t.Errorf("done: decides by %d", active(f))
		}
	}
}

func TestRevocationsDoNotWaitForACompilation(t *testing.T) {
	release := make(chan struct{})
	var blocks atomic.Bool
	r := newRig(t, func(c *feed.Config) {
		compile := c.Compile
		c.Compile = func(ctx context.Context, content *bundles.Content) (*pdp.Release, error) {
			if blocks.Load() {
				<-release
			}
			return compile(ctx, content)
		}
	})
	r.publish(t, 1, "ALLOW")
	r.sync(t)
	blocks.Store(true)
	r.publish(t, 2, "DENY")
	synced := make(chan error, 1)
	go func() { synced <- r.Sync(context.Background()) }()
	r.update(t, func(tx pap.Tx) error { return put(tx, tenant("a")) })
	for r.pdp.Active().Position != 1 {
		if err := r.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.pdp.Active().Release.Number; got != 1 {
		t.Errorf("decides by release %d, which is not compiled yet", got)
	}
	r.publish(t, 3, "DENY") // the newest is awaited, not the one under way
	third := make(chan error, 1)
	go func() { third <- r.Sync(context.Background()) }()
	close(release)
	if err := errors.Join(<-synced, <-third); err != nil {
		t.Fatal(err)
	}
	if got := r.pdp.Active().Revision(); got != (authz.Revision{Release: 3, Position: 1}) {
		t.Errorf("active is %s", got)
	}
}

func TestDeadStoreIsWaitedForOnce(t *testing.T) {
	r := newRig(t, nil)
	r.publish(t, 1, "ALLOW")
	r.sync(t)
	r.store.hangs.Store(true)
	before := r.store.views.Load()
	var all sync.WaitGroup
	began := time.Now()
	for range 50 {
		all.Go(func() {
			if r.Read(t.Context()) == nil {
				t.Error("a store that does not answer was read")
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > 20*time.Second { // one after the other would wait for 50 s
		t.Errorf("callers waited %s", took)
	}
	if r.Failing() == nil {
		t.Error("the store does not count as failing")
	}
	began = time.Now()
	for range 50 {
		if r.Read(t.Context()) == nil {
			t.Error("a store that does not answer was read")
		}
	}
	if took, tried := time.Since(began), r.store.views.Load()-before; took > 20*time.Second || tried > 55 {
		t.Errorf("%d tries, and later callers waited %s", tried, took)
	}
	r.store.hangs.Store(false)
	r.sync(t)
	if r.Failing() != nil || r.Read(t.Context()) != nil {
		t.Error("it does not recover")
	}
}

func TestCallerThatGivesUpSaysNothingOfTheStore(t *testing.T) {
	r := newRig(t, nil)
	r.sync(t)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if r.Read(gone) == nil {
		t.Error("a caller that is gone was served")
	}
	if err := r.Failing(); err != nil {
		t.Errorf("failing: %v", err)
	}
}

func TestErrorThatStaysIsLoggedOnce(t *testing.T) {
	r := newRig(t, nil)
	r.sync(t)
	r.store.fail(errors.New("the cable is out"))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	start := r.store.views.Load()
	until(t, func() bool { return r.store.views.Load() >= start+20 })
	r.store.fail(nil)
	until(t, func() bool { return r.log.count("up to date again") > 0 })
	stop()
	<-done
	if n := r.log.count("cannot bring this node up to date"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func until(t *testing.T, holds func() bool) {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.Done():
			t.Fatal("it does not come")
		}
	}
}
