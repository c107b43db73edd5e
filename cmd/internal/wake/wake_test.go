package wake

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestRingWakesEveryListenerOnceHoweverOftenItRings(t *testing.T) {
	var hub Hub
	a, b := hub.Listen(t.Context()), hub.Listen(t.Context())
	hub.Ring()
	hub.Ring()
	<-a
	<-b
	select {
	case <-a:
		t.Error("a second hint was queued")
	default:
	}
}

func TestListenerIsReleasedWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub Hub
		ctx, cancel := context.WithCancel(t.Context())
		c := hub.Listen(ctx)
		cancel()
		synctest.Wait()
		hub.Ring()
		select {
		case <-c:
			t.Error("woken after the end")
		default:
		}
		if len(hub.listeners) != 0 {
			t.Errorf("%d listeners are left", len(hub.listeners))
		}
	})
}
