//go:build unix

package load

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStoppedServerLeavesNoAnswerBehind ends a server under load as an
// operator does: what was answered is on record, of buffered policies too, and
// what is on record was answered.
func TestStoppedServerLeavesNoAnswerBehind(t *testing.T) {
	for name, place := range map[string]func(*testing.T) place{"SQLite": onSQLite, "PostgreSQL": onPostgres} {
		t.Run(name, func(t *testing.T) {
			numbers := random(t)
			at := place(t)
			admin := at.bootstrap(t, policies(t, nil))
			s := start(t, at)
			pep := enrol(t, s.as(admin))
			var all []map[string]bool
			for range sized(2, 20) {
				got := send(t, s.as(pep), 16, 1+numbers.IntN(3000), numbers, func() { s.stop(t) })
				all = append(all, ids(got))
				if left, err := filepath.Glob(filepath.Join(at.data, "spool", "*")); err != nil || len(left) != 1 {
					t.Errorf("in the spool are %v, want only its lock (%v)", left, err)
				}
				s = start(t, at)
				checkExactly(t, s.as(admin), all...)
			}
		})
	}
}

// TestStopWaitsForNobodyWhoAsksNothing stops a server that others hold
// connections to, on which nothing or only a part of a call comes.
func TestStopWaitsForNobodyWhoAsksNothing(t *testing.T) {
	const head = "POST /api/v1/decide HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
	for name, sent := range map[string]string{"nothing": "", "half a head": head, "half a body": head + "\r\n{", "a whole call before": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, onSQLite(t))
			for range 8 {
				conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := conn.Write([]byte(sent)); err != nil {
					t.Fatal(err)
				}
			}
			s.as("").must(t, http.StatusOK, call{path: "/healthz"}) // by now the connections before are served
			began := time.Now()
			s.stop(t)
			if took := time.Since(began); took > 12*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestServerIsNotReadyBeforeItsFirstRelease(t *testing.T) {
	at := onSQLite(t)
	s := start(t, at)
	nobody := s.as("")
	nobody.must(t, http.StatusOK, call{path: "/healthz"})
	if a := nobody.must(t, http.StatusServiceUnavailable, call{path: "/readyz"}); !strings.Contains(string(a.body), `"release"`) {
		t.Errorf("it does not say that a release is missing: %s", a.body)
	}
	nobody.must(t, http.StatusUnauthorized, call{path: "/api/v1/decide", body: request("order.place", 1)})

	// The running server finds the administrator and the release by itself.
	admin := s.as(at.bootstrap(t, policies(t, nil)))
	await(t, patience, func() string { return differs(http.StatusOK, nobody.do(t, call{path: "/readyz"})) })
	enrol(t, admin)
}

func TestBootstrapBesideARunningServerMakesAnotherAdministrator(t *testing.T) {
	for name, place := range map[string]func(*testing.T) place{"SQLite": onSQLite, "PostgreSQL": onPostgres} {
		t.Run(name, func(t *testing.T) {
			at := place(t)
			first := at.bootstrap(t, policies(t, nil))
			s := start(t, at)
			enrol(t, s.as(first))
			second := s.as(at.bootstrap(t, policies(t, nil), "--name", "second"))
			tenants := call{path: "/api/v1/tenants"}
			await(t, patience, func() string { return differs(http.StatusOK, second.do(t, tenants)) })
			s.as(first).must(t, http.StatusOK, tenants)
			if n := len(list[struct{ Number int }](t, second, "/api/v1/releases", url.Values{})); n != 1 {
				t.Errorf("there are %d releases: bootstrap published over what there was", n)
			}
		})
	}
}

// TestLockOutByPolicyIsMendedBesideTheServer: only user:admin may do anything,
// and its token is lost.
func TestLockOutByPolicyIsMendedBesideTheServer(t *testing.T) {
	folder := policies(t, nil)
	rights, err := os.ReadFile(filepath.Join(folder, "self", "rights.cedar"))
	if err == nil {
		err = os.Remove(filepath.Join(folder, "self", "rights_cases.yaml")) // they speak of what is broken here
	}
	if err != nil {
		t.Fatal(err)
	}
	at := onSQLite(t)
	lost := at.bootstrap(t, folder)
	s := start(t, at)
	locked := string(rights) + `
@id("only_one")
@title("Only one")
@title_zh("仅一人")
@message("Only user:admin.")
@message_zh("仅 user:admin。")
@severity("critical")
@requirement("L1")
forbid (principal, action, resource) unless { principal == xiezhi::caller::"user:admin" };
`
	publish(t, s.as(lost), map[string]string{"self/rights.cedar": locked}, 2)
	tenants := call{path: "/api/v1/tenants"}

	other := s.as(at.bootstrap(t, folder, "--name", "other"))
	await(t, patience, func() string { return differs(http.StatusForbidden, other.do(t, tenants)) })
	other = s.as(at.bootstrap(t, folder, "--name", "other", "--restore-self"))
	await(t, patience, func() string { return differs(http.StatusOK, other.do(t, tenants)) })
}

func TestSecondServerOnAFolderIsRefused(t *testing.T) {
	at := onSQLite(t)
	token := at.bootstrap(t, policies(t, nil))
	s := start(t, at)
	_, printed, code := finish(t, append([]string{"serve", "--listen", "127.0.0.1:0", "--stream-listen", "127.0.0.1:0"}, at.flags()...)...)
	if code == 0 || !strings.Contains(printed, at.data) || !strings.Contains(printed, "in use by another process") {
		t.Errorf("exit code %d: %s", code, printed)
	}
	s.as(token).must(t, http.StatusOK, call{path: "/api/v1/tenants"}) // the first goes on
}

func TestTakenAddressNamesTheFlag(t *testing.T) {
	at := onSQLite(t)
	s := start(t, at)
	address := strings.TrimPrefix(s.url, "http://")
	for _, arguments := range [][]string{{"serve", "--data", t.TempDir()}, {"dev", "--data", t.TempDir()}} {
		_, printed, code := finish(t, append(arguments, "--listen", address, "--stream-listen", "127.0.0.1:0")...)
		if code == 0 || !strings.Contains(printed, address) || !strings.Contains(printed, "--listen") {
			t.Errorf("%s: exit code %d: %s", arguments[0], code, printed)
		}
	}
}
