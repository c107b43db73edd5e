package backup

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/postgres"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 21, 8, 30, 0, 123456000, time.UTC)

// databases are the two kinds, each opened empty.
var databases = map[string]func(t testing.TB) Store{
	"SQLite": func(t testing.TB) Store {
		return opened[*sqlite.Store](t)(sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{}))
	},
	"PostgreSQL": func(t testing.TB) Store {
		return opened[*postgres.Store](t)(postgres.Open(t.Context(), storetest.PostgresSchema(t), postgres.Options{}))
	},
}

func opened[S Store](t testing.TB) func(S, error) Store {
	return func(store S, err error) Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		return store
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// archive backs a store up.
func archive(t testing.TB, store Store) []byte {
	t.Helper()
	var file bytes.Buffer
	check(t, Backup(t.Context(), store, &file, now))
	return file.Bytes()
}

// fill writes something of every sort, in two releases.
func fill(t testing.TB, store Store) {
	t.Helper()
	audit := func(id string, kind authz.AuditKind) authz.AuditRecord {
		return authz.AuditRecord{ID: id, Time: now, Kind: kind, Tenant: "acme", Actor: "a", Action: "b", Body: authz.MustValue(map[string]any{"<": "\u0000李"})}
	}
	put := func(tx pap.Tx, key string) {
		_, err := tx.Put(pap.Record{Kind: pap.KindGrant, Key: key, Tenant: "acme", At: now, Body: []byte(key)})
		check(t, err)
	}
	release := func(tx pap.Tx, number uint64, contents ...string) {
		r := pap.Release{Number: number, Digest: sha256.Sum256([]byte{byte(number)}), Restores: number - 1, Unreviewed: true, Author: "li", Note: "n", Source: "s", Commit: "c", CreatedAt: now}
		for i, content := range contents {
			digest := bundles.Digest(sha256.Sum256([]byte(content)))
			check(t, tx.PutBlob(digest, []byte(content)))
			r.Files = append(r.Files, pap.ReleaseFile{Path: fmt.Sprint("f", i), Digest: digest, Size: len(content)})
		}
		check(t, tx.InsertRelease(r))
	}
	large := strings.Repeat("large\x00\xff", 1<<14)
	check(t, store.Update(t.Context(), func(tx pap.Tx) error {
		put(tx, "g1")
		release(tx, 1, "shared", large)
		check(t, tx.PutDocument(pap.Document{Path: "f0", Version: 1, Content: []byte("shared"), Release: 1, Layer: "tenant", Tenant: "acme", UpdatedBy: "li", UpdatedAt: now}))
		check(t, tx.PutDocument(pap.Document{Path: "f0", Version: 2, Deleted: true, Draft: true, Layer: "platform", UpdatedAt: now}))
		check(t, tx.PutReplay(pap.Replay{Caller: "c", Key: "k", At: now}))
		_, err := tx.UseGrant("g1", "run-1", 2)
		check(t, err)
		asked := authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li"}, Action: authz.Action{Name: "a"}, Resource: authz.Entity{Type: "r", ID: "1"}}
		for i, state := range []cheq.State{cheq.Rejected, cheq.Pending} {
			c := cheq.Case{ID: fmt.Sprint("cheq-", i), Tenant: "acme", State: state, Requester: cheq.Person{Tenant: "acme", Name: "user:li"}, Request: asked, Digests: []string{"sha256:1"}, OpenedAt: now, Due: now}
			rows := tx.(cheq.Rows)
			check(t, rows.PutCase(c))
			check(t, rows.Note(&c, cheq.Event{At: now, Actor: cheq.Person{Tenant: "acme", Name: "user:li"}, Action: "open", Detail: "李"}))
			check(t, rows.Note(&c, cheq.Event{At: now, Action: "remind"}))
			check(t, rows.PutDelivery(cheq.Delivery{Case: c.ID, Place: cheq.Place{Channel: "feishu", To: "chat:李"}, Message: "om_1", Wanted: 2, Shown: 1, Attempts: 3, Error: "e", Due: now}))
			_, err := rows.Seen("feishu", fmt.Sprint("event-", i), now, now)
			check(t, err)
		}
		return tx.Audit(audit("02", authz.AuditChange))
	}))
	check(t, store.Update(t.Context(), func(tx pap.Tx) error {
		put(tx, "g2")
		put(tx, "g1")
		_, err := tx.UseGrant("g1", "run-2", 2)
		check(t, err)
		release(tx, 2, "shared", "")
		return nil
	}))
	var decisions []authz.AuditRecord
	for i := range 2*pageSize + 1 { // more than a page
		decisions = append(decisions, audit(fmt.Sprintf("%05d", i), authz.AuditDecision))
	}
	check(t, store.InsertDecisions(t.Context(), decisions))
}

func TestBackupRestoresIntoEitherDatabase(t *testing.T) {
	for from, source := range databases {
		for to, target := range databases {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				store, restored := source(t), target(t)
				fill(t, store)
				file := archive(t, store)
				check(t, Restore(t.Context(), bytes.NewReader(file), restored))
				if !bytes.Equal(archive(t, restored), file) {
					t.Error("a backup of what was restored differs")
				}
				check(t, restored.View(t.Context(), func(tx pap.Tx) error {
					timeline, err := tx.(cheq.Rows).Timeline("cheq-1", 10)
					if err != nil || len(timeline) != 2 || timeline[1].Action != "remind" {
						t.Errorf("the case's timeline is %v, %v", timeline, err)
					}
					deliveries, err := tx.(cheq.Rows).Deliveries("cheq-1")
					if err != nil || len(deliveries) != 1 || deliveries[0].Message != "om_1" || !deliveries[0].Due.Equal(now) {
						t.Errorf("the case's deliveries are %v, %v", deliveries, err)
					}
					answered, err := tx.(cheq.Rows).Answered(cheq.Answered{}, 10)
					if err != nil || len(answered) != 2 {
						t.Errorf("%d answers have counted, %v", len(answered), err)
					}
					head, err := tx.Head()
					if err != nil || head != (authz.Revision{Release: 2, Position: 3}) {
						t.Errorf("head %v, %v", head, err)
					}
					newest, err := tx.Record(pap.KindGrant, "g1")
					if err != nil || newest.Position != 3 || newest.At != now {
						t.Errorf("newest record %+v, %v", newest, err)
					}
					return nil
				}))
				// What was used up stays used up, and writing goes on where it was.
				check(t, restored.Update(t.Context(), func(tx pap.Tx) error {
					counted, err := tx.UseGrant("g1", "run-3", 2)
					if err != nil || counted {
						t.Errorf("a used-up grant was used again: %v", err)
					}
					position, err := tx.Put(pap.Record{Kind: pap.KindGrant, Key: "g3"})
					if err != nil || position != 4 {
						t.Errorf("next position %d, %v", position, err)
					}
					return nil
				}))
			})
		}
	}
}

func TestBackupKeepsWhateverAStoreHolds(t *testing.T) {
	if os.Getenv("XIEZHI_TEST_LONG") == "" { // a check opens two stores: a tenth of rapid's hundred
		checks := flag.Lookup("rapid.checks").Value
		was := checks.String()
		check(t, checks.Set("10"))
		t.Cleanup(func() { check(t, checks.Set(was)) })
	}
	rapid.Check(t, func(rt *rapid.T) {
		store, restored := databases["SQLite"](t), databases["SQLite"](t)
		if err := storetest.Scramble(t.Context(), rt, store); err != nil {
			rt.Fatal(err)
		}
		file := archive(t, store)
		if err := Restore(t.Context(), bytes.NewReader(file), restored); err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(archive(t, restored), file) {
			rt.Error("a backup of what was restored differs")
		}
		// Within a test's life many stores would stay open.
		store.Close()
		restored.Close()
	})
}

func TestBackupOfAnEmptyStoreRestores(t *testing.T) {
	store, restored := databases["SQLite"](t), databases["SQLite"](t)
	check(t, Restore(t.Context(), bytes.NewReader(archive(t, store)), restored))
}

func TestRestoreIntoAStoreThatIsNotEmptyIsRefused(t *testing.T) {
	empty := archive(t, databases["SQLite"](t))
	for name, write := range map[string]func(t *testing.T, store Store) error{
		"record": func(t *testing.T, store Store) error {
			return store.Update(t.Context(), func(tx pap.Tx) error { _, err := tx.Put(pap.Record{}); return err })
		},
		"release": func(t *testing.T, store Store) error {
			return store.Update(t.Context(), func(tx pap.Tx) error { return tx.InsertRelease(pap.Release{Number: 1}) })
		},
		"draft": func(t *testing.T, store Store) error {
			return store.Update(t.Context(), func(tx pap.Tx) error { return tx.PutDocument(pap.Document{Path: "a"}) })
		},
		"use": func(t *testing.T, store Store) error {
			return store.Update(t.Context(), func(tx pap.Tx) error { _, err := tx.UseGrant("g", "u", 1); return err })
		},
		"case": func(t *testing.T, store Store) error {
			return store.Update(t.Context(), func(tx pap.Tx) error {
				return tx.(cheq.Rows).PutCase(cheq.Case{
					ID: "cheq-1", Digests: []string{"sha256:1"}, OpenedAt: now,
					Request: authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li"}, Action: authz.Action{Name: "a"}, Resource: authz.Entity{Type: "r", ID: "1"}},
				})
			})
		},
		"audit record": func(t *testing.T, store Store) error {
			return store.Update(t.Context(), func(tx pap.Tx) error { return tx.Audit(authz.AuditRecord{ID: "1"}) })
		},
		"decision": func(t *testing.T, store Store) error {
			return store.InsertDecisions(t.Context(), []authz.AuditRecord{{ID: "1"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := databases["SQLite"](t)
			check(t, write(t, store))
			if err := Restore(t.Context(), bytes.NewReader(empty), store); !errors.Is(err, ErrNotEmpty) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// lines unpacks a file.
func lines(t testing.TB, file []byte) []string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(file))
	check(t, err)
	text, err := io.ReadAll(zip)
	check(t, err)
	return strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
}

// pack makes a file of lines, with a trailer that agrees with them.
func pack(t testing.TB, lines []string) []byte {
	t.Helper()
	text := strings.Join(lines, "")
	trailer, err := json.Marshal(line{End: &end{len(lines), sha256.Sum256([]byte(text))}})
	check(t, err)
	return zipped(t, text+string(trailer)+"\n")
}

func zipped(t testing.TB, text string) []byte {
	t.Helper()
	var file bytes.Buffer
	zip := gzip.NewWriter(&file)
	_, err := io.WriteString(zip, text)
	check(t, err)
	check(t, zip.Close())
	return file.Bytes()
}

// refused fails the test unless the file is refused and nothing was stored.
func refused(t *testing.T, what string, store Store, file []byte) {
	t.Helper()
	if err := Restore(t.Context(), bytes.NewReader(file), store); err == nil {
		t.Fatalf("%s: restored", what)
	}
	if err := isEmpty(t.Context(), store); err != nil {
		t.Fatalf("%s: left something: %v", what, err)
	}
}

func TestDamagedFileIsRefusedBeforeAnythingIsStored(t *testing.T) {
	store, target := databases["SQLite"](t), databases["SQLite"](t)
	fill(t, store)
	file := archive(t, store)
	step := len(file)/40 + 1
	for at := 0; at < len(file); at += step {
		refused(t, fmt.Sprint("cut at ", at), target, file[:at])
		flipped := bytes.Clone(file)
		flipped[at] ^= 0x10
		if at > 3 && at < 10 { // gzip's own time stamp and hints mean nothing
			continue
		}
		refused(t, fmt.Sprint("flipped at ", at), target, flipped)
	}
	all := lines(t, file)
	body := all[:len(all)-1]
	for name, text := range map[string]string{
		"without a trailer":        strings.Join(body, ""),
		"a line less":              strings.Join(append(body[:3:3], all[4:]...), "") + "\n",
		"two lines exchanged":      strings.Join(append(append(body[:3:3], body[4], body[3]), all[5:]...), "") + "\n",
		"something behind its end": strings.Join(all, "") + "\n{}\n",
		"nothing at all":           "",
	} {
		refused(t, name, target, zipped(t, text))
	}
	check(t, Restore(t.Context(), bytes.NewReader(file), target))
}

func TestFileWithAGoodSumAndBadContentIsRefused(t *testing.T) {
	store, target := databases["SQLite"](t), databases["SQLite"](t)
	check(t, store.Update(t.Context(), func(tx pap.Tx) error {
		for _, key := range []string{"a", "b"} {
			if _, err := tx.Put(pap.Record{Kind: pap.KindGrant, Key: key, At: now}); err != nil {
				return err
			}
		}
		return tx.InsertRelease(pap.Release{Number: 1, CreatedAt: now})
	}))
	all := lines(t, archive(t, store))
	body := all[:len(all)-1] // header, release, two records
	if len(body) != 4 {
		t.Fatalf("%d lines", len(body))
	}
	for name, edited := range map[string][]string{
		"a log with a gap":        {body[0], body[1], body[3]},
		"a log that ends early":   body[:3],
		"a log out of order":      {body[0], body[1], body[3], body[2]},
		"a release too many":      {body[0], body[1], body[1], body[2], body[3]},
		"a newer format":          {strings.Replace(body[0], `"version":1`, `"version":2`, 1), body[1], body[2], body[3]},
		"no header":               body[1:],
		"two headers":             {body[0], body[0], body[1], body[2], body[3]},
		"an unknown entry":        append([]string{body[0], `{"surprise":{}}` + "\n"}, body[1:]...),
		"an empty entry":          append([]string{body[0], "{}\n"}, body[1:]...),
		"a missing content":       {body[0], strings.Replace(body[1], `"author"`, `"files":[{"path":"a","digest":"sha256:`+strings.Repeat("0", 64)+`","size":1}],"author"`, 1), body[2], body[3]},
		"text no store can hold":  append(body[:3:3], strings.Replace(body[3], `"key":"b"`, `"key":"b\u0000"`, 1)),
		"a line that is not JSON": append(body[:4:4], "xiezhi\n"),
	} {
		refused(t, name, target, pack(t, edited))
	}
	check(t, Restore(t.Context(), bytes.NewReader(pack(t, body)), target)) // pack itself is right
}

func TestBackupIsOneMomentOfAStoreThatIsWrittenTo(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := database(t)
			fill(t, store)
			// Each write of the backup lets another writer commit between.
			commits := 0
			file := &between{write: func() {
				if commits++; commits > 20 {
					return
				}
				check(t, store.Update(t.Context(), func(tx pap.Tx) error {
					_, err := tx.Put(pap.Record{Kind: pap.KindGrant, Key: fmt.Sprint("late", commits), At: now})
					return err
				}))
			}}
			check(t, Backup(t.Context(), store, file, now))
			if commits == 0 {
				t.Fatal("nobody wrote in between: this test shows nothing")
			}
			restored := databases["SQLite"](t)
			check(t, Restore(t.Context(), bytes.NewReader(file.Bytes()), restored))
			check(t, restored.View(t.Context(), func(tx pap.Tx) error {
				head, err := tx.Head()
				if err != nil || head.Position != 3 {
					t.Errorf("head %v, %v", head, err)
				}
				return nil
			}))
		})
	}
}

// between calls write before each write.
type between struct {
	bytes.Buffer
	write func()
}

func (b *between) Write(p []byte) (int, error) {
	b.write()
	return b.Buffer.Write(p)
}

func TestWriteErrorFailsTheBackup(t *testing.T) {
	store := databases["SQLite"](t)
	fill(t, store)
	full := errors.New("full")
	if err := Backup(t.Context(), store, failing{full}, now); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestCancelledRestoreLeavesTheLogEmpty(t *testing.T) {
	store, target := databases["SQLite"](t), databases["SQLite"](t)
	fill(t, store)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Restore(ctx, bytes.NewReader(archive(t, store)), target); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	check(t, isEmpty(t.Context(), target))
}
