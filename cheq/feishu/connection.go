package feishu

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"runtime"
	"time"

	larkcache "github.com/larksuite/oapi-sdk-go/v3/cache"
	larkevent "github.com/larksuite/oapi-sdk-go/v3/event"
	"github.com/larksuite/oapi-sdk-go/v3/event/dispatcher"
	"github.com/larksuite/oapi-sdk-go/v3/event/dispatcher/callback"
	larkws "github.com/larksuite/oapi-sdk-go/v3/ws"
)

// How long Run waits before it connects again: twice as long each time, from
// the first pause to the longest, and from the first again after a connection
// that held.
const (
	firstPause   = time.Second
	longestPause = time.Minute
	held         = time.Minute
)

// Run keeps the long connection until ctx ends, and leaves nothing running. A
// connection that is silent for two pings and five seconds is given up. The
// platform gives each event to one of an app's connections, of which there may
// be 50: any node must be able to take it.
func (b *Bot) Run(ctx context.Context) {
	events := b.dispatcher()
	pause := firstPause
	for ctx.Err() == nil {
		begun := time.Now()
		// A client that reconnects by itself does so by the platform's numbers,
		// and stops for good where those say so.
		client := larkws.NewClient(b.config.AppID, b.config.AppSecret,
			larkws.WithDomain(b.config.BaseURL), larkws.WithHttpClient(b.http), larkws.WithEventHandler(events),
			larkws.WithAutoReconnect(false), larkws.WithLogger(silent{}),
			larkws.WithOnReady(func() { b.config.Log.InfoContext(ctx, "the long connection to Feishu is open") }),
		)
		err := client.Start(ctx)
		release(client)
		b.http.http.CloseIdleConnections()
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > held {
			pause = firstPause
		}
		wait := pause/2 + rand.N(pause/2)
		why, _ := fit(fmt.Sprint(err), 300)
		b.config.Log.LogAttrs(ctx, warn, "the long connection to Feishu ended",
			slog.String("error", why), slog.Duration("again_after", wait))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(2*pause, longestPause)
	}
}

// release ends the goroutine that a client leaves behind. It sweeps the
// client's cache, and only a finalizer of the cache would stop it, which never
// runs: the goroutine itself holds the cache.
func release(client *larkws.Client) {
	field := reflect.ValueOf(client).Elem().FieldByName("cache")
	cache := (*larkcache.Cache)(field.UnsafePointer())
	runtime.SetFinalizer(cache, nil) // it would write to the channel
	stop := field.Elem().FieldByName("cron").Elem().FieldByName("stop")
	reflect.NewAt(stop.Type(), stop.Addr().UnsafePointer()).Elem().Close()
}

// dispatcher hands payloads on as they came. The SDK writes one line to
// standard output when it makes one.
func (b *Bot) dispatcher() *dispatcher.EventDispatcher {
	events := dispatcher.NewEventDispatcher("", "")
	events.InitConfig(larkevent.WithLogger(silent{}))
	events.OnP2CardActionTrigger(func(ctx context.Context, e *callback.CardActionTriggerEvent) (*callback.CardActionTriggerResponse, error) {
		return b.pushed(ctx, e.EventReq)
	})
	return events.OnCustomizedEvent(eventMessage, func(ctx context.Context, e *larkevent.EventReq) error {
		_, err := b.pushed(ctx, e)
		return err
	})
}

func (b *Bot) pushed(ctx context.Context, e *larkevent.EventReq) (*callback.CardActionTriggerResponse, error) {
	answer, err := b.take(ctx, e.Body, false)
	if err != nil {
		b.config.Log.LogAttrs(ctx, warn, "an event from Feishu is refused", errorAttr(err))
	}
	return answer, err
}
