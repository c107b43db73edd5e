package pap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What callers branch on.
var (
	// ErrRolloutInProgress refuses a publication while a rollout runs.
	ErrRolloutInProgress = errors.New("a rollout is in progress: let it end, abort it, or restore an older release")
	// ErrRolloutHalted means that a release does not reach all PEPs.
	ErrRolloutHalted = errors.New("its rollout was halted")
	// ErrNoRollout means that there is no running rollout to change.
	ErrNoRollout = errors.New("no rollout of this release is running")
)

// RolloutActor is who advances, halts and takes back rollouts without a caller.
const RolloutActor = "system:rollout"

const rolloutKey = "rollout"

// rolloutActor may publish what takes a release back: that was decided by who
// started the rollout.
func rolloutActor() Actor {
	may := func(context.Context, string, string) error { return nil }
	return Actor{Name: RolloutActor, May: may, Could: may, Rights: []string{"*"}}
}

// rolloutOf reads the newest rollout, nil where there never was one.
func rolloutOf(tx Tx) (*Rollout, error) {
	r, err := get[Rollout](tx, KindRollout, rolloutKey)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return &r, err
}

// rolloutNow reads the newest rollout, nil where there never was one, and the
// head.
func (s *Service) rolloutNow(ctx context.Context) (r *Rollout, head authz.Revision, err error) {
	err = s.Store.View(ctx, func(tx Tx) error {
		if head, err = tx.Head(); err != nil {
			return err
		}
		r, err = rolloutOf(tx)
		return err
	})
	return r, head, err
}

// startRollout makes a release that is being published reach PEPs in stages.
func (s *Service) startRollout(tx Tx, actor Actor, number uint64, p Publication, concerned []string) error {
	if len(p.Stages) == 0 {
		return nil
	}
	for i, tenant := range p.Tenants {
		_, err := tx.Record(KindTenant, tenant)
		if err := orField(err, fmt.Sprintf("/tenants/%d", i), "no tenant %q", tenant); err != nil {
			return err
		}
	}
	speak := slices.Concat([]string{}, concerned, p.Tenants) // never nil: it is written as a list
	slices.Sort(speak)
	if number == 1 {
		return field("/stages", "the first release has none before it that the others could keep")
	}
	now := s.Now().UTC()
	return put(tx, KindRollout, rolloutKey, "", now, Rollout{
		Release: number, Base: number - 1, Stages: p.Stages, Tenants: slices.Compact(speak), State: RolloutRunning,
		MinStageSeconds: int(p.MinStage / time.Second), StartedBy: actor.Name, StartedAt: now, ChangedAt: now,
	})
}

// endRollout makes way for a release: one that restores an older one ends a
// running rollout, any other has to wait for it.
func (s *Service) endRollout(tx Tx, actor Actor, next Release) error {
	head, err := tx.Head()
	if err != nil {
		return err
	}
	r, err := rolloutOf(tx)
	if err != nil || !r.Active(head.Release) {
		return err
	}
	if next.Restores == 0 {
		return fmt.Errorf("release %d: %w", r.Release, ErrRolloutInProgress)
	}
	if r.State == RolloutHalted {
		return nil
	}
	r.State, r.ChangedAt = RolloutHalted, s.Now().UTC()
	r.Reason = fmt.Sprintf("%s restored release %d", actor.Name, next.Restores)
	return put(tx, KindRollout, rolloutKey, "", r.ChangedAt, r)
}

// waitsForRollout is endRollout's refusal before anything is compiled.
func (s *Service) waitsForRollout(ctx context.Context, next Release) error {
	r, head, err := s.rolloutNow(ctx)
	if err == nil && r.Active(head.Release) && next.Restores == 0 {
		err = fmt.Errorf("release %d: %w", r.Release, ErrRolloutInProgress)
	}
	return err
}

// errStepped means that another node was first.
var errStepped = errors.New("another node stepped the rollout")

// changeRollout stores what edit makes of a rollout unless it changed since it
// was read, and leaves an audit record of what was done.
func (s *Service) changeRollout(ctx context.Context, actor Actor, read *Rollout, verb string, edit func(tx Tx, r *Rollout) error) (authz.Revision, error) {
	next := *read
	now := s.Now().UTC()
	// The detail is written down after edit.
	what := auditEntry{"rollout." + verb, "", fmt.Sprintf("release:%d", read.Release), &next}
	return s.change(ctx, actor, what, func(tx Tx) error {
		newest, err := rolloutOf(tx)
		if err != nil {
			return err
		}
		if newest == nil || newest.Release != read.Release || newest.Stage != read.Stage || newest.State != read.State {
			return errStepped
		}
		next = *newest
		next.ChangedAt = now
		if err := edit(tx, &next); err != nil {
			return err
		}
		return put(tx, KindRollout, rolloutKey, "", now, &next)
	})
}

// StepRollout moves a running rollout on by what PEPs have acknowledged and
// rejected since. Every node calls it about every second; one of them wins.
//
// A stage is over when it has lasted its least time and every connected PEP
// that it selects holds the release. As soon as a PEP that was sent it rejects
// it, the rollout is halted, and a new release restores what was before. Only
// PEPs count that speak for it ([Rollout.Speaks]): anybody may call itself by a
// stage's labels.
func (s *Service) StepRollout(ctx context.Context) error {
	r, head, err := s.rolloutNow(ctx)
	if err != nil || !r.Active(head.Release) {
		return err
	}
	if err := s.stepRollout(ctx, r); err != nil && !errors.Is(err, errStepped) {
		return fmt.Errorf("rollout of release %d: %w", r.Release, err)
	}
	return nil
}

func (s *Service) stepRollout(ctx context.Context, r *Rollout) error {
	if r.State == RolloutHalted {
		_, err := s.takeBack(ctx, r)
		return err
	}
	reason, err := s.rejection(ctx, r)
	if err != nil {
		return err
	}
	if reason != "" {
		_, err := s.halt(ctx, rolloutActor(), r, reason)
		return err
	}
	over, err := s.stageOver(ctx, r)
	if err != nil || !over {
		return err
	}
	_, err = s.advance(ctx, rolloutActor(), r)
	return err
}

// rejection says why a rollout must halt, or "".
func (s *Service) rejection(ctx context.Context, r *Rollout) (string, error) {
	// Who has taken it since counts as taken. A rejection counts also from a
	// PEP that is gone: it may have gone because of the release.
	filter := r.speakers()
	filter.Rejected, filter.Offered, filter.Below = r.Release, r.Release, authz.Revision{Release: r.Release}
	after := ""
	for {
		peps, err := s.PEPStore.PEPs(ctx, filter, after, maxMissing)
		if err != nil || len(peps) == 0 {
			return "", err
		}
		for _, p := range peps {
			if r.Target(r.Release, p.ID, p.Labels) == r.Release {
				return fmt.Sprintf("PEP %s rejected it: %s", p.Key, bounded(p.Rejected.Reason)), nil
			}
		}
		after = peps[len(peps)-1].Key
	}
}

// maxReason bounds, in bytes, what a rollout keeps of a PEP's words.
const maxReason = 1024

func bounded(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}

// stageOver reports whether the rollout's stage has done its part.
func (s *Service) stageOver(ctx context.Context, r *Rollout) (bool, error) {
	now := s.Now()
	if now.Sub(r.ChangedAt) < time.Duration(r.MinStageSeconds)*time.Second {
		return false, nil
	}
	late := r.speakers()
	late.Select, late.Connected, late.SeenSince, late.Below = r.Stages[r.Stage], true, now.Add(-PEPSilence), authz.Revision{Release: r.Release}
	waiting, err := s.PEPStore.CountPEPs(ctx, late)
	return waiting == 0, err
}

// advance begins the next stage, or lets all others have the release. Then it
// ends the grants that name a rule which the release changed: those minted
// during the rollout were minted by the rules before.
func (s *Service) advance(ctx context.Context, actor Actor, r *Rollout) (authz.Revision, error) {
	if r.Stage+1 < len(r.Stages) {
		return s.changeRollout(ctx, actor, r, "advance", func(_ Tx, next *Rollout) error {
			next.Stage++
			return nil
		})
	}
	content, err := s.content(ctx, r.Release)
	if err != nil {
		return authz.Revision{}, err
	}
	candidate, err := s.Gate.Check(ctx, content, nil)
	if err != nil {
		return authz.Revision{}, err
	}
	return s.changeRollout(ctx, actor, r, "done", func(tx Tx, next *Rollout) error {
		next.State = RolloutDone
		return s.endChangedGrants(tx, candidate)
	})
}

// halt ends a rollout for a reason and takes its release back. What was halted
// stays halted where taking back fails: the next step tries again.
func (s *Service) halt(ctx context.Context, actor Actor, r *Rollout, reason string) (authz.Revision, error) {
	stored, err := s.changeRollout(ctx, actor, r, "halt", func(_ Tx, next *Rollout) error {
		next.State, next.Reason = RolloutHalted, reason
		return nil
	})
	if err != nil && stored.IsZero() {
		return authz.Revision{}, err
	}
	halted := *r
	halted.State, halted.Reason = RolloutHalted, reason
	revision, err := s.takeBack(ctx, &halted)
	if !errors.Is(err, errStepped) {
		return revision, err
	}
	// It is halted, and a node that saw so took the release back first.
	if err := s.CatchUp(ctx); err != nil {
		return authz.Revision{}, err
	}
	_, head, err := s.rolloutNow(ctx)
	return head, err
}

// takeBack publishes the release that a halted rollout began from as the next
// one after the rollout's.
func (s *Service) takeBack(ctx context.Context, r *Rollout) (authz.Revision, error) {
	base, err := s.content(ctx, r.Release)
	if err != nil {
		return authz.Revision{}, err
	}
	next, err := s.content(ctx, r.Base)
	if err != nil {
		return authz.Revision{}, err
	}
	restored := Release{Restores: r.Base, Note: fmt.Sprintf("restores release %d: the rollout of release %d was halted: %s", r.Base, r.Release, r.Reason)}
	_, revision, err := s.publish(ctx, rolloutActor(), r.Release, base, next, restored, nil) // asked of nobody: it goes back
	if errors.Is(err, ErrVersion) {
		return authz.Revision{}, errStepped // another node published it meanwhile
	}
	return revision, err
}

// RolloutProgress is a rollout and how far its stages are.
type RolloutProgress struct {
	Rollout
	Progress []StageProgress `json:"progress"`
}

// StageProgress counts the PEPs that one stage selects and that speak for it.
type StageProgress struct {
	Connected int `json:"connected"`
	Holding   int `json:"holding"`  // of the connected ones
	Rejected  int `json:"rejected"` // of those that were sent it
}

// Rollout returns the rollout of a release, if it is the newest one. Needs
// release.read on the platform: stages name all tenants' PEPs.
func (s *Service) Rollout(ctx context.Context, actor Actor, number uint64) (RolloutProgress, error) {
	if err := actor.May(ctx, "release.read", Platform); err != nil {
		return RolloutProgress{}, err
	}
	r, _, err := s.rolloutNow(ctx)
	if err != nil {
		return RolloutProgress{}, err
	}
	if r == nil || r.Release != number {
		return RolloutProgress{}, fmt.Errorf("rollout of release %d: %w", number, ErrNotFound)
	}
	view := RolloutProgress{Rollout: *r, Progress: make([]StageProgress, len(r.Stages))}
	held := authz.Revision{Release: number}
	for i, stage := range r.Stages {
		rejected := r.speakers()
		rejected.Select = stage
		connected := rejected
		rejected.Rejected, rejected.Offered, rejected.Below = number, number, held
		connected.Connected, connected.SeenSince = true, s.Now().Add(-PEPSilence)
		holding := connected
		holding.Holds = held
		for _, row := range []struct {
			count  *int
			filter PEPFilter
		}{
			{&view.Progress[i].Holding, holding}, {&view.Progress[i].Connected, connected},
			{&view.Progress[i].Rejected, rejected},
		} {
			if *row.count, err = s.PEPStore.CountPEPs(ctx, row.filter); err != nil {
				return RolloutProgress{}, err
			}
		}
	}
	return view, nil
}

// AbortRollout halts a running rollout by hand and restores what was before.
// Needs release.rollout on the platform.
func (s *Service) AbortRollout(ctx context.Context, actor Actor, number uint64, reason string) (authz.Revision, error) {
	r, err := s.running(ctx, actor, number)
	if err != nil {
		return authz.Revision{}, err
	}
	if reason != "" {
		reason = ": " + bounded(reason)
	}
	return s.byHand(s.halt(ctx, actor, r, "aborted by "+actor.Name+reason))
}

// AdvanceRollout begins the next stage without waiting for the PEPs of this
// one. Needs release.rollout on the platform.
func (s *Service) AdvanceRollout(ctx context.Context, actor Actor, number uint64) (authz.Revision, error) {
	r, err := s.running(ctx, actor, number)
	if err != nil {
		return authz.Revision{}, err
	}
	return s.byHand(s.advance(ctx, actor, r))
}

// byHand tells a person, unlike a node, that somebody else was first.
func (s *Service) byHand(revision authz.Revision, err error) (authz.Revision, error) {
	if errors.Is(err, errStepped) {
		return revision, fmt.Errorf("the rollout moved on meanwhile; look at it and try again: %w", ErrNoRollout)
	}
	return revision, err
}

func (s *Service) running(ctx context.Context, actor Actor, number uint64) (*Rollout, error) {
	if err := actor.May(ctx, "release.rollout", Platform); err != nil {
		return nil, err
	}
	r, head, err := s.rolloutNow(ctx)
	switch {
	case err != nil:
		return nil, err
	case !r.Active(head.Release) || r.Release != number || r.State != RolloutRunning:
		return nil, fmt.Errorf("release %d: %w", number, ErrNoRollout)
	default:
		return r, nil
	}
}
