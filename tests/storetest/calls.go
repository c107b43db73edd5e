package storetest

import (
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

func testUseGrant(t *testing.T, d Driver) {
	store := d.open(t)
	for _, row := range []struct {
		name       string
		grant, key string
		max        int
		want       bool
	}{
		{"the first use", "g", "run-1", 2, true},
		{"the same use again", "g", "run-1", 2, true},
		{"the second use", "g", "run-2", 2, true},
		{"one too many", "g", "run-3", 2, false},
		{"a counted use when the grant is used up", "g", "run-1", 2, true},
		{"a counted use when the maximum fell", "g", "run-1", 0, true},
		{"another grant", "h", "run-1", 1, true},
		{"no use allowed", "i", "run-1", 0, false},
		{"less than none allowed", "i", "run-1", -1, false},
	} {
		update(t, store, func(tx pap.Tx) {
			same(t, row.name, must[bool](t)(tx.UseGrant(row.grant, row.key, row.max)), row.want)
		})
	}
	view(t, store, func(tx pap.Tx) {
		all := []pap.GrantUse{{Grant: "g", Key: "run-1"}, {Grant: "g", Key: "run-2"}, {Grant: "h", Key: "run-1"}}
		same(t, "all", must[[]pap.GrantUse](t)(tx.GrantUses(pap.GrantUse{}, 10)), all)
		same(t, "first page", must[[]pap.GrantUse](t)(tx.GrantUses(pap.GrantUse{}, 2)), all[:2])
		same(t, "second page", must[[]pap.GrantUse](t)(tx.GrantUses(all[1], 2)), all[2:])
		same(t, "no limit", must[[]pap.GrantUse](t)(tx.GrantUses(pap.GrantUse{}, 0)), nil)
	})
}

func testReplays(t *testing.T, d Driver) {
	store := d.open(t)
	old := pap.Replay{Caller: "c", Key: "k", BodyDigest: digestOf("body"), Status: 201, Response: []byte(`{"a":1}`), At: now}
	young := pap.Replay{Caller: "c", Key: "empty", Status: 204, At: now.Add(time.Hour)}
	other := pap.Replay{Caller: "d", Key: "k", Status: 200, At: now.Add(time.Hour)}
	update(t, store, func(tx pap.Tx) {
		for _, r := range []pap.Replay{old, young, other} {
			if err := tx.PutReplay(r); err != nil {
				t.Fatal(err)
			}
		}
		changed := old
		changed.Status = 500
		is(t, "known key", tx.PutReplay(changed), pap.ErrConflict)
		if err := tx.ForgetReplays(now); err != nil { // stored before, not at
			t.Fatal(err)
		}
		same(t, "old", must[pap.Replay](t)(tx.Replay("c", "k")), old)
	})
	update(t, store, func(tx pap.Tx) {
		if err := tx.ForgetReplays(now.Add(time.Microsecond)); err != nil {
			t.Fatal(err)
		}
	})
	view(t, store, func(tx pap.Tx) {
		_, err := tx.Replay("c", "k")
		is(t, "forgotten", err, pap.ErrNotFound)
		same(t, "young", must[pap.Replay](t)(tx.Replay("c", "empty")), young)
		same(t, "other caller", must[pap.Replay](t)(tx.Replay("d", "k")), other)
	})
}
