package local

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// Options are what an Engine may be told; the zero Options are good.
type Options struct {
	// Compiler is shared with other engines of the process; nil: its own, with
	// Rego.
	Compiler *Compiler
	// Rego says what evaluates Rego.
	Rego RegoOptions
	// Budget bounds the evaluation of one decision; 0: [pdp.DefaultBudget].
	Budget time.Duration
}

// Engine is the decision core in-process. It implements [pep.Engine].
type Engine struct {
	compiler *Compiler
	core     *pdp.PDP
	digits   *base32.Encoding // of ids
	// What is active. Only Apply, whose calls do not overlap, touches these.
	release  *compiled
	dynamic  *pdp.Dynamic
	roles    *pdp.Roles
	position uint64
}

var _ pep.Engine = (*Engine)(nil)

// New returns an engine without a release: it answers [pdp.ErrNotReady].
func New(o Options) *Engine {
	if o.Compiler == nil {
		o.Compiler = NewCompilerWith(o.Rego)
	}
	return &Engine{
		compiler: o.Compiler, digits: base32.NewEncoding(crockford),
		// Decide names its answers, and brings its clock along.
		core:    pdp.New(pdp.Config{Budget: o.Budget, Now: time.Now, NewID: func() string { return "" }}),
		dynamic: &pdp.Dynamic{}, roles: &pdp.Roles{},
	}
}

// compiled is a release for this audience, and the shared compilation that it
// keeps in memory.
type compiled struct {
	*pdp.Release
	shared *pdp.Release
}

// Compile implements [pep.Engine].
func (e *Engine) Compile(ctx context.Context, release uint64, content *bundles.Content) (pep.Compiled, error) {
	shared, err := e.compiler.shared(ctx, content)
	if err != nil {
		return nil, err
	}
	e.compiler.Announce(shared)
	return &compiled{shared.Numbered(release), shared}, nil
}

// Apply implements [pep.Engine].
func (e *Engine) Apply(c pep.Change) error {
	release, dynamic, roles := e.release, e.dynamic, e.roles
	if c.Release != nil {
		var ok bool
		if release, ok = c.Release.(*compiled); !ok {
			return fmt.Errorf("a release that another engine compiled: %T", c.Release)
		}
	}
	if c.Reset {
		dynamic, roles = &pdp.Dynamic{}, &pdp.Roles{}
	}
	change, holders, err := e.decode(c.Entries)
	if err != nil {
		return err
	}
	e.release, e.dynamic, e.roles, e.position = release, dynamic.With(change, c.Now), roles.With(holders), c.Position
	if release != nil {
		e.core.Activate(&pdp.Snapshot{Release: release.Release, Dynamic: e.dynamic, Position: e.position, Directory: e.roles})
	}
	return nil
}

// decode reads entries. An entry's frame says whose it is, and the body must
// say the same.
func (e *Engine) decode(entries []stream.Entry) (change pdp.DynamicChange, holders []pdp.SubjectRoles, err error) {
	for i := range entries {
		entry := &entries[i]
		if err := authz.ValidTenant(entry.Tenant); err != nil {
			return change, nil, entryError(entry, err)
		}
		switch entry.Kind {
		case stream.EntryRoles:
			var roles stream.Roles
			if err := json.Unmarshal(entry.Body, &roles); err != nil {
				return change, nil, entryError(entry, err)
			}
			if typ, id, ok := strings.Cut(entry.Key, ":"); !ok || typ == "" || id == "" {
				return change, nil, entryError(entry, fmt.Errorf("want <type>:<id>"))
			}
			holders = append(holders, pdp.SubjectRoles{Tenant: entry.Tenant, Subject: entry.Key, Roles: roles.Roles})
		case stream.EntryGrant:
			g := &authz.Grant{}
			if err := decodeOwn(entry, g, &g.ID, &g.Tenant); err != nil {
				return change, nil, err
			}
			change.Grants = append(change.Grants, g)
		case stream.EntryRestriction:
			r := &authz.Restriction{}
			if err := decodeOwn(entry, r, &r.ID, &r.Tenant); err != nil {
				return change, nil, err
			}
			change.Restrictions = append(change.Restrictions, pdp.CompiledRestriction{Restriction: r, Program: e.compiler.Restriction(r)})
		default:
			return change, nil, entryError(entry, fmt.Errorf("unknown kind"))
		}
	}
	return change, holders, nil
}

func decodeOwn(entry *stream.Entry, body any, id, tenant *string) error {
	if err := json.Unmarshal(entry.Body, body); err != nil {
		return entryError(entry, err)
	}
	if *id != entry.Key || *tenant != entry.Tenant {
		return entryError(entry, fmt.Errorf("its body is %s of tenant %s", *id, *tenant))
	}
	return nil
}

func entryError(entry *stream.Entry, err error) error {
	return fmt.Errorf("log position %d: %s %s of tenant %q: %w", entry.Position, entry.Kind, entry.Key, entry.Tenant, err)
}

// RegoStats counts what evaluations of Rego met, of all engines that share the
// compiler.
func (e *Engine) RegoStats() RegoStats {
	var active *pdp.Release
	if s := e.core.Active(); s != nil {
		active = s.Release
	}
	return e.compiler.RegoStats(active)
}

// Decide implements [pep.Engine].
func (e *Engine) Decide(ctx context.Context, req authz.Request, f authz.Freshness) (pep.Outcome, error) {
	answer, err := e.core.Ask(ctx, req, f)
	if err != nil {
		return pep.Outcome{}, err
	}
	answer.ID = e.newID(f.Now)
	return pep.Outcome{Decision: answer.Decision, Needs: string(answer.Needs), Record: func(caller string) (authz.AuditRecord, bool, error) {
		record := answer.Record(pdp.Caller{Name: caller})
		audit, err := record.Audit()
		return audit, record.Durability == pdp.Strict, err
	}}, nil
}
