package approvals

import (
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// How long this node goes on with what it found out about an ask, and about
// how many: a service that asks again and again costs the store little.
const (
	joinedFor = 30 * time.Second
	spentFor  = time.Second
	mostKnown = 10_000
)

// recent is what asks came to a moment ago. The zero value is ready, and safe
// for concurrent use.
type recent struct {
	mu     sync.Mutex
	joined map[string]pending // by the whole ask
	spent  map[string]time.Time
	ended  uint64 // how many cases this node heard the end of
}

// pending is the open case of an ask.
type pending struct {
	approval authz.Approval
	until    time.Time
}

// wholeAsk names everything by which a case is joined.
func wholeAsk(a *cheq.Ask) string {
	var b strings.Builder
	b.WriteString(whoAsks(a))
	for _, digest := range a.Digests {
		b.WriteString("\x00" + digest)
	}
	for _, o := range a.Opens {
		b.WriteString("\x00" + o.Rule + "\x00" + o.Digest)
	}
	return b.String()
}

// whoAsks names everything by which cases are counted.
func whoAsks(a *cheq.Ask) string {
	var b strings.Builder
	b.WriteString(a.Request.Tenant + "\x00" + a.Requester.String() + "\x00" + a.Caller.Tenant + "\x00" + a.Caller.Name)
	for _, o := range a.Opens {
		b.WriteString("\x00" + o.Template)
	}
	return b.String()
}

// known returns the open case of an ask, or that there are too many.
func (r *recent) known(a *cheq.Ask, now time.Time) (approval *authz.Approval, tooMany bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.joined[wholeAsk(a)]; ok && now.Before(p.until) && now.Before(p.approval.ExpiresAt) {
		return &p.approval, false
	}
	until, ok := r.spent[whoAsks(a)]
	return nil, ok && now.Before(until)
}

// heard is how many cases this node heard the end of so far.
func (r *recent) heard() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// join keeps a case that was open when this node had heard of so many ends. It
// may have ended since.
func (r *recent) join(a *cheq.Ask, c *cheq.Case, heard uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != heard {
		return
	}
	if r.joined == nil || len(r.joined) >= mostKnown {
		r.joined = map[string]pending{}
	}
	r.joined[wholeAsk(a)] = pending{*Approval(c), now.Add(joinedFor)}
}

func (r *recent) full(a *cheq.Ask, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spent == nil || len(r.spent) >= mostKnown {
		r.spent = map[string]time.Time{}
	}
	r.spent[whoAsks(a)] = now.Add(spentFor)
}

// Settled forgets a case that ended.
func (d *Desk) Settled(id string) {
	d.recent.mu.Lock()
	defer d.recent.mu.Unlock()
	d.recent.ended++
	for key, p := range d.recent.joined {
		if p.approval.ID == id {
			delete(d.recent.joined, key)
		}
	}
	clear(d.recent.spent)
}
