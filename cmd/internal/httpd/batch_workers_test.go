package httpd

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// held is a Decider that answers nobody until it is let go.
type held struct {
	asked atomic.Int64
	letGo chan struct{}
}

func (h *held) Decide(context.Context, authz.Request, pdp.Caller) (Answer, error) {
	h.asked.Add(1)
	<-h.letGo
	return Answer{}, nil
}

func (h *held) Await(context.Context, authz.Revision) error { return nil }

func (h *held) Revision() authz.Revision { return authz.Revision{} }

func TestABatchTakesHalfOfTheCores(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for _, row := range []struct {
		cores, items int
		want         int64
	}{{1, 9, 1}, {2, 9, 1}, {3, 9, 1}, {4, 9, 2}, {8, 9, 4}, {8, 2, 2}, {8, 1, 1}} {
		runtime.GOMAXPROCS(row.cores)
		synctest.Test(t, func(t *testing.T) {
			decider := &held{letGo: make(chan struct{})}
			config := Config{Decider: decider, Now: time.Now}
			metrics, err := newMetrics(config)
			if err != nil {
				t.Fatal(err)
			}
			c := &call{Server: &Server{config: config, metrics: metrics}, ctx: t.Context()}
			go c.askAll(make([]question, row.items), executeAll, pdp.Caller{})
			synctest.Wait()
			if got := decider.asked.Load(); got != row.want {
				t.Errorf("%d items are decided at once on %d cores, want %d", got, row.cores, row.want)
			}
			close(decider.letGo)
			synctest.Wait()
			if got := decider.asked.Load(); got != int64(row.items) {
				t.Errorf("%d of %d items were decided", got, row.items)
			}
		})
	}
}
