package pap

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ErrNeedsReview means that people must say yes before a release is published.
// Nothing is published by then.
var ErrNeedsReview = errors.New("people must say yes before this is published")

// NeedsReviewError names the case that asks them. It wraps ErrNeedsReview.
type NeedsReviewError struct{ Case string }

func (e *NeedsReviewError) Error() string {
	if e.Case == "" {
		return ErrNeedsReview.Error()
	}
	return fmt.Sprintf("case %s: %v", e.Case, ErrNeedsReview)
}

// Unwrap makes the error one that callers know.
func (e *NeedsReviewError) Unwrap() error { return ErrNeedsReview }

// Change is a publication that passed the gate, as it is put to people.
type Change struct {
	Base          uint64 // the release that it changes
	Content, Next *bundles.Content
	Changes       []bundles.Change // from Content to Next
	Candidate     Candidate        // Next
	Release       Release          // under way: its note, author, source
	// Approved is the case whose yes this publication rests on; "" before
	// anybody was asked.
	Approved string
}

// review asks whether people must say yes first. Where they must, what is to be
// published is kept under their case.
func (s *Service) review(ctx context.Context, actor Actor, c Change, p *Proposal) error {
	if s.Review == nil {
		return nil
	}
	err := s.Review(ctx, actor, c)
	var needs *NeedsReviewError
	if !errors.As(err, &needs) || needs.Case == "" || p.Case != "" {
		return err
	}
	p.Case, p.State = needs.Case, ProposalWaiting
	p.Base, p.Digest, p.Author, p.Tenant = c.Base, c.Next.Digest(), actor.Name, actor.Tenant
	r := c.Release
	p.Note, p.Restores, p.Unreviewed, p.Source, p.Commit = r.Note, r.Restores, r.Unreviewed, r.Source, r.Commit
	if r.Commit != "" {
		p.CommitBy = r.Author
	}
	what := auditEntry{"release.propose", onlyTenant(c.Changes), "cheq:" + p.Case, map[string]any{"digest": p.Digest, "base": p.Base, "note": p.Note}}
	if _, stored := s.change(ctx, actor, what, func(tx Tx) error { return s.propose(tx, c.Changes, *p) }); stored != nil {
		return stored
	}
	return err
}

// propose stores a proposal, unless its case has one already.
func (s *Service) propose(tx Tx, changes []bundles.Change, p Proposal) error {
	if _, err := tx.Record(KindProposal, p.Case); !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, c := range changes {
		f := ProposedFile{Path: c.Path, Removed: c.Removed}
		if !c.Removed {
			f.Digest = sha256.Sum256(c.Data)
			if err := tx.PutBlob(f.Digest, c.Data); err != nil {
				return err
			}
		}
		p.Files = append(p.Files, f)
	}
	return put(tx, KindProposal, p.Case, p.Tenant, s.Now().UTC(), p)
}

// PublishProposal publishes what the case's people said yes to, as its author
// would now: by the rights of now, through the gate, and on the release that it
// was made for. A proposal that does not wait any more is left alone.
func (s *Service) PublishProposal(ctx context.Context, author Actor, id string) (Release, error) {
	var p Proposal
	var changes []bundles.Change
	err := s.Store.View(ctx, func(tx Tx) error {
		var err error
		if p, err = get[Proposal](tx, KindProposal, id); err != nil || p.State != ProposalWaiting {
			return err
		}
		changes, err = p.read(tx)
		return err
	})
	if err != nil || p.State != ProposalWaiting {
		return Release{}, err
	}
	base, content, err := s.newestContent(ctx)
	if err != nil {
		return Release{}, err
	}
	if base != p.Base {
		return Release{}, fmt.Errorf("release %d was published meanwhile, and this changes release %d: %w", base, p.Base, ErrVersion)
	}
	next, err := content.Apply(changes)
	if err != nil {
		return Release{}, err
	}
	if next.Digest() != p.Digest {
		return Release{}, fmt.Errorf("the files of case %s give %s, not %s: %w", id, next.Digest(), p.Digest, ErrVersion)
	}
	r := Release{Note: p.Note, Restores: p.Restores, Unreviewed: p.Unreviewed, Source: p.Source, Commit: p.Commit, Author: p.CommitBy}
	published, revision, err := s.publish(ctx, author, base, content, next, r, &p)
	if err != nil && !revision.IsZero() {
		err = nil // it is stored; this node applies it when it reads on
	}
	return published, err
}

// read returns the files that a proposal changes.
func (p *Proposal) read(tx Tx) ([]bundles.Change, error) {
	changes := make([]bundles.Change, len(p.Files))
	for i, f := range p.Files {
		changes[i] = bundles.Change{Path: f.Path, Removed: f.Removed}
		if f.Removed {
			continue
		}
		var err error
		if changes[i].Data, err = tx.Blob(f.Digest); err != nil {
			return nil, fmt.Errorf("case %s: %s: %w", p.Case, f.Path, err)
		}
	}
	return changes, nil
}

// became notes in the publishing transaction which release a proposal is.
func (s *Service) became(tx Tx, id string, number uint64) error {
	p, err := get[Proposal](tx, KindProposal, id)
	if err != nil {
		return err
	}
	if p.State != ProposalWaiting {
		return fmt.Errorf("proposal %s is %s: %w", id, p.State, ErrVersion)
	}
	p.State, p.Release = ProposalPublished, number
	return put(tx, KindProposal, id, p.Tenant, s.Now().UTC(), p)
}

// Reached counts the connected PEPs that a release is for, those that were sent
// it or a newer one, and those that hold it: all of a tenant, or of every one.
func (s *Service) Reached(ctx context.Context, number uint64, tenant string) (concerned, sent, holding int, err error) {
	filter := PEPFilter{Serves: tenant, Connected: true, SeenSince: s.Now().Add(-PEPSilence)}
	offered, holds := filter, filter
	offered.Offered, holds.Holds = number, authz.Revision{Release: number}
	// Who holds it is counted first: one that connects in between makes it harder.
	for _, count := range []struct {
		filter PEPFilter
		into   *int
	}{{holds, &holding}, {offered, &sent}, {filter, &concerned}} {
		if *count.into, err = s.PEPStore.CountPEPs(ctx, count.filter); err != nil {
			return 0, 0, 0, err
		}
	}
	return concerned, sent, holding, nil
}
