//go:build unix

package fleet

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// storm is everything at once: releases, grants, crashes, a network that
// fails, and questions all the while.
type storm struct {
	fleet   *fleet
	roads   []*road
	dice    dice
	length  time.Duration // about
	tenants []string

	publishes, grants, restarts int

	mu     sync.Mutex
	minted map[string][]*mintedGrant // by tenant

	cuts, freezes, halves, blocks, crashes atomic.Int64
}

// draw returns how long to pause: any time up to twice the mean.
func draw(random *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(2*mean) + 1))
}

// pause is part of the load. false: the storm is over.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rage goes on until all releases and grants came and went and everybody was
// restarted who was to be. When it returns, the network is whole and all live.
func (s *storm) rage(t *testing.T) {
	t.Helper()
	ctx, over := context.WithCancel(t.Context())
	defer over()
	var work, weather sync.WaitGroup
	try := func(what string, err error) {
		if err != nil && t.Context().Err() == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	work.Go(func() { try("publish", s.publish(ctx, s.dice.of(1))) })
	const workers = 4
	for i := range workers {
		work.Go(func() {
			try("grants", s.grant(ctx, s.dice.of(100+uint64(i)), s.grants/workers, s.length*workers/time.Duration(s.grants)))
		})
		work.Go(func() {
			try("restart", s.restart(ctx, s.dice.of(200+uint64(i)), i, workers, s.length*workers/time.Duration(s.restarts)))
		})
		weather.Go(func() { s.ask(ctx, s.dice.of(300+uint64(i))) })
	}
	weather.Go(func() { s.blow(ctx, s.dice.of(2)) })
	work.Wait()
	over()
	weather.Wait()
	for _, r := range s.roads {
		r.thaw()
		r.stream.slow(0)
	}
}

func (s *storm) publish(ctx context.Context, random *rand.Rand) error {
	for range s.publishes {
		number := s.fleet.newest.Add(1)
		if _, err := s.fleet.site.publish(ctx, int(number)); err != nil {
			return err
		}
		pause(ctx, draw(random, s.length/time.Duration(s.publishes)))
	}
	return nil
}

// grant mints grants one after the other and revokes them, but for those that
// are left to end by themselves.
func (s *storm) grant(ctx context.Context, random *rand.Rand, n int, mean time.Duration) error {
	for range n {
		tenant, validity := s.tenants[random.IntN(len(s.tenants))], 10*time.Minute
		ends := random.IntN(8) == 0
		if ends {
			validity = time.Second + draw(random, 3*time.Second)
		}
		g, err := s.fleet.site.mint(ctx, tenant, name(random), validity)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.minted[tenant] = append(s.minted[tenant], g)
		s.mu.Unlock()
		pause(ctx, draw(random, mean))
		if ends {
			continue
		}
		if err := s.fleet.site.revoke(ctx, g, time.Duration(random.IntN(3))*time.Second); err != nil {
			return err
		}
	}
	return nil
}

func name(random *rand.Rand) string {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	text := make([]byte, 12)
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return string(text)
}

// restart ends the lives of its share of the members, each once, and begins
// another one a while later.
func (s *storm) restart(ctx context.Context, random *rand.Rand, share, of int, mean time.Duration) error {
	for i := share; i < s.restarts; i += of {
		m := s.fleet.members[i*len(s.fleet.members)/s.restarts]
		end := m.stop
		if random.IntN(2) == 0 {
			end = m.crash
			s.crashes.Add(1)
		}
		if err := end(); err != nil {
			return err
		}
		pause(ctx, draw(random, mean))
		if err := m.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// blow breaks the network here and there.
func (s *storm) blow(ctx context.Context, random *rand.Rand) {
	var mending sync.WaitGroup
	defer mending.Wait()
	later := func(d time.Duration, mend func()) {
		mending.Go(func() {
			pause(ctx, d)
			mend()
		})
	}
	// Some freezes are longer than grants count, and some longer than a
	// connection is waited for.
	long := func() time.Duration { return time.Duration(random.Int64N(int64(stream.SilentAfter + 5*time.Second))) }
	for pause(ctx, draw(random, s.length/300)) {
		r := s.roads[random.IntN(len(s.roads))]
		c := r.stream.one(random)
		switch event := random.IntN(40); {
		case event == 0:
			s.freezes.Add(1)
			r.freeze()
			later(long(), r.thaw)
		case event == 1:
			s.freezes.Add(1)
			r.stream.freeze() // polls go the same way
			later(long(), r.stream.thaw)
		case event == 2:
			s.blocks.Add(1)
			r.block()
			later(draw(random, 2*time.Second), r.thaw)
		case event == 3:
			s.cuts.Add(1)
			r.cut()
		case event == 4:
			r.stream.slow(draw(random, 200*time.Millisecond))
			later(long(), func() { r.stream.slow(0) })
		case c == nil:
		case event < 10:
			s.halves.Add(1)
			c.halfClose(event%2 == 0)
		case event < 25:
			s.freezes.Add(1)
			c.freeze()
			later(long(), c.thaw)
		default:
			s.cuts.Add(1)
			c.cut()
		}
	}
}

// ask asks members for what was granted once, the newer the likelier: several
// questions in a row, whose records they ship together.
func (s *storm) ask(ctx context.Context, random *rand.Rand) {
	ticker := time.NewTicker(25 * time.Millisecond) // as much load as is meant
	defer ticker.Stop()
	for ctx.Err() == nil {
		m := s.fleet.members[random.IntN(len(s.fleet.members))]
		for range 8 {
			if g := s.some(m.tenant, random); g != nil {
				m.try(g)
			}
			s.fleet.members[random.IntN(len(s.fleet.members))].look()
		}
		<-ticker.C
	}
}

// some is a grant of the tenant's, one of the newest mostly.
func (s *storm) some(tenant string, random *rand.Rand) *mintedGrant {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.minted[tenant]
	if len(all) == 0 {
		return nil
	}
	newest := min(len(all), 40)
	if random.IntN(4) == 0 {
		newest = len(all)
	}
	return all[len(all)-1-random.IntN(newest)]
}
