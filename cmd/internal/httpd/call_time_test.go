package httpd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestACallsContextEndsLikeAnyOther(t *testing.T) {
	for name, row := range map[string]struct {
		happens func(call *callTime, stop context.CancelFunc)
		want    error
	}{
		"nothing":         {func(*callTime, context.CancelFunc) {}, nil},
		"its time passes": {func(*callTime, context.CancelFunc) { time.Sleep(time.Minute) }, context.DeadlineExceeded},
		"it is answered":  {func(call *callTime, _ context.CancelFunc) { call.end() }, context.Canceled},
		"the server ends": {func(_ *callTime, stop context.CancelFunc) { stop() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, waits := range []bool{false, true} {
					base, stop := context.WithCancel(t.Context())
					var call callTime
					call.begin(base, time.Minute)
					if until, ok := call.Deadline(); !ok || time.Until(until) != time.Minute {
						t.Errorf("deadline %v", until)
					}
					var derived context.Context = &call
					if waits {
						var cancel context.CancelFunc
						derived, cancel = context.WithCancel(&call)
						defer cancel()
					}
					row.happens(&call, stop)
					synctest.Wait()
					if err := derived.Err(); !errors.Is(err, row.want) {
						t.Errorf("waited for %t: %v, want %v", waits, err, row.want)
					}
					select {
					case <-derived.Done():
						if row.want == nil {
							t.Error("done too early")
						}
					default:
						if row.want != nil {
							t.Errorf("waited for %t: not done", waits)
						}
					}
					if err := derived.Err(); !errors.Is(err, row.want) {
						t.Errorf("then %v, want %v", err, row.want)
					}
					call.end()
					stop()
				}
			})
		})
	}
}

func TestACallThatNobodyWaitsForTakesNoTimer(t *testing.T) {
	call := new(callTime)
	if n := testing.AllocsPerRun(100, func() {
		*call = callTime{}
		call.begin(t.Context(), time.Minute)
		if err := call.Err(); err != nil {
			t.Error(err)
		}
		call.end()
	}); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkAskACallsContext(b *testing.B) {
	var call callTime
	call.begin(b.Context(), time.Minute)
	for b.Loop() {
		if err := call.Err(); err != nil {
			b.Fatal(err)
		}
	}
}
