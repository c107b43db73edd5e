package pep

import (
	"context"
	"testing"
	"testing/synctest"
)

// slowEngine holds back what it applies after the first release.
type slowEngine struct {
	*tiny
	applying chan struct{} // closed when a later release is to be applied
	goOn     chan struct{}
}

func (e *slowEngine) Apply(c Change) error {
	if r, ok := c.Release.(*tinyRelease); ok && r.number > 1 {
		close(e.applying)
		<-e.goOn
	}
	return e.tiny.Apply(c)
}

// What was enforced, if only for a moment while the PEP was being closed, is
// what it begins with again: a release never falls.
func TestWhatIsActivatedDuringCloseIsOnDisk(t *testing.T) {
	inTime(t, func(t *testing.T, n *node, net *pipes, config Config) {
		n.publish("allow order.create")
		engine := &slowEngine{&tiny{}, make(chan struct{}), make(chan struct{})}
		config.Engine = engine
		p := start(t, config)
		ready(t, p)
		n.publish("deny order.create")
		<-engine.applying
		closed := make(chan error)
		go func() { closed <- p.Close(context.Background()) }()
		synctest.Wait() // all that may end has ended
		close(engine.goOn)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		held := p.Status().Revision
		n.kill()
		config.Engine = &tiny{}
		again := start(t, config)
		if now := again.Status().Revision; held.Release != 2 || now != held {
			t.Errorf("it was closed at %s and begins at %s", held, now)
		}
		stop(t, again)
	})
}
