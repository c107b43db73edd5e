package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
)

func sampleDelivery(n int, channel, to string, due time.Time) cheq.Delivery {
	return cheq.Delivery{Case: sampleCase(n).ID, Place: cheq.Place{Channel: channel, To: to}, Wanted: 1, Due: due}
}

func testDeliveries(t *testing.T, d Driver) {
	store := d.open(t)
	first, second := sampleCase(1), sampleCase(2)
	chat, room := sampleDelivery(1, "feishu", "chat:oc_李", now), sampleDelivery(1, "matrix", "!r:x", now)
	early, later := sampleDelivery(2, "feishu", "user:ou_1", now.Add(-time.Minute)), sampleDelivery(2, "feishu", "user:ou_2", now.Add(time.Microsecond))
	put := func(all ...cheq.Delivery) {
		t.Helper()
		update(t, store, func(tx pap.Tx) {
			for _, d := range all {
				if err := rows(t, tx).PutDelivery(d); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	update(t, store, func(tx pap.Tx) {
		if err := errors.Join(rows(t, tx).PutCase(first), rows(t, tx).PutCase(second)); err != nil {
			t.Fatal(err)
		}
	})
	put(later, room, chat, early)
	due := func(channel string, at time.Time, limit int) (keys string) {
		t.Helper()
		view(t, store, func(tx pap.Tx) {
			for _, d := range must[[]cheq.Delivery](t)(rows(t, tx).DueDeliveries(channel, at, limit)) {
				keys += d.To + " "
			}
		})
		return keys
	}
	of := func(id string) (list []cheq.Delivery) {
		t.Helper()
		view(t, store, func(tx pap.Tx) { list = must[[]cheq.Delivery](t)(rows(t, tx).Deliveries(id)) })
		return list
	}
	same(t, "of a case", of(first.ID), []cheq.Delivery{chat, room})
	same(t, "of no case", len(of("cheq-none")), 0)
	same(t, "due, the oldest first", due("feishu", now, 10), "user:ou_1 chat:oc_李 ")
	same(t, "due, the oldest", due("feishu", now, 1), "user:ou_1 ")
	same(t, "due a moment later", due("feishu", now.Add(time.Microsecond), 10), "user:ou_1 chat:oc_李 user:ou_2 ")
	same(t, "due elsewhere", due("matrix", now, 10), "!r:x ")
	same(t, "due nowhere", due("webhook", now, 10), "")

	chat.Message, chat.Wanted, chat.Shown, chat.Attempts, chat.Error, chat.Due = "om_1", 3, 3, 0, "", time.Time{}
	early.Attempts, early.Error = 2, "限流"
	put(chat, early)
	same(t, "what was shown is not due", due("feishu", now, 10), "user:ou_1 ")
	same(t, "changed", of(first.ID)[0], chat)
	same(t, "failed", of(second.ID)[0], early)

	for name, wrong := range map[string]cheq.Delivery{
		"of no case": sampleDelivery(9, "feishu", "chat:oc", now), "text": sampleDelivery(1, "feishu", "a\x00", now),
		"a long key": sampleDelivery(1, "feishu", strings.Repeat("x", pap.MaxKeyBytes), now),
	} {
		if err := store.Update(t.Context(), func(tx pap.Tx) error { return rows(t, tx).PutDelivery(wrong) }); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
	view(t, store, func(tx pap.Tx) {
		if err := rows(t, tx).PutDelivery(chat); err == nil {
			t.Error("a view writes")
		}
	})
}

func testAnswered(t *testing.T, d Driver) {
	store := d.open(t)
	seen := func(channel, event string, at time.Time) (before bool) {
		t.Helper()
		update(t, store, func(tx pap.Tx) { before = must[bool](t)(rows(t, tx).Seen(channel, event, at, at.Add(-time.Hour))) })
		return before
	}
	for _, step := range []struct {
		channel, event string
		at             time.Time
		want           bool
	}{
		{"feishu", "a", now, false},
		{"feishu", "a", now, true},
		{"matrix", "a", now, false},
		{"feishu", "b", now.Add(time.Hour), false},
		{"feishu", "a", now.Add(time.Hour), true}, // an hour old is not older
		{"feishu", "b", now.Add(time.Hour), true},
		{"feishu", "c", now.Add(time.Hour + time.Microsecond), false},
		{"feishu", "a", now.Add(time.Hour + time.Microsecond), false}, // forgotten
		{"matrix", "a", now, true},
	} {
		same(t, fmt.Sprint(step), seen(step.channel, step.event, step.at), step.want)
	}
	undone := errors.New("undone")
	is(t, "an update that fails", store.Update(t.Context(), func(tx pap.Tx) error {
		_, err := rows(t, tx).Seen("feishu", "d", now.Add(time.Hour), now)
		return errors.Join(undone, err)
	}), undone)
	same(t, "noted by an update that failed", seen("feishu", "d", now.Add(time.Hour)), false)
	view(t, store, func(tx pap.Tx) {
		list := func(after cheq.Answered, limit int) (keys string) {
			t.Helper()
			for _, a := range must[[]cheq.Answered](t)(rows(t, tx).Answered(after, limit)) {
				keys += a.Channel + "/" + a.Event + " "
			}
			return keys
		}
		same(t, "all", list(cheq.Answered{}, 10), "feishu/a feishu/b feishu/c feishu/d matrix/a ")
		same(t, "a page", list(cheq.Answered{}, 2), "feishu/a feishu/b ")
		same(t, "the next", list(cheq.Answered{Channel: "feishu", Event: "b"}, 2), "feishu/c feishu/d ")
		same(t, "one", must[[]cheq.Answered](t)(rows(t, tx).Answered(cheq.Answered{Channel: "feishu", Event: "d"}, 1)), []cheq.Answered{{Channel: "matrix", Event: "a", At: now}})
		if _, err := rows(t, tx).Seen("feishu", "e", now, now); err == nil {
			t.Error("a view writes")
		}
	})
}

func testIdentityCodes(t *testing.T, d Driver) {
	store := d.open(t)
	codes := func(tx pap.Tx) pap.IdentityCodes {
		c, ok := tx.(pap.IdentityCodes)
		if !ok {
			t.Fatalf("%T keeps no codes", tx)
		}
		return c
	}
	code := func(text, subject string, ends time.Time) pap.IdentityCode {
		return pap.IdentityCode{Hash: bundles.Digest(sha256.Sum256([]byte(text))), Tenant: "acme", Subject: subject, ExpiresAt: ends}
	}
	put := func(c pap.IdentityCode, at time.Time) (live int) {
		t.Helper()
		update(t, store, func(tx pap.Tx) { live = must[int](t)(codes(tx).PutIdentityCode(c, at)) })
		return live
	}
	one, other := code("1", "user:li", now.Add(time.Minute)), code("2", "user:wang", now.Add(time.Hour))
	same(t, "the first", put(one, now), 1)
	same(t, "of another", put(other, now), 1)
	same(t, "the second", put(code("3", "user:li", now.Add(time.Hour)), now), 2)
	same(t, "after the first is over", put(code("4", "user:li", now.Add(time.Hour)), one.ExpiresAt), 2)
	update(t, store, func(tx pap.Tx) {
		_, err := codes(tx).TakeIdentityCode(one.Hash)
		is(t, "a code that is over", err, pap.ErrNotFound)
		same(t, "a code", must[pap.IdentityCode](t)(codes(tx).TakeIdentityCode(other.Hash)), other)
		_, err = codes(tx).TakeIdentityCode(other.Hash)
		is(t, "a code that was taken", err, pap.ErrNotFound)
		_, err = codes(tx).PutIdentityCode(code("4", "user:x", now.Add(time.Hour)), now)
		is(t, "a code that is known", err, pap.ErrConflict)
	})
	view(t, store, func(tx pap.Tx) {
		if _, err := codes(tx).TakeIdentityCode(one.Hash); err == nil {
			t.Error("a view writes")
		}
	})
}
