package pep

import (
	"strings"
	"sync"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

const (
	trustReleases = trust.PurposeReleases
	trustLog      = trust.PurposeLog
)

// lockedLog is a log that a test reads while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(data)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
