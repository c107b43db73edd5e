package pip

import (
	"testing"
	"time"
)

// Calls that began before the breaker opened end whenever they do.
func TestLateCallsNeitherCloseNorProlongAnOpenBreaker(t *testing.T) {
	now := time.Unix(1e9, 0)
	var b breaker
	for i := range breakAfter {
		if opened, _ := b.called(false, true, now, breakFor); opened != (i == breakAfter-1) {
			t.Fatalf("failure %d: opened %v", i+1, opened)
		}
	}
	b.called(false, false, now, breakFor)
	if ok, _ := b.allow(now); ok {
		t.Error("a late success closed it")
	}
	b.called(false, true, now.Add(breakFor/2), breakFor)
	ok, try := b.allow(now.Add(breakFor))
	if !ok || !try {
		t.Error("a late failure prolonged it")
	}
	b.uncalled(try)
	if ok, try = b.allow(now.Add(breakFor)); !ok || !try {
		t.Error("a call that was not made leaves nobody to try")
	}
	if _, closed := b.called(try, false, now.Add(breakFor), breakFor); !closed {
		t.Error("it stays open")
	}
	if ok, try = b.allow(now.Add(breakFor)); !ok || try {
		t.Error("it is not closed")
	}
}
