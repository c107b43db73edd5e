package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Store is what a database offers.
type Store interface {
	pap.Store
	pap.AuditStore
	pap.PEPStore
}

// Driver is one kind of database under test.
type Driver struct {
	// New makes an empty database that ends with the test, and returns by what
	// any process can open it.
	New func(t testing.TB) (location string)
	// Open opens it; several handles of one location may be open.
	Open func(ctx context.Context, location string) (Store, error)
	// Exec runs one statement behind the store's back.
	Exec func(t testing.TB, location, statement string)
	// Count runs a query that returns a number.
	Count func(t testing.TB, location, query string) int
	// ErrNewer is what Open returns for a newer program's database.
	ErrNewer error
	// WakesAcross says that a commit wakes the listeners of other handles.
	WakesAcross bool
}

// Run runs the suite.
func Run(t *testing.T, d Driver) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Driver)
	}{
		{"an empty database has nothing and says so", testEmpty},
		{"put assigns positions from one and keeps the newest record", testPut},
		{"records are listed by tenant in pages", testRecords},
		{"the log is read in pages", testLog},
		{"documents keep every version", testDocuments},
		{"documents are listed by filter in pages", testDocumentFilter},
		{"publishing a version clears its draft mark", testMarkPublished},
		{"releases are numbered without gaps", testReleases},
		{"a release needs its blobs", testReleaseNeedsBlobs},
		{"a large release is listed once, and the next one's changes", testReleasePages},
		{"the pages of an update that fails are stored with the next", testReleasePagesUndone},
		{"releases of a program that knows no pages are read, and it reads all", testReleasesOfBefore},
		{"a blob is stored under its own digest only", testBlobs},
		{"a large blob comes back whole", testLargeBlob},
		{"a grant is used at most so often", testUseGrant},
		{"cases are found by what they ask, by state and by time", testCases},
		{"timelines are kept in order", testTimelines},
		{"deliveries are found by case and by time", testDeliveries},
		{"an answer from a channel is noted once", testAnswered},
		{"an identity code is taken once", testIdentityCodes},
		{"a stored answer is kept until it is forgotten", testReplays},
		{"the first seal of a release, audience and key is kept", testSeals},
		{"racing nodes keep one seal", testConcurrentSeals},
		{"the state of a PEP is what was seen last", testPutPEPs},
		{"PEPs are listed by filter in pages", testPEPFilter},
		{"PEPs that were not seen for long are forgotten", testForgetPEPs},
		{"thousands of PEPs are stored at once", testManyPEPs},
		{"the state of PEPs waits for no update", testPEPsBesideUpdate},
		{"a PEP's free text never keeps it from being stored", testPEPText},
		{"audit records of changes are stored once", testAudit},
		{"decision records may be sent again", testDecisions},
		{"many decision records at once come back like few", testBulk},
		{"many decision records may be sent again, in any part", testBulkAgain},
		{"many decision records of overlapping times come in order", testBulkOverlaps},
		{"many decision records may be large and odd", testBulkLarge},
		{"processes may ship the same decision records", testConcurrentBulk},
		{"random batches of decision records agree with a plain model", testBulkModel},
		{"audit filters select by every field", testAuditFilter},
		{"an audit query pages over decisions and changes by id", testAuditPaging},
		{"an audit record is never refused for its text", testAuditText},
		{"the body of the deepest request comes back", testAuditDepth},
		{"text compares as bytes", testByteOrder},
		{"text that one database cannot hold is refused by both", testText},
		{"keys up to the bound are stored, longer ones refused", testLongKeys},
		{"no bytes come back as no bytes, not as nothing", testEmptyBytes},
		{"times are kept to the microsecond in UTC", testTimes},
		{"a failing update leaves nothing", testFailingUpdate},
		{"a panicking update leaves nothing", testPanickingUpdate},
		{"an update cannot commit past a failed statement", testBrokenUpdate},
		{"a transaction is unusable after its end", testEndedTransaction},
		{"a view cannot write", testViewCannotWrite},
		{"a view is one snapshot", testViewIsSnapshot},
		{"a cancelled context ends the work", testCancel},
		{"concurrent updates commit in order of position", testConcurrentUpdates},
		{"writers are serialised before they begin", testSerialWriters},
		{"a grant is not used too often by racing callers", testConcurrentUses},
		{"a commit wakes listeners", testWake},
		{"opening again changes nothing", testReopen},
		{"a newer program's database is refused", testNewer},
		{"several may open an empty database at once", testConcurrentOpen},
		{"a killed writer leaves a consistent log", testKilledWriter},
		{"random use agrees with a plain model", testModel},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, d)
		})
	}
}

// open makes an empty database and opens it.
func (d Driver) open(t testing.TB) Store { return d.handle(t, d.New(t)) }

// handle opens one more handle, closed with the test.
func (d Driver) handle(t testing.TB, location string) Store {
	t.Helper()
	store, err := d.Open(t.Context(), location)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return store
}

// update fails the test unless the update commits.
func update(t testing.TB, store pap.Store, fn func(tx pap.Tx)) {
	t.Helper()
	if err := store.Update(t.Context(), func(tx pap.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatalf("update: %v", err)
	}
}

// view fails the test unless the view ends well.
func view(t testing.TB, store pap.Store, fn func(tx pap.Tx)) {
	t.Helper()
	if err := store.View(t.Context(), func(tx pap.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// must passes a result on, and fails the test on an error.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// same compares what came back with what was stored. Nil and empty are alike.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := show(got), show(want); g != w {
		t.Errorf("%s:\n got %.2000s\nwant %.2000s", what, g, w)
	}
}

func show(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%+v (%v)", v, err)
	}
	return string(bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("null"), []byte(`""`)), []byte("[]"), []byte(`""`)))
}

// is fails the test unless err wraps want.
func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// now is the time that tests write; it has what a database must cut off.
var now = time.Date(2026, 11, 21, 8, 30, 0, 123456000, time.UTC)

func record(kind pap.Kind, key, tenant string) pap.Record {
	return pap.Record{Kind: kind, Key: key, Tenant: tenant, At: now, Body: []byte(`{"key":"` + key + `"}`)}
}

// keys lists the keys of records in order.
func keys(records []pap.Record) (list []string) {
	for _, r := range records {
		list = append(list, r.Key)
	}
	return list
}

func testEmpty(t *testing.T, d Driver) {
	store := d.open(t)
	view(t, store, func(tx pap.Tx) {
		same(t, "head", must[authz.Revision](t)(tx.Head()), authz.Revision{})
		_, err := tx.Record(pap.KindGrant, "g")
		is(t, "record", err, pap.ErrNotFound)
		_, err = tx.Document("platform/a.rego")
		is(t, "document", err, pap.ErrNotFound)
		_, err = tx.Release(1)
		is(t, "release", err, pap.ErrNotFound)
		_, err = tx.Blob(digestOf("x"))
		is(t, "blob", err, pap.ErrNotFound)
		_, err = tx.Replay("c", "k")
		is(t, "replay", err, pap.ErrNotFound)
		same(t, "records", must[[]pap.Record](t)(tx.Records(pap.KindGrant, pap.AnyTenant, "", 10)), nil)
		same(t, "log", must[[]pap.Record](t)(tx.Log(0, 10)), nil)
		same(t, "documents", must[[]pap.Document](t)(tx.Documents(pap.DocumentFilter{}, "", 10)), nil)
		same(t, "versions", must[[]pap.Document](t)(tx.DocumentVersions("", 0, 10)), nil)
		same(t, "releases", must[[]pap.Release](t)(tx.Releases(0, 10)), nil)
		same(t, "uses", must[[]pap.GrantUse](t)(tx.GrantUses(pap.GrantUse{}, 10)), nil)
		same(t, "audits", must[[]authz.AuditRecord](t)(tx.Audits("", 10)), nil)
	})
	same(t, "audit", must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), pap.AuditFilter{}, 10)), nil)
	same(t, "decisions", must[[]authz.AuditRecord](t)(store.Decisions(t.Context(), "", 10)), nil)
}
