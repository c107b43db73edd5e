package pap

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Quorum says how many of the connected PEPs concerned must hold something. The
// zero Quorum is all of them.
type Quorum struct {
	percent int // 1 to 100, or 0
	count   int // at least 1, or 0
}

// ParseQuorum reads "all", a share such as "90%", or a number such as "5"; ""
// is all.
func ParseQuorum(text string) (Quorum, error) {
	if text == "" || text == "all" {
		return Quorum{}, nil
	}
	digits, share := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil || n < 1 || strconv.Itoa(n) != digits || share && n > 100:
		return Quorum{}, fmt.Errorf("%q: want all, a share from 1%% to 100%%, or a number from 1", text)
	case share:
		return Quorum{percent: n}, nil
	default:
		return Quorum{count: n}, nil
	}
}

// String is what ParseQuorum reads.
func (q Quorum) String() string {
	switch {
	case q.count > 0:
		return strconv.Itoa(q.count)
	case q.percent > 0:
		return strconv.Itoa(q.percent) + "%"
	default:
		return "all"
	}
}

// Of is how many of so many PEPs make the quorum; a share is rounded up.
func (q Quorum) Of(concerned int) int {
	switch {
	case q.count > 0:
		return q.count
	case q.percent > 0:
		return (concerned*q.percent + 99) / 100
	default:
		return concerned
	}
}

// Acknowledged says how many PEPs hold what was waited for.
type Acknowledged struct {
	Needed    int `json:"needed"`
	Holding   int `json:"holding"`
	Concerned int `json:"concerned"` // connected now
}

// QuorumError means that too few PEPs hold it in time.
type QuorumError struct {
	Acknowledged
	Wanted  string    // "release 42", "revision r42.g7"
	Missing []Missing // the first of them
	More    int       // how many are missing beside those
}

func (e *QuorumError) Error() string {
	return fmt.Sprintf("%d of %d connected PEPs hold %s, and %d must", e.Holding, e.Concerned, e.Wanted, e.Needed)
}

// Missing is a PEP that has not acknowledged something.
type Missing struct {
	// ID and Subject are left out where the PEP is the platform's and a tenant
	// asks.
	ID      string `json:"id,omitempty"`
	Tenant  string `json:"tenant"` // of its credential, "" for the platform's
	Subject string `json:"subject,omitempty"`
	// Connected says that its node says so.
	Connected bool           `json:"connected"`
	Revision  authz.Revision `json:"revision"`
	// HonoursUntil is when it stops counting what was revoked at the latest.
	HonoursUntil time.Time `json:"honours_until,omitzero"`
	Rejected     string    `json:"rejected,omitempty"` // why, where it refused
}

// What bounds waiting, and what it costs: PEPs' rows wake nobody.
const (
	awaitEvery = 100 * time.Millisecond
	maxMissing = 100
)

// AwaitRelease waits, at most so long, until a quorum of the connected PEPs
// holds the release or a newer one: of all PEPs for the platform's actors, of
// those that serve the tenant for a tenant's. Needs pep.read. It returns a
// [*QuorumError] where too few do in time, and ErrRolloutHalted as soon as a
// rollout of the release was halted.
func (s *Service) AwaitRelease(ctx context.Context, actor Actor, number uint64, quorum Quorum, wait time.Duration) (Acknowledged, error) {
	wanted := fmt.Sprintf("release %d", number)
	return s.await(ctx, actor, authz.Revision{Release: number}, wanted, PEPFilter{}, quorum, wait)
}

// AwaitRevision is AwaitRelease for release and log position together. PEPs
// that know no positions, such as a stock OPA, are not concerned.
func (s *Service) AwaitRevision(ctx context.Context, actor Actor, revision authz.Revision, quorum Quorum, wait time.Duration) (Acknowledged, error) {
	return s.await(ctx, actor, revision, "revision "+revision.String(), PEPFilter{Without: KindOPA}, quorum, wait)
}

// KindOPA is the Kind of PEPs that are a stock OPA.
const KindOPA = "opa"

func (s *Service) await(ctx context.Context, actor Actor, want authz.Revision, wanted string, concerned PEPFilter, quorum Quorum, wait time.Duration) (Acknowledged, error) {
	if err := actor.May(ctx, "pep.read", rightsTenant(actor.Tenant)); err != nil {
		return Acknowledged{}, err
	}
	concerned.Serves, concerned.Connected = actor.Tenant, true
	var last Acknowledged
	err := s.poll(ctx, wait, func() (done bool, err error) {
		if err := s.canCome(ctx, want); err != nil {
			return false, err
		}
		concerned.SeenSince = s.Now().Add(-PEPSilence)
		holding := concerned
		holding.Holds = want
		// Who holds it is counted first: a PEP that connects in between and does
		// not makes the quorum harder, never easier.
		if last.Holding, err = s.PEPStore.CountPEPs(ctx, holding); err != nil {
			return false, err
		}
		if last.Concerned, err = s.PEPStore.CountPEPs(ctx, concerned); err != nil {
			return false, err
		}
		last.Holding = min(last.Holding, last.Concerned)
		last.Needed = quorum.Of(last.Concerned)
		return last.Holding >= last.Needed, nil
	})
	if !errors.Is(err, errLate) {
		return last, err
	}
	late := &QuorumError{Acknowledged: last, Wanted: wanted}
	concerned.Below = want
	if late.Missing, late.More, err = s.missing(ctx, actor, concerned); err != nil {
		return last, err
	}
	return last, late
}

// canCome returns an error where no PEP can come to hold the revision.
func (s *Service) canCome(ctx context.Context, want authz.Revision) error {
	rollout, head, err := s.rolloutNow(ctx)
	switch {
	case err != nil:
		return err
	case !head.Includes(want):
		return fmt.Errorf("the newest revision is %s: %s: %w", head, want, ErrNotFound)
	case rollout != nil && rollout.State == RolloutHalted && rollout.Release == want.Release:
		return fmt.Errorf("release %d: %w: %s", want.Release, ErrRolloutHalted, rollout.Reason)
	default:
		return nil
	}
}

// errLate means that a poll's time is over.
var errLate = errors.New("too late")

// poll asks until done, at once, whenever something is committed, and every
// [awaitEvery]; errLate where it is not done in time.
func (s *Service) poll(ctx context.Context, wait time.Duration, done func() (bool, error)) error {
	waiting, stop := context.WithTimeout(ctx, wait)
	defer stop()
	wake := s.Store.Wake(waiting)
	ticker := time.NewTicker(awaitEvery)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-wake:
		case <-ticker.C:
		case <-waiting.Done():
			if err := ctx.Err(); err != nil {
				return err
			}
			return errLate
		}
	}
}

// missing lists the first PEPs that a filter selects, and counts the others.
func (s *Service) missing(ctx context.Context, actor Actor, filter PEPFilter) (list []Missing, more int, err error) {
	peps, err := s.PEPStore.PEPs(ctx, filter, "", maxMissing)
	if err != nil {
		return nil, 0, err
	}
	if len(peps) == maxMissing {
		all, err := s.PEPStore.CountPEPs(ctx, filter)
		if err != nil {
			return nil, 0, err
		}
		more = max(0, all-maxMissing)
	}
	list = make([]Missing, len(peps))
	for i := range peps {
		list[i] = missingOf(actor, &peps[i])
	}
	return list, more, nil
}

func missingOf(actor Actor, p *PEP) Missing {
	m := Missing{Tenant: p.Tenant, Connected: p.Connected, Revision: p.Revision, HonoursUntil: p.HonoursUntil}
	if actor.Tenant == "" || actor.Tenant == p.Tenant {
		m.ID, m.Subject = p.ID, p.Subject
		if p.Rejected != nil {
			m.Rejected = p.Rejected.Reason
		}
	}
	return m
}
