package storetest

import (
	"fmt"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
)

func document(path string, version int64) pap.Document {
	return pap.Document{
		Path: path, Version: version, Content: fmt.Appendf(nil, "%s at %d", path, version), Draft: true,
		Layer: "platform", UpdatedBy: "user:li.wei", UpdatedAt: now,
	}
}

func paths(documents []pap.Document) (list []string) {
	for _, d := range documents {
		list = append(list, fmt.Sprintf("%s@%d", d.Path, d.Version))
	}
	return list
}

func testDocuments(t *testing.T, d Driver) {
	store := d.open(t)
	first, second := document("platform/a.rego", 1), document("platform/a.rego", 2)
	second.Deleted, second.Content, second.Draft, second.Release = true, nil, false, 7
	other := document("tenants/acme/a.rego", 1)
	other.Layer, other.Tenant, other.Content = "tenant", "acme", []byte{0, 0xff}
	update(t, store, func(tx pap.Tx) {
		for _, doc := range []pap.Document{second, first, other} { // the order of writing does not matter
			if err := tx.PutDocument(doc); err != nil {
				t.Fatal(err)
			}
		}
		changed := first
		changed.Content = []byte("changed")
		is(t, "same version again", tx.PutDocument(changed), pap.ErrConflict)
	})
	view(t, store, func(tx pap.Tx) {
		same(t, "newest", must[pap.Document](t)(tx.Document("platform/a.rego")), second)
		same(t, "other", must[pap.Document](t)(tx.Document("tenants/acme/a.rego")), other)
		same(t, "versions", must[[]pap.Document](t)(tx.DocumentVersions("", 0, 10)), []pap.Document{first, second, other})
		same(t, "page", must[[]pap.Document](t)(tx.DocumentVersions("platform/a.rego", 1, 1)), []pap.Document{second})
		same(t, "next page", must[[]pap.Document](t)(tx.DocumentVersions("platform/a.rego", 2, 1)), []pap.Document{other})
		same(t, "no limit", must[[]pap.Document](t)(tx.DocumentVersions("", 0, 0)), nil)
	})
}

func testDocumentFilter(t *testing.T, d Driver) {
	store := d.open(t)
	update(t, store, func(tx pap.Tx) {
		put := func(doc pap.Document) {
			if err := tx.PutDocument(doc); err != nil {
				t.Fatal(err)
			}
		}
		published := document("platform/a.rego", 1)
		published.Draft, published.Release = false, 1
		put(published)
		put(document("platform/a.rego", 2))
		published.Path = "platform/b.rego"
		put(published)
		removed := document("platform/c.rego", 1)
		put(removed)
		removed.Version, removed.Deleted = 2, true
		put(removed)
		for _, path := range []string{"tenants/acme/a_b.rego", "tenants/acme/axb.rego", "tenants/acme/李.rego"} {
			tenant := document(path, 1)
			tenant.Layer, tenant.Tenant, tenant.Draft = "tenant", "acme", false
			put(tenant)
		}
	})
	const a, b, c, under, cross, li = "platform/a.rego@2", "platform/b.rego@1", "platform/c.rego@2",
		"tenants/acme/a_b.rego@1", "tenants/acme/axb.rego@1", "tenants/acme/李.rego@1"
	for _, row := range []struct {
		name   string
		filter pap.DocumentFilter
		after  string
		limit  int
		want   []string
	}{
		{"everything there is", pap.DocumentFilter{}, "", 10, []string{a, b, under, cross, li}},
		{"with removed ones", pap.DocumentFilter{Deleted: true}, "", 10, []string{a, b, c, under, cross, li}},
		{"drafts", pap.DocumentFilter{OnlyDrafts: true}, "", 10, []string{a}},
		{"drafts with removals", pap.DocumentFilter{OnlyDrafts: true, Deleted: true}, "", 10, []string{a, c}},
		{"by layer", pap.DocumentFilter{Layer: "tenant"}, "", 10, []string{under, cross, li}},
		{"by tenant", pap.DocumentFilter{Tenant: "acme"}, "", 10, []string{under, cross, li}},
		{"by another tenant", pap.DocumentFilter{Tenant: "globex"}, "", 10, nil},
		{"any tenant", pap.DocumentFilter{Tenant: pap.AnyTenant}, "", 10, []string{a, b, under, cross, li}},
		{"by folder", pap.DocumentFilter{Prefix: "platform/"}, "", 10, []string{a, b}},
		{"by part of a name", pap.DocumentFilter{Prefix: "platform/b"}, "", 10, []string{b}},
		{"a prefix is not a pattern", pap.DocumentFilter{Prefix: "tenants/acme/a_"}, "", 10, []string{under}},
		{"nor this one", pap.DocumentFilter{Prefix: "%"}, "", 10, nil},
		{"a prefix that is not ASCII", pap.DocumentFilter{Prefix: "tenants/acme/李"}, "", 10, []string{li}},
		{"first page", pap.DocumentFilter{}, "", 2, []string{a, b}},
		{"second page", pap.DocumentFilter{}, "platform/b.rego", 2, []string{under, cross}},
		{"page under a prefix", pap.DocumentFilter{Prefix: "tenants/"}, "tenants/acme/a_b.rego", 1, []string{cross}},
		{"no limit", pap.DocumentFilter{}, "", 0, nil},
	} {
		view(t, store, func(tx pap.Tx) {
			same(t, row.name, paths(must[[]pap.Document](t)(tx.Documents(row.filter, row.after, row.limit))), row.want)
		})
	}
}

func testMarkPublished(t *testing.T, d Driver) {
	store := d.open(t)
	first, second := document("platform/a.rego", 1), document("platform/a.rego", 2)
	update(t, store, func(tx pap.Tx) {
		for _, doc := range []pap.Document{first, second} {
			if err := tx.PutDocument(doc); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.MarkPublished("platform/a.rego", 1, 4); err != nil {
			t.Error(err)
		}
		is(t, "unknown version", tx.MarkPublished("platform/a.rego", 3, 4), pap.ErrNotFound)
		is(t, "unknown path", tx.MarkPublished("platform/b.rego", 1, 4), pap.ErrNotFound)
	})
	first.Draft, first.Release = false, 4
	view(t, store, func(tx pap.Tx) {
		same(t, "versions", must[[]pap.Document](t)(tx.DocumentVersions("", 0, 10)), []pap.Document{first, second})
	})
}
