package serve

import (
	"sync"

	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
)

// distribution hands every read of the store on to the parts of a node that
// PEPs hear from. The core reads before those parts exist: who joins later is
// first told all that was read so far.
type distribution struct {
	mu    sync.Mutex
	state feed.Update // all reads so far as one, until the parts have joined
	parts []func(feed.Update)
	done  bool
}

func (d *distribution) update(u feed.Update) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.done {
		records := append(d.state.Records, u.Records...)
		release, content := d.state.Release, d.state.Content
		if u.Release != nil {
			release, content = u.Release, u.Content
		}
		d.state = u
		d.state.Records, d.state.Release, d.state.Content = records, release, content
	}
	for _, part := range d.parts {
		part(u)
	}
}

// join adds parts, and ends the joining.
func (d *distribution) join(parts ...func(feed.Update)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.parts, d.done = parts, true
	for _, part := range parts {
		if !d.state.Read.IsZero() {
			part(d.state)
		}
	}
	d.state = feed.Update{}
}
