//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/process"
)

// installation is one `xiezhi dev` that can be killed and started again on the
// same data and addresses.
type installation struct {
	server
	dir, listen, streamListen string
	more                      []string // flags
	fault                     string   // the moment at which it dies, and the file that lets it; "" never
	process                   *process.Server
}

func install(t *testing.T, folder string) *installation {
	t.Helper()
	return installWith(t, folder)
}

// installWith installs with more flags.
func installWith(t *testing.T, folder string, more ...string) *installation {
	t.Helper()
	i := &installation{server: server{t: t, policies: folder}, dir: t.TempDir(), more: more}
	for _, address := range []*string{&i.listen, &i.streamListen} {
		var err error
		if *address, err = process.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if i.process != nil {
			_ = i.process.Stop() // it may have been killed
		}
	})
	i.run()
	return i
}

func (i *installation) data() string { return filepath.Join(i.dir, "data") }

func (i *installation) run() {
	i.t.Helper()
	folder, ready := i.t.TempDir(), filepath.Join(i.t.TempDir(), "ready.json")
	program := xiezhi
	if i.fault != "" {
		program += "-faults"
	}
	cmd := exec.Command(program, append([]string{"dev", "--listen", i.listen, "--stream-listen", i.streamListen,
		"--data", i.data(), "--policies", i.policies, "--ready-file", ready}, i.more...)...)
	cmd.Env = append(os.Environ(), "XIEZHI_TEST_FAULT="+i.fault)
	var err error
	if i.process, err = process.Start(i.t.Context(), cmd, folder, syscall.SIGTERM, i.readReady(ready)); err != nil {
		i.t.Fatal(err)
	}
}

// kill ends the server at once, as a crash would.
func (i *installation) kill() {
	i.t.Helper()
	if _, err := i.process.End(syscall.SIGKILL); err != nil {
		i.t.Fatal(err)
	}
}

// service is a PEP in a process of its own, the shop or a sidecar, and the ids
// of the decisions that it made itself.
type service struct {
	t       *testing.T
	url     string // asked with POST at its path, and for /status
	path    string
	client  *http.Client
	args    []string // of the command, with the program
	process *process.Server
	made    []string
}

const (
	shopStaleBound = 6 * time.Second
	shopGrantStale = 2 * time.Second
)

// openShop starts the shop on an installation.
func openShop(t *testing.T, i *installation, more ...string) *service {
	t.Helper()
	return startShop(t, append([]string{
		"--server", i.url, "--token-file", filepath.Join(i.data(), "tokens", "pep"),
		"--trust", filepath.Join(i.data(), "keys", "trust.json"), "--data", t.TempDir(),
		"--stale-bound", shopStaleBound.String(), "--grant-stale", shopGrantStale.String(),
	}, more...)...)
}

func startShop(t *testing.T, flags ...string) *service {
	t.Helper()
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, url: "http://" + address, path: "/decide", client: http.DefaultClient, args: append([]string{exampleShop, "--listen", address}, flags...)}
	s.start()
	return s
}

// start runs the service until the test ends.
func (s *service) start() {
	s.t.Helper()
	s.t.Cleanup(func() {
		if s.process == nil {
			return
		}
		if err := s.process.Stop(); err != nil {
			s.t.Error(err)
		}
	})
	s.run()
}

func (s *service) run() {
	s.t.Helper()
	var err error
	s.process, err = process.Start(s.t.Context(), exec.Command(s.args[0], s.args[1:]...), s.t.TempDir(), syscall.SIGTERM, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/status", nil)
		if err != nil {
			return err
		}
		response, err := s.client.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// shopAnswer is what a service says of a decision.
type shopAnswer struct {
	ID       string `json:"decision_id"`
	Effect   string `json:"effect"`
	Stale    bool   `json:"stale"`
	Revision string `json:"revision"`
	Decided  string `json:"decided"`
	Reasons  []struct {
		Rule string `json:"rule"`
	} `json:"reasons"`
}

func (a shopAnswer) says(rule string) bool {
	for _, r := range a.Reasons {
		if r.Rule == rule {
			return true
		}
	}
	return false
}

// decide asks about something cheap.
func (s *service) decide() shopAnswer {
	s.t.Helper()
	return s.ask(sale(5))
}

// sale is li.wei's request to buy at a price.
func sale(price int) object {
	return object{
		"tenant": "acme", "subject": object{"type": "user", "id": "li.wei"}, "action": "shop.sell",
		"resource": object{"type": "shop.item", "id": "i-1", "properties": object{"price": price}},
	}
}

// ask asks, and notes the decision where the service made it itself.
func (s *service) ask(request object) shopAnswer {
	s.t.Helper()
	response, err := s.client.Post(s.url+s.path, "application/json", strings.NewReader(encode(request)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var a shopAnswer
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&a); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	if by := response.Header.Get("X-Xiezhi-Decided"); by != "" { // a sidecar answers with a server's body
		a.Decided = by
	}
	if a.Decided == "in-process" {
		s.made = append(s.made, a.ID)
	}
	return a
}

// until asks until the answer is as it should be.
func (s *service) until(limit time.Duration, what string, is func(shopAnswer) bool) shopAnswer {
	s.t.Helper()
	return s.untilAsked(limit, sale(5), what, is)
}

func (s *service) untilAsked(limit time.Duration, request object, what string, is func(shopAnswer) bool) shopAnswer {
	s.t.Helper()
	var last shopAnswer
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if last = s.ask(request); is(last) {
			return last
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("after %s, still not %s: %+v", limit, what, last)
		}
		<-tick.C
	}
}

// recorded lists the ids of all decision records that the server has.
func (i *installation) recorded() []string {
	i.t.Helper()
	var ids []string
	for cursor := ""; ; {
		query := url.Values{"tenant": {"acme"}, "kind": {"decision"}, "limit": {"500"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		request, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, i.url+"/api/v1/audit?"+query.Encode(), nil)
		if err != nil {
			i.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+i.tokens["auditor"])
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			i.t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			i.t.Fatal(err)
		}
		var page struct {
			Items []struct {
				ID string `json:"id"`
			} `json:"items"`
			Next string `json:"next_cursor"`
		}
		if err := json.Unmarshal(text, &page); err != nil || response.StatusCode != http.StatusOK {
			i.t.Fatalf("%s: %s (%v)", response.Status, text, err)
		}
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if cursor = page.Next; cursor == "" {
			return ids
		}
	}
}

const shopRules = `id: shop
name: Shop
rules:
  - {id: sells, condition: "action == 'shop.sell'", effect: ALLOW, message: {en: "Anybody may buy.", zh: "任何人可买。"}}
`

// shopClosed sells nothing dear.
const shopClosed = shopRules + `  - {id: closed, condition: "resource.properties.price > 3", effect: DENY, message: {en: "Too dear.", zh: "太贵。"}}
`

// A service decides in-process, by a change at once, and goes on while the
// server is away: as stale, also after a restart of its own, for a bounded
// time; and everything that it decided is on record once, after all.
func TestAServiceDecidesByAnEditAtOnceAndSurvivesTheServer(t *testing.T) {
	folder := minimal(t, files{"tenants/acme/shop.policy.yaml": shopRules})
	xiezhi := install(t, folder)
	shop := openShop(t, xiezhi)
	shop.until(patience, "decided in-process", func(a shopAnswer) bool {
		return a.Effect == "ALLOW" && a.Decided == "in-process" && !a.Stale
	})

	saved := time.Now()
	xiezhi.save("tenants/acme/shop.policy.yaml", shopClosed)
	shop.until(time.Second, "denied by the rule that was saved", func(a shopAnswer) bool { return a.Effect == "DENY" && a.says("closed") })
	t.Logf("a saved rule was enforced after %s", time.Since(saved).Round(time.Millisecond))
	xiezhi.save("tenants/acme/shop.policy.yaml", shopRules)
	shop.until(time.Second, "allowed again", func(a shopAnswer) bool { return a.Effect == "ALLOW" })

	xiezhi.kill()
	stale := shop.until(patience, "stale", func(a shopAnswer) bool { return a.Stale })
	if stale.Effect != "ALLOW" || stale.Decided != "in-process" {
		t.Fatalf("without the server: %+v, want it to go on", stale)
	}
	if _, err := shop.process.End(syscall.SIGTERM); err != nil { // a crash may lose what was decided within 50 ms before
		t.Fatal(err)
	}
	shop.run()
	if a := shop.decide(); a.Effect != "ALLOW" || !a.Stale || a.Decided != "in-process" || a.Revision != stale.Revision {
		t.Fatalf("started while the server is away: %+v, want the last known good release, stale", a)
	}
	shop.until(shopStaleBound+patience, "denied past the bound", func(a shopAnswer) bool { return a.Effect == "DENY" && a.says("stale_bound") })

	xiezhi.run()
	shop.until(3*patience, "allowed when the server is back", func(a shopAnswer) bool { return a.Effect == "ALLOW" && !a.Stale })

	var recorded, missing []string
	t.Cleanup(func() {
		if len(missing) > 0 {
			t.Logf("of %d decisions, with %d records, not on record: %v", len(shop.made), len(recorded), missing)
		}
	})
	await(t, 3*patience, "all decisions on record", func() bool {
		recorded = xiezhi.recorded()
		missing = slices.DeleteFunc(slices.Clone(shop.made), func(id string) bool { return slices.Contains(recorded, id) })
		return len(missing) == 0
	})
	slices.Sort(recorded)
	if once := slices.Compact(slices.Clone(recorded)); len(once) != len(recorded) {
		t.Errorf("%d records, of %d decisions", len(recorded), len(once))
	}
	if len(shop.made) < 10 {
		t.Errorf("the shop made %d decisions itself: want enough to tell", len(shop.made))
	}
}
