//go:build unix

package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lived is a server that was used: it has everything that a backup must hold.
type lived struct {
	at         place
	admin, pep string // tokens
	revoked    string
	grant      string // of which two of three uses are counted
}

// live starts a server, uses all of it, and stops it.
func live(t *testing.T, at place) lived {
	t.Helper()
	l := lived{at: at, admin: at.bootstrap(t, policies(t, marked(1)))}
	s := start(t, at)
	admin := s.as(l.admin)
	l.pep = enrol(t, admin)
	pep := s.as(l.pep)

	publish(t, admin, marked(2), 2)
	admin.must(t, http.StatusCreated, call{method: http.MethodPost, path: "/api/v1/releases/1/restore"})
	admin.must(t, http.StatusCreated, call{path: "/api/v1/policies", body: object{"path": "tenants/acme/draft.rego", "content": "a draft; 草稿"}})
	table := admin.must(t, http.StatusOK, call{path: "/api/v1/policies/tables/marker.yaml"})
	admin.must(t, http.StatusOK, call{method: http.MethodDelete, path: "/api/v1/policies/tables/marker.yaml", header: map[string]string{"If-Match": table.header.Get("ETag")}})

	admin.must(t, http.StatusCreated, call{path: "/api/v1/tenants", body: object{"id": "globex", "name": "环球"}})
	admin.must(t, http.StatusOK, call{method: http.MethodPatch, path: "/api/v1/tenants/globex", body: object{"disabled": true}})
	admin.must(t, http.StatusCreated, call{path: "/api/v1/roles", body: object{"tenant": "acme", "name": "clerk", "title_zh": "文员"}})
	admin.must(t, http.StatusCreated, call{path: "/api/v1/subjects", body: object{"tenant": "acme", "type": "user", "id": "li.wei", "name": "李伟"}})
	admin.must(t, http.StatusCreated, call{path: "/api/v1/bindings", body: object{"tenant": "acme", "subject": "user:li.wei", "role": "clerk"}})
	gone := newToken(t, admin, "acme", "service:gateway")
	l.revoked = gone.Token
	admin.must(t, http.StatusOK, call{method: http.MethodDelete, path: "/api/v1/tokens/" + gone.ID})

	for _, amount := range []int{-1, 10, 5000} {
		pep.decide(t, request("payment.make", amount))
		pep.decide(t, request("order.place", amount))
	}
	ended, _ := grant(t, admin, request("order.place", 1500), 0)
	admin.must(t, http.StatusOK, call{method: http.MethodDelete, path: "/api/v1/policy/dynamic/" + ended})
	l.grant, _ = grant(t, admin, request("order.place", 3000), 3)
	for range 2 {
		if d := pep.decide(t, request("order.place", 3000)); d.Effect != "ALLOW" {
			t.Fatalf("the grant does not hold: %s %v", d.Effect, d.Reasons)
		}
	}
	admin.must(t, http.StatusCreated, call{path: "/api/v1/policy/dynamic", body: object{
		"type": "DYNAMIC", "kind": "restriction", "tenant": "acme", "reason": "a test", "validity": object{"end": time.Now().Add(time.Hour).Format(time.RFC3339)},
		"rules": []object{{"id": "frozen", "condition": "resource.id == 'frozen'", "effect": "DENY", "message": "Frozen.", "message_zh": "已冻结。"}},
	}})
	pep.must(t, http.StatusForbidden, call{path: "/api/v1/audit"})
	pep.must(t, http.StatusCreated, call{path: "/api/v1/audit", body: object{"action": "door.opened", "body": object{"door": "北门"}}})
	s.stop(t)
	return l
}

// seen is everything that the wire shows, by path.
func seen(t *testing.T, c caller) map[string]string {
	t.Helper()
	all := map[string]string{}
	look := func(path string) []byte {
		text := c.must(t, http.StatusOK, call{path: path}).body
		all[path] = string(text)
		return text
	}
	for _, path := range []string{
		"/api/v1/tenants", "/api/v1/releases?limit=1000", "/api/v1/releases/1", "/api/v1/releases/2", "/api/v1/releases/3",
		"/api/v1/releases/1/diff/2", "/api/v1/releases/1/diff/3", "/api/v1/audit?limit=1000",
		"/api/v1/policy/dynamic?tenant=acme&kind=grant", "/api/v1/policy/dynamic?tenant=acme&kind=restriction",
	} {
		look(path)
	}
	for _, tenant := range []string{"", "acme", "globex"} {
		for _, what := range []string{"subjects", "roles", "bindings", "tokens"} {
			look("/api/v1/" + what + "?limit=1000&tenant=" + tenant)
		}
	}
	var documents struct {
		Items []struct {
			Path    string
			Deleted bool
		}
	}
	if err := json.Unmarshal(look("/api/v1/policies?limit=1000&deleted=true"), &documents); err != nil || len(documents.Items) == 0 {
		t.Fatalf("%d documents, %v", len(documents.Items), err)
	}
	for _, d := range documents.Items {
		if !d.Deleted {
			look("/api/v1/policies/" + (&url.URL{Path: d.Path}).EscapedPath())
		}
	}
	return all
}

// answers are what the enforcement point is told, without ids, by question.
func answers(t *testing.T, pep caller) map[string]string {
	t.Helper()
	all := map[string]string{}
	frozen := request("payment.make", 10)
	frozen["resource"] = object{"type": "account", "id": "frozen", "properties": object{"amount": 10}}
	for _, asked := range []object{
		request("marker.read", 1), request("payment.make", -1), request("payment.make", 10), request("payment.make", 5000),
		request("order.place", 1500), request("order.place", 3001), request("unknown", 1), frozen,
	} {
		question, err := json.Marshal(asked)
		if err != nil {
			t.Fatal(err)
		}
		answer := read[object](t, pep.must(t, http.StatusOK, call{path: "/api/v1/evaluate", body: asked}))
		delete(answer, "decision_id")
		all[string(question)] = fmt.Sprint(answer)
	}
	return all
}

// same compares what was there before with what is there now.
func same(t *testing.T, before, now map[string]string) {
	t.Helper()
	for what, text := range before {
		if now[what] != text {
			t.Errorf("%s\nbefore: %.2000s\nafter:  %.2000s", what, text, now[what])
		}
	}
	if len(now) != len(before) {
		t.Errorf("there were %d answers, and now are %d", len(before), len(now))
	}
}

func (p place) backup(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "xiezhi.backup")
	if _, printed, code := finish(t, append([]string{"admin", "backup", "--out", file}, p.flags()...)...); code != 0 {
		t.Fatalf("exit code %d: %s", code, printed)
	}
	return file
}

// restore restores and returns what was printed and the exit code.
func (p place) restore(t *testing.T, file string) (printed string, code int) {
	t.Helper()
	_, printed, code = finish(t, append([]string{"admin", "restore", "--in", file}, p.flags()...)...)
	return printed, code
}

func TestRestoredServerAnswersAsTheOneBackedUp(t *testing.T) {
	for name, c := range map[string]struct{ from, to func(*testing.T) place }{
		"SQLite to SQLite":     {onSQLite, onSQLite},
		"SQLite to PostgreSQL": {onSQLite, onPostgres},
		"PostgreSQL to SQLite": {onPostgres, onSQLite},
	} {
		t.Run(name, func(t *testing.T) {
			l := live(t, c.from(t))
			file := l.at.backup(t)
			old := start(t, l.at)
			before, told := seen(t, old.as(l.admin)), answers(t, old.as(l.pep))
			old.stop(t)
			for _, secret := range []string{l.admin, l.pep} {
				if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte(secret)) {
					t.Errorf("the backup holds a token (%v)", err)
				}
			}

			at := c.to(t)
			at.keys = l.at.keys
			if printed, code := at.restore(t, file); code != 0 {
				t.Fatalf("exit code %d: %s", code, printed)
			}
			s := start(t, at)
			admin, pep := s.as(l.admin), s.as(l.pep)
			same(t, before, seen(t, admin))
			same(t, told, answers(t, pep))
			s.as(l.revoked).must(t, http.StatusUnauthorized, order)

			// The grant has the one use left that it had.
			for _, want := range []string{"ALLOW", "REVIEW"} {
				if d := pep.decide(t, request("order.place", 3000)); d.Effect != want {
					t.Errorf("%s %v, want %s", d.Effect, d.Reasons, want)
				}
			}
			publish(t, admin, marked(4), 4)
			if err := checkMarks(pep.decide(t, request("marker.read", 1))); err != nil {
				t.Error(err)
			}

			if printed, code := at.restore(t, file); code == 0 || !strings.Contains(printed, "not empty") {
				t.Errorf("restored into a database that is used: exit code %d: %s", code, printed)
			}
		})
	}
}

func TestDamagedBackupIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	l := live(t, onSQLite(t))
	file := l.at.backup(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the backup: %v, %v", info, err)
	}
	if _, printed, code := finish(t, append([]string{"admin", "backup", "--out", file}, l.at.flags()...)...); code == 0 {
		t.Errorf("a backup was written over another: %s", printed)
	}
	at := onSQLite(t)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, text := range map[string][]byte{
		"cut off": whole[:len(whole)-100], "a bit flipped": flipped, "empty": nil, "twice": append(bytes.Clone(whole), whole...), "text": []byte("no backup"),
	} {
		damaged := filepath.Join(t.TempDir(), "damaged")
		write(t, damaged, string(text))
		if printed, code := at.restore(t, damaged); code == 0 {
			t.Errorf("%s: it was restored: %s", name, printed)
		}
	}
	if printed, code := at.restore(t, file); code != 0 {
		t.Errorf("after the refusals, exit code %d: %s", code, printed)
	}
}

// TestBackupBesideALoadedServerIsOneMoment backs up while the server decides
// and publishes: what is restored answers whole.
func TestBackupBesideALoadedServerIsOneMoment(t *testing.T) {
	for name, place := range map[string]func(*testing.T) place{"SQLite": onSQLite, "PostgreSQL": onPostgres} {
		t.Run(name, func(t *testing.T) {
			numbers := random(t)
			at := place(t)
			token := at.bootstrap(t, policies(t, marked(1)))
			s := start(t, at)
			pep := enrol(t, s.as(token))
			var files []string
			got := send(t, s.as(pep), 8, 500, numbers, func() {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for n := 2; ; n++ {
						if _, err := tryPublish(t.Context(), s.as(token), marked(n), n); err != nil {
							return
						}
					}
				}()
				for range sized(2, 10) {
					files = append(files, at.backup(t))
				}
				s.stop(t)
				<-ended
			})
			s = start(t, at)
			checkExactly(t, s.as(token), ids(got)) // the backups took nothing away

			for _, file := range files {
				to := onSQLite(t)
				to.keys = at.keys
				if printed, code := to.restore(t, file); code != 0 {
					t.Fatalf("exit code %d: %s", code, printed)
				}
				restored := start(t, to)
				if err := checkMarks(restored.as(pep).decide(t, request("marker.read", 1))); err != nil {
					t.Error(err)
				}
				for _, r := range restored.as(token).audit(t, url.Values{"kind": {"decision"}, "action": {"payment.make"}}) {
					if _, answered := got[r.ID]; !answered {
						t.Errorf("%s was answered to nobody", r.ID)
					}
				}
				restored.stop(t)
			}
		})
	}
}
