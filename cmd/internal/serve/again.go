package serve

import (
	"context"
	"log/slog"
	"time"
)

// again does work now and then until ctx ends. An outage is logged when it
// begins, once a minute while it lasts, and when it ends, whatever the errors say.
func again(ctx context.Context, log *slog.Logger, every time.Duration, work func(context.Context) error, failed string) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var since, told time.Time // of the outage; zero while there is none
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := work(ctx)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		switch {
		case err == nil && !since.IsZero():
			log.Info("it works again", "was", failed, "for", now.Sub(since).Round(time.Millisecond))
			since, told = time.Time{}, time.Time{}
		case err != nil && now.Sub(told) >= remindEvery:
			if since.IsZero() {
				since = now
			}
			log.Error(failed, "error", err, "for", now.Sub(since).Round(time.Millisecond))
			told = now
		}
	}
}

// remindEvery is how often an outage that lasts is logged.
const remindEvery = time.Minute
