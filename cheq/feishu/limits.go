package feishu

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// window remembers when the last calls were made, so that no more than its
// length are made in any span.
type window struct {
	span time.Duration
	made []time.Time // a ring, as long as the limit
	next int
}

// free is when one more call may be made.
func (w *window) free() time.Time { return w.made[w.next].Add(w.span) }

func (w *window) note(now time.Time) {
	w.made[w.next] = now
	w.next = (w.next + 1) % len(w.made)
}

// newest is when the last call was made.
func (w *window) newest() time.Time { return w.made[(w.next+len(w.made)-1)%len(w.made)] }

// maxRecipients is how many messages' windows are kept before old ones go.
const maxRecipients = 1000

// limits are the platform's, per app and per message or recipient, of this
// process.
type limits struct {
	mu         sync.Mutex
	second     *window
	minute     *window
	recipients map[string]*window
}

// wait returns when a call about a message or recipient may be made. Where ctx
// ends before, it fails at once with [cheq.LaterError].
func (l *limits) wait(ctx context.Context, about string) error {
	for {
		pause := l.take(about, time.Now())
		if pause <= 0 {
			return ctx.Err()
		}
		if end, bounded := ctx.Deadline(); bounded && time.Until(end) < pause {
			return &cheq.LaterError{After: pause, Err: fmt.Errorf("feishu: %s: the platform's limit is reached", about)}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// take notes a call where one may be made now, or says how long not.
func (l *limits) take(about string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.second == nil {
		l.second = &window{span: time.Second, made: make([]time.Time, 50)}
		l.minute = &window{span: time.Minute, made: make([]time.Time, 1000)}
	}
	own := l.recipients[about]
	if own == nil {
		l.prune(now)
		own = &window{span: time.Second, made: make([]time.Time, 5)}
		l.recipients[about] = own
	}
	windows := [...]*window{l.second, l.minute, own}
	var pause time.Duration
	for _, w := range windows {
		pause = max(pause, w.free().Sub(now))
	}
	if pause > 0 {
		return pause
	}
	for _, w := range windows {
		w.note(now)
	}
	return 0
}

func (l *limits) prune(now time.Time) {
	if len(l.recipients) < maxRecipients {
		return
	}
	for about, w := range l.recipients {
		if now.Sub(w.newest()) > w.span {
			delete(l.recipients, about)
		}
	}
}
