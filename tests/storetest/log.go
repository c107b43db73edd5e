package storetest

import (
	"fmt"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func testPut(t *testing.T, d Driver) {
	store := d.open(t)
	first, second := record(pap.KindGrant, "g1", "acme"), record(pap.KindGrant, "g1", "globex")
	second.Body = []byte{0, 0xff, '\''} // not text at all: bytes are bytes
	empty := pap.Record{Kind: pap.KindRole, Key: "r", At: now}
	update(t, store, func(tx pap.Tx) {
		for i, r := range []*pap.Record{&first, &second, &empty} {
			r.Position = must[uint64](t)(tx.Put(*r))
			same(t, "position", r.Position, i+1)
		}
		same(t, "head inside", must[authz.Revision](t)(tx.Head()), authz.Revision{Position: 3})
	})
	view(t, store, func(tx pap.Tx) {
		same(t, "head", must[authz.Revision](t)(tx.Head()), authz.Revision{Position: 3})
		same(t, "newest", must[pap.Record](t)(tx.Record(pap.KindGrant, "g1")), second)
		same(t, "empty", must[pap.Record](t)(tx.Record(pap.KindRole, "r")), empty)
		same(t, "log", must[[]pap.Record](t)(tx.Log(0, 10)), []pap.Record{first, second, empty})
		_, err := tx.Record(pap.KindRole, "g1")
		is(t, "another kind's key", err, pap.ErrNotFound)
	})
}

func testRecords(t *testing.T, d Driver) {
	store := d.open(t)
	update(t, store, func(tx pap.Tx) {
		for i, key := range []string{"c", "a", "e", "b", "d", "a"} { // "a" is put twice
			tenant := []string{"acme", "globex"}[i%2]
			must[uint64](t)(tx.Put(record(pap.KindSubject, key, tenant)))
		}
		must[uint64](t)(tx.Put(record(pap.KindSubject, "p", "")))
		must[uint64](t)(tx.Put(record(pap.KindRole, "z", "acme")))
	})
	for _, row := range []struct {
		name          string
		tenant, after string
		limit         int
		want          []string
	}{
		{"all", pap.AnyTenant, "", 10, []string{"a", "b", "c", "d", "e", "p"}},
		{"one tenant", "acme", "", 10, []string{"c", "d", "e"}}, // a went to globex
		{"the other", "globex", "", 10, []string{"a", "b"}},
		{"the platform", "", "", 10, []string{"p"}},
		{"nobody's", "hooli", "", 10, nil},
		{"first page", pap.AnyTenant, "", 2, []string{"a", "b"}},
		{"second page", pap.AnyTenant, "b", 2, []string{"c", "d"}},
		{"after a key that is not there", pap.AnyTenant, "bb", 1, []string{"c"}},
		{"past the end", pap.AnyTenant, "p", 10, nil},
		{"no limit", pap.AnyTenant, "", 0, nil},
		{"negative limit", pap.AnyTenant, "", -1, nil},
		{"a quote", pap.AnyTenant, "' OR 1=1 --", 10, []string{"a", "b", "c", "d", "e", "p"}},
		{"a wildcard is no tenant", "%", "", 10, nil},
	} {
		view(t, store, func(tx pap.Tx) {
			same(t, row.name, keys(must[[]pap.Record](t)(tx.Records(pap.KindSubject, row.tenant, row.after, row.limit))), row.want)
		})
	}
}

func testLog(t *testing.T, d Driver) {
	store := d.open(t)
	for i := range 5 {
		update(t, store, func(tx pap.Tx) { must[uint64](t)(tx.Put(record(pap.KindToken, fmt.Sprint("t", i%2), ""))) })
	}
	for _, row := range []struct {
		after uint64
		limit int
		want  []uint64
	}{
		{0, 10, []uint64{1, 2, 3, 4, 5}},
		{0, 2, []uint64{1, 2}},
		{2, 2, []uint64{3, 4}},
		{4, 2, []uint64{5}},
		{5, 2, nil},
		{1 << 63, 2, nil},
		{^uint64(0), 2, nil},
		{0, 0, nil},
	} {
		view(t, store, func(tx pap.Tx) {
			var got []uint64
			for _, r := range must[[]pap.Record](t)(tx.Log(row.after, row.limit)) {
				got = append(got, r.Position)
			}
			same(t, fmt.Sprintf("log after %d, %d", row.after, row.limit), got, row.want)
		})
	}
}
