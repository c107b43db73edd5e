//go:build unix

package load

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// marked are policies in three languages and a table, each of which says the
// number n, and so does an obligation that all three state.
func marked(n int) map[string]string {
	files := map[string]string{
		"platform/rego_marker.rego": `# METADATA
# title: Marker
# custom:
#   title_zh: 标记
#   scope: {actions: ["marker.read"]}
package xiezhi.platform.rego_marker

# METADATA
# title: Marker
# custom:
#   id: marked
#   title_zh: 标记
#   message: {en: "N {table}", zh: "N {table}"}
#   severity: low
#   requirement: [X6]
allow contains {"rule": "marked", "args": {"table": data.xiezhi.platform.tables.marker.n}} if input.action.name == "marker.read"

obligations contains {"rule": "marked", "id": "marker", "params": {"n": N}} if input.action.name == "marker.read"
`,
		"platform/cedar_marker.cedar": `// @policy({"title":{"en":"Marker","zh":"标记"},"scope":{"actions":["marker.read"]}})

@id("marked")
@title("Marker")
@title_zh("标记")
@message("N")
@message_zh("N")
@severity("low")
@requirement("X6")
@obligation("{\"id\":\"marker\",\"must\":true,\"params\":{\"n\":N}}")
permit (principal, action == Action::"marker.read", resource);
`,
		"platform/cel_marker.policy.json": `{"id":"cel_marker","name":"Marker","version":"N","title":{"en":"Marker","zh":"标记"},"scope":{"actions":["marker.read"]},
 "rules":[{"id":"marked","title":{"en":"Marker","zh":"标记"},"message":{"en":"N","zh":"N"},"severity":"low","requirement":["X6"],
  "condition":"action == 'marker.read'","effect":"ALLOW","obligations":[{"id":"marker","must":true,"params":{"n":N}}]}]}
`,
		"tables/marker.yaml": "platform: {n: N}\n",
	}
	for path, text := range files {
		files[path] = strings.ReplaceAll(text, "N", strconv.Itoa(n))
	}
	return files
}

// checkMarks returns what is wrong with an answer that should come whole from
// the release that its revision names.
func checkMarks(d decision) error {
	number, _, _ := strings.Cut(strings.TrimPrefix(d.Revision, "r"), ".")
	said := map[string]string{}
	for _, r := range d.Reasons {
		said[r.Policy] = r.Message
	}
	whole := d.Effect == "ALLOW" && len(d.Reasons) == 3 &&
		said["platform/rego_marker"] == number+" "+number && said["platform/cedar_marker"] == number && said["platform/cel_marker"] == number &&
		len(d.Obligations) > 0
	for _, o := range d.Obligations {
		whole = whole && strconv.Itoa(o.Params.N) == number
	}
	if !whole {
		return fmt.Errorf("%s %s %v %v is not one release's answer", d.Revision, d.Effect, d.Reasons, d.Obligations)
	}
	return nil
}

// readers keep connections busy and check every answer.
type readers struct {
	caller  caller
	publish atomic.Bool // releases are being published

	mu       sync.Mutex
	calm     []time.Duration
	busy     []time.Duration
	releases map[string]int // answers by revision
	faults   []string
}

// read asks until stop is closed; on one connection no answer may come from an
// older release than the one before.
func (r *readers) read(t *testing.T, stop <-chan struct{}) {
	var newest uint64
	var calm, busy []time.Duration
	releases := map[string]int{}
	fault := func(why error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults = append(r.faults, why.Error())
	}
	for !isClosed(stop) {
		publishing, began := r.publish.Load(), time.Now()
		a, err := r.caller.try(t.Context(), call{path: "/api/v1/decide", body: request("marker.read", 1)})
		took := time.Since(began)
		var d decision
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%d %.300s", a.status, a.body)
		}
		if err == nil {
			err = json.Unmarshal(a.body, &d)
		}
		if err == nil {
			err = checkMarks(d)
		}
		if err == nil {
			release, wrong := strconv.ParseUint(strings.TrimPrefix(strings.Split(d.Revision, ".")[0], "r"), 10, 64)
			if wrong != nil || release < newest {
				err = fmt.Errorf("an answer from %s after one from release %d", d.Revision, newest)
			}
			newest = release
		}
		if err != nil {
			fault(err)
			return
		}
		releases[d.Revision]++
		if publishing {
			busy = append(busy, took)
		} else {
			calm = append(calm, took)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calm, r.busy = append(r.calm, calm...), append(r.busy, busy...)
	for revision, n := range releases {
		r.releases[revision] += n
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// percentile returns the shortest time that p percent of all need at most.
func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[(len(times)-1)*p/100]
}

func TestAnswersComeWholeFromOneReleaseWhileOthersArePublished(t *testing.T) {
	const connections = 64
	at := onSQLite(t)
	token := at.bootstrap(t, policies(t, marked(1)))
	s := start(t, at)
	admin := s.as(token)
	r := &readers{caller: s.as(enrol(t, admin)), releases: map[string]int{}}

	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range connections {
		busy.Go(func() { r.read(t, stop) })
	}
	calm := time.NewTimer(2 * time.Second) // long enough for a p99, while nothing is published
	defer calm.Stop()
	<-calm.C

	r.publish.Store(true)
	last, began := sized(20, 200)+1, time.Now()
	for n := 2; n <= last; n++ {
		publish(t, admin, marked(n), n)
	}
	took := time.Since(began)
	r.publish.Store(false)
	close(stop)
	busy.Wait()

	for _, fault := range r.faults[:min(len(r.faults), 5)] {
		t.Error(fault)
	}
	if len(r.calm) < 100*connections/10 || len(r.releases) < last/2 {
		t.Errorf("%d answers and %d releases are too few to show anything", len(r.calm)+len(r.busy), len(r.releases))
	}
	t.Logf("calm: %d answers, p50 %s, p99 %s", len(r.calm), percentile(r.calm, 50), percentile(r.calm, 99))
	t.Logf("while %d releases were published in %s: %d answers of %d releases, p50 %s, p99 %s, longest %s",
		last-1, took.Round(time.Millisecond), len(r.busy), len(r.releases), percentile(r.busy, 50), percentile(r.busy, 99), percentile(r.busy, 100))
}

// publish writes drafts over what there is and publishes them, as the release
// with that number; it returns the revision.
func publish(t *testing.T, admin caller, files map[string]string, number int) string {
	t.Helper()
	revision, err := tryPublish(t.Context(), admin, files, number)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func tryPublish(ctx context.Context, admin caller, files map[string]string, number int) (revision string, err error) {
	want := func(status int, what call) (answer, error) {
		a, err := admin.try(ctx, what)
		if err == nil && a.status != status {
			err = fmt.Errorf("%s %s: %d, want %d: %s", what.method, what.path, a.status, status, a.body)
		}
		return a, err
	}
	for path, text := range files {
		place := "/api/v1/policies/" + (&url.URL{Path: path}).EscapedPath()
		was, err := admin.try(ctx, call{path: place})
		if err != nil {
			return "", err
		}
		precondition := map[string]string{"If-None-Match": "*"}
		if was.status == http.StatusOK {
			precondition = map[string]string{"If-Match": was.header.Get("ETag")}
		}
		if _, err := want(http.StatusOK, call{method: http.MethodPut, path: place, body: object{"content": text}, header: precondition}); err != nil {
			return "", err
		}
	}
	a, err := want(http.StatusCreated, call{path: "/api/v1/releases", body: object{"drafts": slices.Sorted(maps.Keys(files))}})
	if err != nil {
		return "", err
	}
	var made struct{ Number int }
	if err := json.Unmarshal(a.body, &made); err != nil || made.Number != number {
		return "", fmt.Errorf("published release %d, want %d (%v)", made.Number, number, err)
	}
	return a.revision(), nil
}
