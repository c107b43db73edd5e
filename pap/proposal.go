package pap

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// KindProposal is what waits for people to say yes, and what became of it: one
// record a case, a [Proposal].
const KindProposal Kind = "proposal"

// ProposalState says what became of a proposal.
type ProposalState string

const (
	ProposalWaiting   ProposalState = "waiting"   // for people
	ProposalPublished ProposalState = "published" // it is a release
	ProposalOutdated  ProposalState = "outdated"  // it cannot be published any more: its author publishes anew
	ProposalDropped   ProposalState = "dropped"   // people did not say yes
)

// Proposal is a publication that waits. Everything but State, Reason, Release
// and Done is fixed.
type Proposal struct {
	Case   string         `json:"case"`
	Base   uint64         `json:"base"`
	Digest bundles.Digest `json:"digest"` // of the content that it would publish
	Files  []ProposedFile `json:"files"`
	// Drafts are those that it publishes; nil where it writes its files as
	// documents.
	Drafts   []ProposedDraft `json:"drafts"`
	Stages   []Selector      `json:"stages,omitempty"`
	MinStage time.Duration   `json:"min_stage,omitempty"`
	Tenants  []string        `json:"tenants,omitempty"` // that speak in the stages
	// Concerned are the tenants whose part changes, where it has stages.
	Concerned []string `json:"concerned,omitempty"`

	Author string `json:"author"` // who publishes
	Tenant string `json:"tenant"` // of the author, "" for the platform
	// Release's fields that were said, not computed.
	Note       string `json:"note,omitempty"`
	Restores   uint64 `json:"restores,omitempty"`
	Unreviewed bool   `json:"unreviewed,omitempty"`
	Source     string `json:"source,omitempty"`
	Commit     string `json:"commit,omitempty"`
	CommitBy   string `json:"commit_by,omitempty"`

	State   ProposalState `json:"state"`
	Reason  string        `json:"reason,omitempty"` // of ProposalOutdated
	Release uint64        `json:"release,omitempty"`
	// Done says that nothing is left to do or to tell.
	Done bool `json:"done,omitempty"`
}

// ProposedFile is one changed file; what it holds is a blob.
type ProposedFile struct {
	Path    string         `json:"path"`
	Removed bool           `json:"removed,omitempty"`
	Digest  bundles.Digest `json:"digest,omitzero"`
}

// ProposedDraft is one version of a draft.
type ProposedDraft struct {
	Path    string `json:"path"`
	Version int64  `json:"version"`
}

// EndProposal notes that a proposal that waits is not published, and why. One
// that does not wait any more is left alone.
func (s *Service) EndProposal(ctx context.Context, id string, state ProposalState, why string) error {
	return s.changeProposal(ctx, id, func(p *Proposal) bool {
		waits := p.State == ProposalWaiting
		p.State, p.Reason = state, why
		return waits
	})
}

// FinishProposal notes that nothing is left to do for a proposal.
func (s *Service) FinishProposal(ctx context.Context, id string) error {
	return s.changeProposal(ctx, id, func(p *Proposal) bool {
		done := p.Done
		p.Done = true
		return !done
	})
}

func (s *Service) changeProposal(ctx context.Context, id string, edit func(p *Proposal) bool) error {
	return s.Store.Update(ctx, func(tx Tx) error {
		p, err := get[Proposal](tx, KindProposal, id)
		if err != nil || !edit(&p) {
			return err
		}
		return put(tx, KindProposal, id, p.Tenant, s.Now().UTC(), p)
	})
}

// Proposal returns a case's proposal, or ErrNotFound.
func (s *Service) Proposal(ctx context.Context, id string) (p Proposal, err error) {
	err = s.Store.View(ctx, func(tx Tx) error {
		p, err = get[Proposal](tx, KindProposal, id)
		return err
	})
	return p, err
}

// OpenProposals follows the proposals that are not done. The zero value is
// ready; it serves one goroutine.
type OpenProposals struct {
	read uint64 // the log's position
	open map[string]Proposal
}

// Read reads on, and returns what is open, in order of case, with the newest
// release's number.
func (o *OpenProposals) Read(ctx context.Context, store Store) (open []Proposal, head uint64, err error) {
	err = store.View(ctx, func(tx Tx) error {
		at, err := tx.Head()
		if err != nil {
			return err
		}
		head = at.Release
		if o.open == nil {
			o.open = map[string]Proposal{}
			err = o.all(tx)
		} else {
			err = o.since(tx, at.Position)
		}
		if err != nil {
			o.open = nil
			return err
		}
		o.read = at.Position
		return nil
	})
	for _, p := range o.open {
		open = append(open, p)
	}
	slices.SortFunc(open, func(a, b Proposal) int { return strings.Compare(a.Case, b.Case) })
	return open, head, err
}

func (o *OpenProposals) all(tx Tx) error {
	for after := ""; ; {
		records, err := tx.Records(KindProposal, AnyTenant, after, 1000)
		if err != nil || len(records) == 0 {
			return err
		}
		for i := range records {
			if err := o.note(&records[i]); err != nil {
				return err
			}
		}
		after = records[len(records)-1].Key
	}
}

func (o *OpenProposals) since(tx Tx, head uint64) error {
	for o.read < head {
		records, err := tx.Log(o.read, 1000)
		if err != nil || len(records) == 0 {
			return err
		}
		for i := range records {
			if records[i].Kind != KindProposal {
				continue
			}
			if err := o.note(&records[i]); err != nil {
				return err
			}
		}
		o.read = records[len(records)-1].Position
	}
	return nil
}

func (o *OpenProposals) note(r *Record) error {
	var p Proposal
	if err := json.Unmarshal(r.Body, &p); err != nil {
		return fmt.Errorf("decode %s %s: %w", r.Kind, r.Key, err)
	}
	if p.Done {
		delete(o.open, r.Key)
	} else {
		o.open[r.Key] = p
	}
	return nil
}
