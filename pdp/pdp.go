package pdp

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What callers branch on.
var (
	// ErrNotReady means that no release is active yet.
	ErrNotReady = errors.New("no release is active yet")
	// ErrAuditUnavailable means that a strict record could not be written; the
	// decision must not be used.
	ErrAuditUnavailable = errors.New("the decision could not be recorded")
	// ErrRevisionUnavailable means that this node did not reach the revision
	// that was asked for in time.
	ErrRevisionUnavailable = errors.New("the revision is not available here yet")
	// ErrOverloaded means that the question waited MaxQueue for its turn.
	ErrOverloaded = errors.New("too many decisions are waiting on this node")
)

// Snapshot is everything an answer is based on. It is immutable and replaced
// whole.
type Snapshot struct {
	Release  *Release
	Dynamic  *Dynamic
	Position uint64 // of the log that Dynamic and Directory reflect
	// Directory answers the attributes whose source is "directory".
	Directory AttributeSource
}

// Revision names the snapshot.
func (s *Snapshot) Revision() authz.Revision {
	return authz.Revision{Release: s.Release.Number, Position: s.Position}
}

// Caller is who asked, for the record, for counting uses and for asking people.
type Caller struct {
	Name           string // the credential's subject, "service:shop"
	Tenant         string // of the credential; "" for the platform's
	IdempotencyKey string // of a retry that must count once; may be empty
	// Asks has people asked where the answer is a REVIEW; nil asks nobody.
	Asks *Asks
	// Case is one that has ended, where this decision is made because it has;
	// an answer that is still a REVIEW carries it.
	Case *authz.Approval
}

// Record is one decision as it is written down (X15). What policies call
// sensitive is masked, in the request and in messages.
type Record struct {
	Time       time.Time
	Caller     Caller
	Request    authz.Request
	Decision   *authz.Decision
	Durability Durability
	// Data is a query of `data`; then there is no Request and no Decision.
	Data *DataRecord
}

// Recorder writes decisions down. Under Strict it returns only when the record
// is durable; an error there denies.
type Recorder interface {
	Record(ctx context.Context, r *Record) error
}

// UseCounter knows the uses of counted grants.
type UseCounter interface {
	// CountUses takes one use of each, in one transaction. It returns the ids
	// of those that had none left; then none is counted.
	CountUses(ctx context.Context, grants []*authz.Grant, caller Caller, decisionID string) (spent []string, err error)
	// SpentUses returns the ids of those that have none left, and counts none.
	SpentUses(ctx context.Context, grants []*authz.Grant) (spent []string, err error)
}

// Config is what a PDP is handed. Now and NewID are required.
type Config struct {
	Sources  map[string]AttributeSource // by the name that the attribute schema uses
	Recorder Recorder                   // nil records nothing
	Uses     UseCounter                 // nil: counted grants never count
	// Approvals asks people; nil: nobody is asked.
	Approvals Approvals
	Budget    time.Duration // per evaluation; 0 means DefaultBudget
	// StaleBound is how long policies without a bound of their own are trusted
	// when their source is not heard; 0 means DefaultStaleBound.
	StaleBound time.Duration
	// Freshness says how far what is active can be trusted now; nil: fully.
	Freshness func() authz.Freshness
	Now       func() time.Time
	NewID     func() string
}

// DefaultStaleBound is the stale bound of policies that declare none.
const DefaultStaleBound = time.Hour

// DefaultBudget is the time the evaluation of one decision may take before it
// denies. It starts when the evaluation does: as many run at once as there are
// cores, twice over, and the rest wait for their turn, so that a burst makes
// answers late and not wrong.
const DefaultBudget = 500 * time.Millisecond

// MaxQueue is how long a question waits for its turn before it is refused.
const MaxQueue = 5 * time.Second

// PDP decides on the active snapshot. It is safe for concurrent use.
type PDP struct {
	config Config
	active atomic.Pointer[Snapshot]
	turns  chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each activation

	freeMemory func() // of the runtime
	givingBack atomic.Bool
}

// New returns a PDP without a release: it answers ErrNotReady until Activate.
func New(config Config) *PDP {
	if config.Budget == 0 {
		config.Budget = DefaultBudget
	}
	if config.StaleBound == 0 {
		config.StaleBound = DefaultStaleBound
	}
	if config.Freshness == nil {
		config.Freshness = func() authz.Freshness { return authz.Freshness{Now: config.Now(), Grants: true} }
	}
	return &PDP{config: config, changed: make(chan struct{}), turns: make(chan struct{}, 2*runtime.GOMAXPROCS(0)), freeMemory: debug.FreeOSMemory}
}

// Activate swaps the snapshot. Decisions under way end on the one they began
// with.
func (p *PDP) Activate(s *Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if replacesLarge(p.active.Swap(s), s) {
		p.giveBack()
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Active returns the snapshot in force, or nil.
func (p *PDP) Active() *Snapshot { return p.active.Load() }

// Await returns once the active snapshot includes the revision, or
// ErrRevisionUnavailable when ctx ends before.
func (p *PDP) Await(ctx context.Context, revision authz.Revision) error {
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if s := p.active.Load(); s != nil && s.Revision().Includes(revision) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", ErrRevisionUnavailable, revision)
		}
	}
}

// Decide answers, counts and records. An error means that there is no answer:
// treat it as DENY. A [*authz.FieldError] means that the request is malformed.
func (p *PDP) Decide(ctx context.Context, req authz.Request, caller Caller) (authz.Decision, error) {
	s := p.active.Load()
	if err := s.takes(&req); err != nil {
		return authz.Decision{}, err
	}
	q := borrowQuestion(s, req, p.config.Freshness())
	defer q.release()
	if err := p.answer(ctx, q, false); err != nil {
		return authz.Decision{}, err
	}
	d, id := q.combine(), p.config.NewID()
	d, err := p.settle(q, d, func(grants []*authz.Grant) ([]string, error) {
		return p.config.Uses.CountUses(ctx, grants, caller, id)
	})
	if err != nil {
		return authz.Decision{}, err
	}
	d = p.ask(ctx, q, d, caller)
	d.ID = id
	if err := p.record(ctx, q, d.Decision, caller); err != nil {
		return authz.Decision{}, err
	}
	return d.Decision, nil
}

// Evaluate answers like Decide on any snapshot, without counting, recording
// or any other effect. With explain it also says what every rule did.
func (p *PDP) Evaluate(ctx context.Context, s *Snapshot, req authz.Request, explain bool) (authz.Decision, *Explanation, error) {
	q, d, err := p.tryOut(ctx, s, req, explain)
	if err != nil || !explain {
		return d, nil, err
	}
	return d, q.explanation(), nil
}

// tryOut answers without any effect.
func (p *PDP) tryOut(ctx context.Context, s *Snapshot, req authz.Request, explain bool) (*question, authz.Decision, error) {
	q, err := p.question(ctx, s, req, p.config.Freshness(), explain)
	if err != nil {
		return nil, authz.Decision{}, err
	}
	d, err := p.settle(q, q.combine(), func(grants []*authz.Grant) ([]string, error) { return p.config.Uses.SpentUses(ctx, grants) })
	if err != nil {
		return nil, authz.Decision{}, err
	}
	d.ID = p.config.NewID()
	return q, d.Decision, nil
}

// MaySelf answers whether a caller of Xiezhi itself has a right, by the self
// policies of the active release. The request is the server's own: its
// properties are trusted.
func (p *PDP) MaySelf(ctx context.Context, req authz.Request) (authz.Decision, error) {
	return p.MaySelfOn(ctx, p.active.Load(), req)
}

// MaySelfOn is MaySelf on a given snapshot, such as a candidate's.
func (p *PDP) MaySelfOn(ctx context.Context, s *Snapshot, req authz.Request) (authz.Decision, error) {
	if s == nil {
		return authz.Decision{}, ErrNotReady
	}
	q := borrowQuestion(s, req, authz.Freshness{Now: p.config.Now(), Grants: true})
	defer q.release()
	s.Release.match.self.match(&q.original, "", q.matched)
	q.answering = q.matched
	q.input = Input{Request: &q.original, Value: q.lent.overlay.request(&q.original), Now: q.fresh.Now}
	if err := p.evaluate(ctx, q); err != nil {
		return authz.Decision{}, err
	}
	return q.combine().Decision, nil
}

// settle asks the counter about the counted grants that an ALLOW rests on.
// Where one has no use left, the decision is combined again without it.
func (p *PDP) settle(q *question, d combined, ask func([]*authz.Grant) (spent []string, err error)) (combined, error) {
	for d.Effect == authz.Allow && len(d.counted) > 0 {
		spent := grantIDs(d.counted)
		if p.config.Uses != nil {
			var err error
			if spent, err = ask(d.counted); err != nil {
				return combined{}, fmt.Errorf("uses of grants: %w", err)
			}
			if len(spent) == 0 {
				return d, nil
			}
		}
		q.spent = append(q.spent, spent...)
		d = q.combine()
	}
	return d, nil
}

func grantIDs(grants []*authz.Grant) []string {
	ids := make([]string, len(grants))
	for i, g := range grants {
		ids[i] = g.ID
	}
	return ids
}

// record hands the recorder memory of its own.
func (p *PDP) record(ctx context.Context, q *question, d authz.Decision, caller Caller) error {
	if p.config.Recorder == nil {
		return nil
	}
	var written struct {
		record   Record
		decision authz.Decision
	}
	written.decision = d
	written.record = q.record(&written.decision, caller)
	if err := p.config.Recorder.Record(ctx, &written.record); err != nil {
		return fmt.Errorf("%w: %w", ErrAuditUnavailable, err)
	}
	return nil
}
