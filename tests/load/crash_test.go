//go:build unix

package load

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// answered is a decision that a client has in hand.
type answered struct {
	effect string
	strict bool
	at     time.Time
}

// crowd is clients that ask as fast as they can, at all doors, until the
// server is gone.
type crowd struct {
	caller caller
	enough int           // answers
	full   chan struct{} // closed when there are as many

	mu     sync.Mutex
	got    map[string]answered
	faults []string
}

// ask asks until no whole answer comes.
func (c *crowd) ask(ctx context.Context, numbers *rand.Rand) {
	for ctx.Err() == nil {
		requests := make([]object, 1+numbers.IntN(8))
		for i := range requests {
			action := [...]string{"payment.make", "order.place"}[numbers.IntN(2)]
			requests[i] = request(action, [...]int{-1, 10, 5000}[numbers.IntN(3)])
		}
		door := numbers.IntN(len(doors))
		if !doors[door].batch {
			requests = requests[:1]
		}
		a, err := c.caller.try(ctx, ask(door, requests...))
		if err != nil {
			return
		}
		c.note(door, requests, a)
	}
}

func (c *crowd) note(door int, requests []object, a answer) {
	var r reply
	err := json.Unmarshal(a.body, &r)
	decisions := r.decisions()
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || a.status != http.StatusOK || len(decisions) != len(requests) {
		c.faults = append(c.faults, fmt.Sprintf("%s answered %d %.300s", doors[door].name, a.status, a.body))
		return
	}
	before := len(c.got)
	for i, d := range decisions {
		strict := requests[i]["action"].(object)["name"] == "payment.make"
		c.got[d.ID] = answered{d.Effect, strict, now}
	}
	if before < c.enough && len(c.got) >= c.enough {
		close(c.full)
	}
}

// send lets clients ask until enough was answered, ends the server while they
// go on, and returns what they got.
func send(t *testing.T, c caller, clients, enough int, numbers *rand.Rand, end func()) map[string]answered {
	t.Helper()
	crowd := &crowd{caller: c, enough: enough, full: make(chan struct{}), got: map[string]answered{}}
	var busy sync.WaitGroup
	for range clients {
		own := rand.New(rand.NewPCG(numbers.Uint64(), numbers.Uint64()))
		busy.Go(func() { crowd.ask(t.Context(), own) })
	}
	idle := make(chan struct{})
	go func() {
		busy.Wait()
		close(idle)
	}()
	select {
	case <-crowd.full:
	case <-idle: // something is wrong; the faults say what
	case <-time.After(patience):
		t.Errorf("in %s only %d answers came", patience, len(crowd.got))
	}
	end()
	<-idle
	for _, fault := range crowd.faults {
		t.Error(fault)
	}
	return crowd.got
}

func ids(got map[string]answered) map[string]bool {
	all := map[string]bool{}
	for id := range got {
		all[id] = true
	}
	return all
}

// TestKilledServerKeepsEveryAnswerOfAStrictPolicy kills a server again and
// again, at a random moment under load.
func TestKilledServerKeepsEveryAnswerOfAStrictPolicy(t *testing.T) {
	for _, c := range []struct {
		name  string
		place func(*testing.T) place
		kills int
	}{
		{"SQLite", onSQLite, sized(2, 20)},
		{"PostgreSQL", onPostgres, sized(1, 10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			numbers := random(t)
			at := c.place(t)
			admin := at.bootstrap(t, policies(t, nil))
			s := start(t, at)
			pep := enrol(t, s.as(admin))
			all := map[string]answered{}
			for range c.kills {
				got := send(t, s.as(pep), 16, 1+numbers.IntN(4000), numbers, func() { s.kill(t) })
				killed := time.Now()
				maps.Copy(all, got)
				s = start(t, at)
				checkKept(t, s.as(admin), got, killed)
			}
			checkOnce(t, s.as(admin), all)
		})
	}
}

// lateSync is by when a buffered record must have been synced, even on a busy
// machine; the promise is 50 ms.
const lateSync = time.Second

// checkKept waits until the answers are in the audit. Of buffered policies
// those may be missing that came just before the end.
func checkKept(t *testing.T, c caller, got map[string]answered, ended time.Time) {
	t.Helper()
	first := ended
	for _, a := range got {
		if a.at.Before(first) {
			first = a.at
		}
	}
	query := url.Values{"kind": {"decision"}, "from": {first.Add(-time.Minute).Format(time.RFC3339Nano)}}
	var late int
	await(t, patience, func() string {
		found := map[string]string{}
		for _, r := range c.audit(t, maps.Clone(query)) {
			found[r.ID] = r.Effect
		}
		late = 0
		missing := 0
		for id, a := range got {
			effect, ok := found[id]
			switch {
			case ok && effect != a.effect:
				t.Fatalf("%s was answered %s, and the audit says %s", id, a.effect, effect)
			case !ok && (a.strict || ended.Sub(a.at) > lateSync):
				missing++
			case !ok:
				late++
			}
		}
		if missing > 0 {
			return fmt.Sprintf("of %d answers %d are not in the audit that must be", len(got), missing)
		}
		return ""
	})
	t.Logf("%d answers, %d of buffered policies are not on record", len(got), late)
}

// checkOnce: no record is there twice, however often it was shipped.
func checkOnce(t *testing.T, c caller, all map[string]answered) {
	t.Helper()
	found := map[string]bool{}
	for _, r := range c.audit(t, url.Values{"kind": {"decision"}}) {
		if found[r.ID] {
			t.Errorf("%s is in the audit twice", r.ID)
		}
		found[r.ID] = true
	}
	for id, a := range all {
		if a.strict && !found[id] {
			t.Errorf("%s was in the audit, and is not any more", id)
		}
	}
}

// TestKilledServerHoldsWholeReleases kills a server while it publishes: a
// release is there whole or not at all, and one that was answered is there.
func TestKilledServerHoldsWholeReleases(t *testing.T) {
	for name, place := range map[string]func(*testing.T) place{"SQLite": onSQLite, "PostgreSQL": onPostgres} {
		t.Run(name, func(t *testing.T) {
			numbers := random(t)
			at := place(t)
			token := at.bootstrap(t, policies(t, marked(1)))
			s := start(t, at)
			pep := enrol(t, s.as(token))
			last := 1 // the release that is there for sure
			for range sized(3, 30) {
				admin, ended := s.as(token), make(chan struct{})
				go func() {
					defer close(ended)
					for {
						if _, err := tryPublish(t.Context(), admin, marked(last+1), last+1); err != nil {
							return
						}
						last++
					}
				}()
				moment := time.NewTimer(time.Duration(numbers.IntN(200)) * time.Millisecond)
				<-moment.C
				s.kill(t)
				<-ended
				s = start(t, at)
				d := s.as(pep).decide(t, request("marker.read", 1))
				if err := checkMarks(d); err != nil {
					t.Error(err)
				}
				switch newest := read[struct{ Items []struct{ Number int } }](t, s.as(token).must(t, http.StatusOK, call{path: "/api/v1/releases?limit=1"})).Items[0].Number; {
				case !strings.HasPrefix(d.Revision, fmt.Sprintf("r%d.", newest)):
					t.Errorf("release %d is the newest, and %s answers", newest, d.Revision)
				case newest != last && newest != last+1:
					t.Errorf("release %d is the newest, and %d was published", newest, last)
				default:
					last = newest
				}
			}
			t.Logf("%d releases", last)
		})
	}
}

// checkExactly: the audit holds these decisions and no others.
func checkExactly(t *testing.T, c caller, answers ...map[string]bool) {
	t.Helper()
	found := map[string]bool{}
	for _, r := range c.audit(t, url.Values{"kind": {"decision"}}) {
		found[r.ID] = true
	}
	expected := 0
	for _, ids := range answers {
		expected += len(ids)
		for id := range ids {
			if !found[id] {
				t.Errorf("%s was answered and is not in the audit", id)
			}
		}
	}
	if len(found) != expected {
		t.Errorf("the audit holds %d decisions, %d were answered", len(found), expected)
	}
}
