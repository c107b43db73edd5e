package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"pgregory.net/rapid"
)

// call is one method call on a transaction; it returns what can be observed.
type call func(tx pap.Tx) string

// observe writes a result and the sort of error down, not the error's words.
func observe[T any](result T, err error) string {
	for _, sort := range []error{nil, pap.ErrNotFound, pap.ErrConflict, pap.ErrText} {
		if errors.Is(err, sort) {
			return fmt.Sprintf("%s, error: %v", show(result), sort)
		}
	}
	return show(result) + ", another error"
}

// draw holds the generators of the state machine: few values, so that they
// meet often.
type draw struct{ *rapid.T }

func (d draw) name() string {
	return rapid.SampledFrom([]string{"a", "b", "B", "ab", "é", "😀", "\uFFFF", "a%", "", "a\x00", "\xff"}).Draw(d.T, "name")
}

func (d draw) tenant() string {
	return rapid.SampledFrom([]string{"", "acme", "globex", pap.AnyTenant}).Draw(d.T, "tenant")
}

func (d draw) kind() pap.Kind {
	return rapid.SampledFrom([]pap.Kind{pap.KindGrant, pap.KindSubject}).Draw(d.T, "kind")
}

func (d draw) number() int     { return rapid.IntRange(-1, 6).Draw(d.T, "number") }
func (d draw) counter() uint64 { return rapid.Uint64Range(0, 5).Draw(d.T, "counter") }
func (d draw) yes() bool       { return rapid.Bool().Draw(d.T, "yes") }
func (d draw) at() time.Time   { return now.Add(time.Duration(d.number()) * time.Second) }
func (d draw) content() string {
	return rapid.SampledFrom([]string{"", "x", "y", "\x00\xff"}).Draw(d.T, "content")
}
func (d draw) id() string        { return fmt.Sprintf("%02d", rapid.IntRange(0, 20).Draw(d.T, "id")) }
func (d draw) use() pap.GrantUse { return pap.GrantUse{Grant: d.name(), Key: d.name()} }

func (d draw) audit() authz.AuditRecord {
	r := auditRecord(d.id(), rapid.SampledFrom([]authz.AuditKind{authz.AuditDecision, authz.AuditChange}).Draw(d.T, "audit kind"))
	r.Tenant, r.Subject, r.Time = d.tenant(), rapid.SampledFrom([]string{"", "user:a", "user:b"}).Draw(d.T, "subject"), d.at()
	return r
}

func (d draw) filter() pap.AuditFilter {
	f := pap.AuditFilter{Tenant: d.tenant()}
	if d.yes() {
		f.Subject, f.Kind = "user:a", authz.AuditDecision
	}
	if d.yes() {
		f.From, f.To = d.at(), d.at()
	}
	if d.yes() {
		f.Before = d.id()
	}
	return f
}

func (d draw) release() pap.Release {
	r := pap.Release{Number: d.counter(), Digest: digestOf("r"), Restores: d.counter(), Unreviewed: d.yes(), Author: d.name(), Source: d.name(), Commit: d.content(), CreatedAt: d.at()}
	for range rapid.IntRange(0, 2).Draw(d.T, "files") {
		text := d.content()
		r.Files = append(r.Files, pap.ReleaseFile{Path: d.name(), Digest: digestOf(text), Size: len(text)})
	}
	return r
}

// read draws a call that reads.
func (d draw) read() call {
	limit := d.number()
	switch rapid.IntRange(0, 12).Draw(d.T, "read") {
	case 0:
		return func(tx pap.Tx) string { return observe(tx.Head()) }
	case 1:
		kind, key := d.kind(), d.name()
		return func(tx pap.Tx) string { return observe(tx.Record(kind, key)) }
	case 2:
		kind, tenant, after := d.kind(), d.tenant(), d.name()
		return func(tx pap.Tx) string { return observe(tx.Records(kind, tenant, after, limit)) }
	case 3:
		after := d.counter()
		return func(tx pap.Tx) string { return observe(tx.Log(after, limit)) }
	case 4:
		path := d.name()
		return func(tx pap.Tx) string { return observe(tx.Document(path)) }
	case 5:
		f := pap.DocumentFilter{Prefix: d.name(), Layer: d.tenant(), Tenant: d.tenant(), OnlyDrafts: d.yes(), Deleted: d.yes()}
		after := d.name()
		return func(tx pap.Tx) string { return observe(tx.Documents(f, after, limit)) }
	case 6:
		path, version := d.name(), int64(d.number())
		return func(tx pap.Tx) string { return observe(tx.DocumentVersions(path, version, limit)) }
	case 7:
		number := d.counter()
		return func(tx pap.Tx) string { return observe(tx.Release(number)) }
	case 8:
		before := d.counter()
		return func(tx pap.Tx) string { return observe(tx.Releases(before, limit)) }
	case 9:
		digest, other := digestOf(d.content()), digestOf(d.content())
		return func(tx pap.Tx) string {
			return observe(tx.Blob(digest)) + observe(tx.Blobs([]bundles.Digest{digest, other}))
		}
	case 10:
		after := d.use()
		return func(tx pap.Tx) string { return observe(tx.GrantUses(after, limit)) }
	case 11:
		caller, key := d.name(), d.name()
		return func(tx pap.Tx) string { return observe(tx.Replay(caller, key)) }
	default:
		after := d.id()
		return func(tx pap.Tx) string { return observe(tx.Audits(after, limit)) }
	}
}

// write draws a call that writes.
func (d draw) write() call {
	only := func(err error) string { return observe("", err) }
	switch rapid.IntRange(0, 8).Draw(d.T, "write") {
	case 0, 1:
		r := record(d.kind(), d.name(), d.tenant())
		r.At, r.Body = d.at(), []byte(d.content())
		return func(tx pap.Tx) string { return observe(tx.Put(r)) }
	case 2:
		doc := document(d.name(), int64(d.number()))
		doc.Deleted, doc.Draft, doc.Layer, doc.Tenant, doc.Content = d.yes(), d.yes(), d.tenant(), d.tenant(), []byte(d.content())
		return func(tx pap.Tx) string { return only(tx.PutDocument(doc)) }
	case 3:
		path, version, release := d.name(), int64(d.number()), d.counter()
		return func(tx pap.Tx) string { return only(tx.MarkPublished(path, version, release)) }
	case 4:
		r := d.release()
		return func(tx pap.Tx) string { return only(tx.InsertRelease(r)) }
	case 5:
		data, digest := d.content(), digestOf(d.content())
		return func(tx pap.Tx) string { return only(tx.PutBlob(digest, []byte(data))) }
	case 6:
		use, max := d.use(), d.number()
		return func(tx pap.Tx) string { return observe(tx.UseGrant(use.Grant, use.Key, max)) }
	case 7:
		r := pap.Replay{Caller: d.name(), Key: d.name(), BodyDigest: digestOf("b"), Status: 200, Response: []byte(d.content()), At: d.at()}
		if before := d.at(); d.yes() {
			return func(tx pap.Tx) string { return only(tx.ForgetReplays(before)) }
		}
		return func(tx pap.Tx) string { return only(tx.PutReplay(r)) }
	default:
		r := d.audit()
		return func(tx pap.Tx) string { return only(tx.Audit(r)) }
	}
}

// calls draws the body of one transaction.
func (d draw) calls() []call {
	list := make([]call, rapid.IntRange(1, 6).Draw(d.T, "calls"))
	for i := range list {
		if d.yes() {
			list[i] = d.write()
		} else {
			list[i] = d.read()
		}
	}
	return list
}

var errDrawn = errors.New("the drawn failure")

// run performs the calls and notes what each showed. A transaction may run
// more than once, so the notes begin anew.
func run(notes *[]string, calls []call, fails bool) func(pap.Tx) error {
	return func(tx pap.Tx) error {
		*notes = nil
		for _, c := range calls {
			*notes = append(*notes, c(tx))
		}
		if fails {
			return errDrawn
		}
		return nil
	}
}

// testModel runs random transactions on the store and on the model and
// compares everything that can be observed.
func testModel(t *testing.T, d Driver) {
	rapid.Check(t, func(rt *rapid.T) {
		store, err := d.Open(t.Context(), d.New(t))
		if err != nil {
			rt.Fatal(err)
		}
		defer store.Close()
		m, g := newModel(), draw{rt}
		compare := func(what string, got, want []string) {
			if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
				rt.Fatalf("%s:\nstore %s\nmodel %s", what, g, w)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"update": func(*rapid.T) {
				calls, fails := g.calls(), rapid.IntRange(0, 4).Draw(rt, "fails") == 0
				var got, want []string
				err := store.Update(t.Context(), run(&got, calls, fails))
				next := m.clone(false)
				failed := run(&want, calls, fails)(next) != nil || next.broken
				if !failed {
					m = next
				}
				compare("update", got, want)
				if failed != (err != nil) || fails && !errors.Is(err, errDrawn) {
					rt.Fatalf("update: %v", err)
				}
			},
			"view": func(*rapid.T) {
				calls := g.calls()
				var got, want []string
				if err := store.View(t.Context(), run(&got, calls, false)); err != nil {
					rt.Fatalf("view: %v", err)
				}
				run(&want, calls, false)(m.clone(true))
				compare("view", got, want)
			},
			"decisions": func(*rapid.T) {
				records := make([]authz.AuditRecord, rapid.IntRange(0, 3).Draw(rt, "records"))
				for i := range records {
					records[i] = g.audit()
					records[i].ID += "d" // apart from the ids of changes
				}
				if err := store.InsertDecisions(t.Context(), records); err != nil {
					rt.Fatal(err)
				}
				m.insertDecisions(records)
				after, limit := g.id(), g.number()
				compare("decisions", []string{observe(store.Decisions(t.Context(), after, limit))}, []string{observe(m.listDecisions(after, limit), nil)})
			},
			"query": func(*rapid.T) {
				filter, limit := g.filter(), g.number()
				compare("query", []string{observe(store.QueryAudit(t.Context(), filter, limit))}, []string{observe(m.queryAudit(filter, limit), nil)})
			},
		})
	})
}

// Scramble fills a store with random content of every sort that a backup holds.
func Scramble(ctx context.Context, rt *rapid.T, store interface {
	pap.Store
	pap.AuditStore
}) error {
	g := draw{rt}
	for range rapid.IntRange(0, 20).Draw(rt, "transactions") {
		var notes []string
		calls := g.calls()
		if next := g.audit(); g.yes() {
			if err := store.InsertDecisions(ctx, []authz.AuditRecord{next}); err != nil {
				return err
			}
		}
		// A drawn call may break the transaction; then nothing of it stays.
		if err := store.Update(ctx, run(&notes, calls, false)); err != nil && len(notes) != len(calls) {
			return err
		}
	}
	return nil
}
