package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fill lets no file of the server grow beyond so many bytes ("0": nothing can
// be written) until "unlimited". A write beyond it fails midway, as on a full
// disk.
func (s *server) fill(t *testing.T, bytes string) {
	t.Helper()
	out, err := exec.Command("prlimit", "--pid", strconv.Itoa(s.PID()), "--fsize="+bytes+":").CombinedOutput()
	if err != nil {
		t.Fatalf("prlimit (of util-linux): %v\n%s", err, out)
	}
}

// tally counts what the doors answered.
type tally struct {
	mu       sync.Mutex
	kept     map[string]bool // ids of answers
	buffered int             // of them
	refused  int             // items that were not answered
	faults   []string
}

// askAll asks at all doors from several clients, as often as rounds say.
func askAll(t *testing.T, c caller, rounds int) *tally {
	t.Helper()
	n := &tally{kept: map[string]bool{}}
	var busy sync.WaitGroup
	for range 8 {
		busy.Go(func() {
			for i := range rounds {
				n.ask(t.Context(), c, i%len(doors), "payment.make")
				n.ask(t.Context(), c, i%len(doors), "order.place")
			}
		})
	}
	busy.Wait()
	for _, fault := range n.faults {
		t.Error(fault)
	}
	return n
}

func (n *tally) ask(ctx context.Context, c caller, door int, action string) {
	requests := []object{request(action, 10), request(action, 20), request(action, 30)}
	if !doors[door].batch {
		requests = requests[:1]
	}
	a, err := c.try(ctx, ask(door, requests...))
	n.mu.Lock()
	defer n.mu.Unlock()
	fault := func(why string) {
		n.faults = append(n.faults, fmt.Sprintf("%s, %s: %s: %v %d %.300s", doors[door].name, action, why, err, a.status, a.body))
	}
	switch {
	case err != nil:
		fault("no answer")
	case a.status == http.StatusServiceUnavailable && action == "payment.make" && !doors[door].batch:
		n.refused++
		if explained := a.code() == "audit_unavailable" || strings.HasPrefix(doors[door].path, "/access/"); !explained {
			fault("it does not say why")
		}
	case a.status != http.StatusOK:
		fault("unexpected")
	default:
		var r reply
		if err := json.Unmarshal(a.body, &r); err != nil || len(r.decisions()) != len(requests) {
			fault("not an answer")
		}
		for _, d := range r.decisions() {
			switch {
			case d.ID != "":
				n.kept[d.ID] = true
				if action == "order.place" {
					n.buffered++
				}
			case d.Effect == "ALLOW" || d.Decision || d.Error == nil || action != "payment.make":
				fault("neither an answer nor a refusal")
			default:
				n.refused++
			}
		}
	}
}

// recorded waits until every record since an earlier look was kept, lost or
// refused, and returns how many.
func recorded(t *testing.T, admin caller, since map[string]float64) (now map[string]float64) {
	t.Helper()
	await(t, patience, func() string {
		now = map[string]float64{}
		for name, n := range admin.metrics(t) {
			if short, ok := strings.CutPrefix(name, "xiezhi_audit_records_"); ok {
				short = strings.TrimSuffix(short, "_total")
				now[short] = n - since[short]
			}
		}
		if len(now) == 0 || now["appended"] != now["synced"]+now["lost"]+now["refused"] {
			return fmt.Sprintf("records are under way: %v", now)
		}
		return ""
	})
	return now
}

func TestFullDiskRefusesStrictPoliciesAndCountsWhatBufferedOnesLose(t *testing.T) {
	at := onSQLite(t)
	token := at.bootstrap(t, policies(t, nil))
	s := start(t, at)
	admin := s.as(token)
	pep := s.as(enrol(t, admin))

	before := askAll(t, pep, 4)
	base := recorded(t, admin, nil)
	if base["lost"] != 0 || base["refused"] != 0 || base["synced"] != float64(len(before.kept)) {
		t.Fatalf("with room, %d answers and %v", len(before.kept), base)
	}

	s.fill(t, "0")
	full := askAll(t, pep, 40)
	lost := recorded(t, admin, base)
	if len(full.kept) != full.buffered || full.refused == 0 {
		t.Errorf("without room, strict policies refused %d and answered %d", full.refused, len(full.kept)-full.buffered)
	}
	if lost["lost"] != float64(full.buffered) || lost["refused"] != float64(full.refused) || lost["synced"] != 0 {
		t.Errorf("%d answers of buffered policies, %d refusals, and the metrics say %v", full.buffered, full.refused, lost)
	}

	s.fill(t, "unlimited")
	after := askAll(t, pep, 4)
	if after.refused != 0 {
		t.Errorf("with room again, %d refused", after.refused)
	}
	s.stop(t)
	s = start(t, at)
	checkExactly(t, s.as(token), before.kept, after.kept)
}

// TestWritesThatFailMidwayLoseOnlyWhatIsCounted lets every file of the spool
// fill up at some byte of some record.
func TestWritesThatFailMidwayLoseOnlyWhatIsCounted(t *testing.T) {
	at := onSQLite(t)
	token := at.bootstrap(t, policies(t, nil))
	s := start(t, at)
	admin := s.as(token)
	pep := s.as(enrol(t, admin))

	s.fill(t, "20000")
	n := askAll(t, pep, sized(60, 600))
	counted := recorded(t, admin, nil)
	if counted["lost"]+counted["refused"] == 0 || counted["synced"] == 0 {
		t.Fatalf("the files never filled up, or at once: %v", counted)
	}
	if counted["refused"] != float64(n.refused) {
		t.Errorf("%d refusals, and the metrics say %v", n.refused, counted)
	}
	s.fill(t, "unlimited")
	s.stop(t)
	s = start(t, at)
	found := map[string]bool{}
	for _, r := range s.as(token).audit(t, url.Values{"kind": {"decision"}}) {
		found[r.ID] = true
		if !n.kept[r.ID] {
			t.Errorf("%s is on record and was answered to nobody", r.ID)
		}
	}
	if missing := len(n.kept) - len(found); float64(missing) != counted["lost"] {
		t.Errorf("of %d answers %d are missing, and the metrics say %v", len(n.kept), missing, counted)
	}
	t.Logf("%d answers, %v", len(n.kept), counted)
}
