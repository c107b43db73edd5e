package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/gitsource"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/pip"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// openSource builds the policy source, nil where none is configured.
func openSource(c config.Server, core *Core, log *slog.Logger) (*gitsource.Source, error) {
	p := c.Policies
	if p.Address == "" {
		return nil, nil
	}
	tenant, name := p.Owner()
	owner := &sourceOwner{core: core, tenant: tenant, name: name}
	return gitsource.New(gitsource.Config{
		Address: p.Address, Data: c.Data, Poll: p.Poll, Publisher: core.PAP, Subject: p.Subject, Actor: owner.actor,
		TokenFile: p.TokenFile, SignersFile: p.Signers, WebhookSecretFile: p.WebhookSecretFile,
		StatusURL: p.StatusURL, StatusTokenFile: p.StatusTokenFile, Now: time.Now, Log: log,
	})
}

// sourceOwner is the subject that the policy source publishes as.
type sourceOwner struct {
	core         *Core
	tenant, name string
	ensured      atomic.Bool
}

var errNoRelease = errors.New("no release is active; run xiezhi admin bootstrap first")

// actor returns the subject with the rights of now. A subject of the platform
// that nobody made yet is made, with the role publisher alone; one that is
// there stays as the administrators left it.
func (o *sourceOwner) actor(ctx context.Context) (pap.Actor, error) {
	if o.core.PDP.Active() == nil {
		return pap.Actor{}, errNoRelease
	}
	if o.tenant == "" && !o.ensured.Load() {
		if err := o.ensure(ctx); err != nil {
			return pap.Actor{}, fmt.Errorf("make the policy source's subject: %w", err)
		}
		o.ensured.Store(true)
	}
	return o.core.guard.Subject(ctx, o.tenant, o.name)
}

// publisher is the role of the shipped self policies that publishes tenants'
// policies.
const publisher = "publisher"

func (o *sourceOwner) ensure(ctx context.Context) error {
	anything := func(context.Context, string, string) error { return nil }
	server := pap.Actor{Name: "server:policies", May: anything, Could: anything, Rights: []string{"*"}}
	typ, id, err := pap.SplitSubject(o.name)
	if err != nil {
		return err
	}
	_, _, err = o.core.PAP.CreateSubject(ctx, server, pap.Subject{Type: typ, ID: id, Name: "Policy repository"})
	if errors.Is(err, pap.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, role := range pap.SharedRoles() {
		if role.Name != publisher {
			continue
		}
		if _, _, err := o.core.PAP.CreateRole(ctx, server, role); err != nil && !errors.Is(err, pap.ErrConflict) {
			return err
		}
	}
	_, _, err = o.core.PAP.CreateBinding(ctx, server, pap.Binding{Subject: o.name, Role: publisher})
	return err
}

// sourceOf is the source as the doors take it; a nil pointer is no source.
func sourceOf(s *gitsource.Source) httpd.Source {
	if s == nil {
		return nil
	}
	return s
}

// staticFile is the attribute source "static", which can be read again.
type staticFile struct {
	path  string
	known atomic.Pointer[pip.Static]
}

// load reads the file. One that is wrong changes nothing.
func (s *staticFile) load() error {
	file, err := os.Open(filepath.Clean(s.path))
	if err != nil {
		return fmt.Errorf("static_attributes: %w", err)
	}
	static, err := pip.ReadStatic(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("static_attributes: %s: %w", s.path, err)
	}
	s.known.Store(static)
	return nil
}

// loadAttributes reads the static attributes again; nil where there are none.
func (c *Core) loadAttributes() func() error {
	if c.static == nil {
		return nil
	}
	return c.static.load
}

// Attribute implements pdp.AttributeSource.
func (s *staticFile) Attribute(ctx context.Context, q pdp.AttributeQuery) (authz.Value, bool, error) {
	return s.known.Load().Attribute(ctx, q)
}

// Local reports that answers come from memory.
func (*staticFile) Local() bool { return true }

// sourceMeasures are what the metrics tell of the policy source.
func sourceMeasures(s *gitsource.Source) []httpd.Measure {
	if s == nil {
		return nil
	}
	count := func(name, help string, of func(gitsource.Counts) uint64) httpd.Measure {
		return httpd.Measure{Name: "xiezhi_policy_source_" + name + "_total", Help: help, Total: true, Read: func() float64 { return float64(of(s.Counts())) }}
	}
	return []httpd.Measure{
		count("fetches", "Fetches of the policy repository that were begun.", func(c gitsource.Counts) uint64 { return c.Fetches }),
		count("failures", "Times the policy repository could not be fetched or checked.", func(c gitsource.Counts) uint64 { return c.Failures }),
		count("published", "Commits that this node published.", func(c gitsource.Counts) uint64 { return c.Published }),
		count("refused", "Commits that were refused.", func(c gitsource.Counts) uint64 { return c.Refused }),
		count("reports_lost", "Commit statuses that could not be reported.", func(c gitsource.Counts) uint64 { return c.ReportsLost }),
		{Name: "xiezhi_policy_source_ok", Help: "1 while the newest commit that was seen is in force or changes no policy.", Read: func() float64 {
			if result := s.Status().Result; result == pap.SourcePublished || result == pap.SourceUnchanged {
				return 1
			}
			return 0
		}},
	}
}
