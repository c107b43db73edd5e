package serve

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnOutageIsLoggedWhenItBeginsEveryMinuteAndWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		ctx, stop := context.WithCancel(t.Context())
		calls := 0
		work := func(context.Context) error {
			if calls++; calls > 10 && calls <= 160 {
				return fmt.Errorf("dial from port %d: refused", 30000+calls)
			}
			return nil
		}
		go again(ctx, log, time.Second, work, "cannot step")
		time.Sleep(300*time.Second + time.Millisecond)
		synctest.Wait()
		stop()
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		want := []string{"port 30011: refused\" for=0s", "port 30071: refused\" for=1m0s", "port 30131: refused\" for=2m0s", `msg="it works again" was="cannot step" for=2m30s`}
		if calls != 300 || len(lines) != len(want) {
			t.Fatalf("after %d calls the log says:\n%s", calls, &text)
		}
		for i := range want {
			if !strings.Contains(lines[i], want[i]) {
				t.Errorf("line %d: %s, want %s", i, lines[i], want[i])
			}
		}
	})
}
