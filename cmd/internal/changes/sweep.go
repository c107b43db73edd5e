package changes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// Sweep publishes what people said yes to, and notes on the timelines what
// became of it. Any node may sweep at any time.
func (d *Desk) Sweep(ctx context.Context) error {
	open, head, err := d.proposals.Read(ctx, d.config.PAP.Store)
	if err != nil {
		return err
	}
	newest := map[string]string{} // case by policy source
	for i := range open {
		if open[i].State == pap.ProposalWaiting && open[i].Source != "" {
			newest[open[i].Source] = open[i].Case
		}
	}
	var failed []error
	for i := range open {
		if err := d.follow(ctx, &open[i], head, newest[open[i].Source]); err != nil {
			failed = append(failed, fmt.Errorf("change of case %s: %w", open[i].Case, err))
		}
	}
	return errors.Join(failed...)
}

// follow takes the next step of a proposal. The step after it is the next
// sweep's. newest is the last case of its policy source that waits.
func (d *Desk) follow(ctx context.Context, p *pap.Proposal, head uint64, newest string) error {
	switch p.State {
	case pap.ProposalWaiting:
		return d.await(ctx, p, head, newest)
	case pap.ProposalPublished:
		return d.spread(ctx, p)
	case pap.ProposalOutdated:
		if err := d.config.Cases.Outdate(ctx, p.Case, p.Reason); err != nil {
			return err
		}
	}
	return d.finish(ctx, p.Case)
}

// await looks at what people say.
func (d *Desk) await(ctx context.Context, p *pap.Proposal, head uint64, newest string) error {
	c, err := d.config.Cases.Case(ctx, p.Case)
	switch {
	case err != nil:
		return err
	case c.State.Settled() && c.State != cheq.Approved:
		return d.config.PAP.EndProposal(ctx, p.Case, pap.ProposalDropped, string(c.State))
	case head != p.Base:
		why := fmt.Sprintf("release %d was published meanwhile, and this changes release %d: publish it anew", head, p.Base)
		return d.config.PAP.EndProposal(ctx, p.Case, pap.ProposalOutdated, why)
	case c.State != cheq.Approved && p.Source != "" && newest != p.Case:
		return d.config.PAP.EndProposal(ctx, p.Case, pap.ProposalOutdated, "a newer commit waits: case "+newest)
	case c.State != cheq.Approved:
		return nil
	}
	if err := d.config.CatchUp(ctx); err != nil { // the grant comes by the log
		return err
	}
	author, err := d.config.Subject(ctx, p.Tenant, p.Author)
	if err != nil {
		return err
	}
	_, err = d.config.PAP.PublishProposal(ctx, author, p.Case)
	if err == nil || passes(ctx, err) {
		return err
	}
	// Nothing to publish, a right or the grant that is gone, tests that do not
	// hold: trying again would not mend it.
	return d.config.PAP.EndProposal(ctx, p.Case, pap.ProposalOutdated, err.Error())
}

// passes reports whether an error may be gone at the next try.
func passes(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	for _, passing := range []error{
		pap.ErrStoreUnavailable, pap.ErrRolloutInProgress, pdp.ErrNotReady, pdp.ErrOverloaded, access.ErrUnavailable, context.DeadlineExceeded,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// spread notes how far a published change has come.
func (d *Desk) spread(ctx context.Context, p *pap.Proposal) error {
	tenant := ""
	c, err := d.config.Cases.Case(ctx, p.Case)
	if err != nil {
		return err
	}
	if c.Tenant != pap.Platform {
		tenant = c.Tenant
	}
	if err := d.note(ctx, p.Case, "published", fmt.Sprintf("as release %d", p.Release)); err != nil {
		return err
	}
	concerned, sent, holding, err := d.config.PAP.Reached(ctx, p.Release, tenant)
	if err != nil || sent < concerned {
		return err
	}
	if err := d.note(ctx, p.Case, "pushed", fmt.Sprintf("to %d enforcement points", concerned)); err != nil || holding < concerned {
		return err
	}
	if err := d.note(ctx, p.Case, "acknowledged", fmt.Sprintf("by %d enforcement points", concerned)); err != nil {
		return err
	}
	return d.finish(ctx, p.Case)
}

// note writes a line into a case's timeline, once.
func (d *Desk) note(ctx context.Context, id, action, detail string) error {
	if d.noted[id+" "+action] {
		return nil
	}
	if err := d.config.Cases.Progress(ctx, id, action, detail); err != nil {
		return err
	}
	d.noted[id+" "+action] = true
	return nil
}

// finish is the end of a proposal.
func (d *Desk) finish(ctx context.Context, id string) error {
	maps.DeleteFunc(d.noted, func(key string, _ bool) bool { return strings.HasPrefix(key, id+" ") })
	return d.config.PAP.FinishProposal(ctx, id)
}
