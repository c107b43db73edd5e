package world

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxBody bounds a request's body at a door, in bytes.
const maxBody = 1 << 20

// Fault is one way in which a service fails. Delay comes first; then the first
// of Cut, Lose and Status that is set happens, or else the request is served.
// Go's HTTP client repeats a GET by itself where a connection that it had used
// before is cut.
type Fault struct {
	Method string        `json:"method,omitempty"` // of the requests it meets; empty: all
	Path   string        `json:"path,omitempty"`   // what their path contains; empty: all
	Times  int           `json:"times,omitempty"`  // how many it meets; 0: all, until they are cleared
	Delay  time.Duration `json:"delay,omitempty"`  // of the simulator's clock; in JSON nanoseconds
	Cut    bool          `json:"cut,omitempty"`    // the connection ends, and nothing was done
	Lose   bool          `json:"lose,omitempty"`   // the request is served, and the connection ends without its answer
	Status int           `json:"status,omitempty"` // answered with Header and Body, and nothing was done
	Header http.Header   `json:"header,omitempty"`
	Body   string        `json:"body,omitempty"`
}

// Faults stand at a service's door. Safe for concurrent use.
type Faults struct {
	clock *Clock
	mu    sync.Mutex
	list  []*Fault
}

// NewFaults returns a door at which nothing fails yet.
func NewFaults(clock *Clock) *Faults { return &Faults{clock: clock} }

// Add lets requests fail. Of several faults that meet a request the one that
// was added first takes it.
func (f *Faults) Add(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, &fault)
}

// Clear ends all faults.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

func (f *Faults) take(r *http.Request) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.list {
		if fault.Method != "" && fault.Method != r.Method || !strings.Contains(r.URL.Path, fault.Path) {
			continue
		}
		met := *fault
		if fault.Times == 1 {
			f.list = append(f.list[:i:i], f.list[i+1:]...)
		} else if fault.Times > 1 {
			fault.Times--
		}
		return met, true
	}
	return Fault{}, false
}

// Guard puts the faults before a handler. It reads the body of each request,
// so that a client which leaves is noticed.
func (f *Faults) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			http.Error(w, "body too large", http.StatusRequestEntityTooLarge)
			return
		} else if err != nil {
			panic(http.ErrAbortHandler) // the client left in the middle of its request
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		fault, met := f.take(r)
		if met && fault.Delay > 0 && f.clock.Wait(r.Context(), fault.Delay) != nil {
			panic(http.ErrAbortHandler)
		}
		switch {
		case fault.Cut:
			panic(http.ErrAbortHandler)
		case fault.Lose:
			next.ServeHTTP(&lost{header: http.Header{}}, r)
			panic(http.ErrAbortHandler)
		case fault.Status != 0:
			maps.Copy(w.Header(), fault.Header)
			w.WriteHeader(fault.Status)
			_, _ = io.WriteString(w, fault.Body)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// lost is an answer that never arrives.
type lost struct{ header http.Header }

func (l *lost) Header() http.Header         { return l.header }
func (l *lost) Write(p []byte) (int, error) { return len(p), nil }
func (l *lost) WriteHeader(int)             {}
