package sidecar

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// decider lets the doors ask a PEP.
type decider struct{ pep *pep.PEP }

var _ httpd.Decider = decider{}

// Decide implements httpd.Decider. The record has the PEP's own credential for
// its caller: the server vouches for that one, and for nobody behind it.
func (d decider) Decide(ctx context.Context, req authz.Request, _ pdp.Caller) (httpd.Answer, error) {
	a, err := d.pep.Decide(ctx, req)
	if err != nil {
		return httpd.Answer{}, translated(err)
	}
	by := httpd.DecidedInProcess
	if a.Remote {
		by = httpd.DecidedRemote
	}
	return httpd.Answer{Decision: a.Decision, Decided: by}, nil
}

// Revision implements httpd.Decider. Roles and grants come before the first
// release, and decide nothing.
func (d decider) Revision() authz.Revision {
	if r := d.pep.Status().Revision; r.Release > 0 {
		return r
	}
	return authz.Revision{}
}

// lookEvery is how often Await looks whether the revision has come.
const lookEvery = 10 * time.Millisecond

// Await implements httpd.Decider. Where no server is connected, none can tell
// whether the revision exists, and nothing will bring it.
func (d decider) Await(ctx context.Context, r authz.Revision) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		s := d.pep.Status()
		switch {
		case s.Revision.Includes(r):
			return nil
		case !s.Connected && !s.Polling:
			return fmt.Errorf("%w: %s: no server is connected; here is %s", pdp.ErrRevisionUnavailable, r, s.Revision)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s: here is %s", pdp.ErrRevisionUnavailable, r, s.Revision)
		}
	}
}

// translations are the PEP's errors as the doors know them.
var translations = []struct{ pep, door error }{
	{pep.ErrNoState, pdp.ErrNotReady},
	{pep.ErrRevisionUnavailable, pdp.ErrRevisionUnavailable},
	{pep.ErrAuditUnavailable, pdp.ErrAuditUnavailable},
	{pep.ErrTenantNotServed, pap.ErrForbidden},
	{pep.ErrClosed, context.Canceled},
}

func translated(err error) error {
	for _, t := range translations {
		if errors.Is(err, t.pep) {
			return fmt.Errorf("%w: %w", t.door, err)
		}
	}
	var field *authz.FieldError
	for _, known := range []error{pdp.ErrOverloaded, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, known) {
			return err
		}
	}
	if errors.As(err, &field) {
		return err
	}
	return fmt.Errorf("%w: %w", httpd.ErrUnavailable, err)
}
