package pdp

import (
	"context"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ObstaclesSelf answers like [PDP.MaySelfOn], and says what people could be
// asked to open. It has no effect.
func (p *PDP) ObstaclesSelf(ctx context.Context, s *Snapshot, req authz.Request) (authz.Decision, *Obstacles, error) {
	if s == nil {
		return authz.Decision{}, nil, ErrNotReady
	}
	q := newQuestion(s, req, authz.Freshness{Now: p.config.Now(), Grants: true})
	s.Release.match.self.match(&q.original, "", q.matched)
	q.answering = q.matched
	q.input = Input{Request: &q.original, Value: q.lent.overlay.request(&q.original), Now: q.fresh.Now}
	if err := p.evaluate(ctx, q); err != nil {
		return authz.Decision{}, nil, err
	}
	d := q.combine().Decision
	o, err := q.obstacles(&d)
	return d, o, err
}
