package pdp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// DataKind says what stands at a path of `data`, as one tenant sees it.
type DataKind uint8

const (
	DataNothing DataKind = iota // undefined
	DataHidden                  // something that is not offered: a helper, a library, a level above packages
	DataSet                     // one of the sets of a policy
	DataPackage                 // a policy's package as a whole
	DataTables                  // tables, the platform's or the tenant's
)

// DataPlace is one path of `data`.
type DataPlace struct {
	Kind DataKind
	// Policy is whose package it is, of DataSet and DataPackage.
	Policy *Policy
	// Helpers says that the package holds values beside its sets.
	Helpers bool
}

// DataQuery asks for one path of `data`, as OPA's data API does.
type DataQuery struct {
	// Tenant is whose data is seen beside the platform's; empty: nobody's.
	Tenant string
	Path   []string // below `data`
	// Input is given to the policies as it is; nil: there is none. It holds
	// what encoding/json decodes, numbers as json.Number.
	Input *any
	// Strict makes errors of built-in functions errors of the query. Otherwise
	// what they stand in is undefined.
	Strict bool
	Now    time.Time // filled in by QueryData
}

// DataProgram is implemented by programs whose policies are `data`.
type DataProgram interface {
	Program
	// Place says what stands at a path for a tenant.
	Place(tenant string, path []string) DataPlace
	// Query returns the value at the path as JSON, nil where it is undefined,
	// or a [*DataError]. It stops as soon as it can when ctx ends.
	Query(ctx context.Context, q *DataQuery) (json.RawMessage, error)
}

// DataError is a query that could not be evaluated.
type DataError struct {
	Message string
	Detail  json.RawMessage // as OPA writes it
}

func (e *DataError) Error() string { return e.Message }

// MarshalJSON implements json.Marshaler.
func (e *DataError) MarshalJSON() ([]byte, error) { return e.Detail, nil }

// ErrStale means that this node has not heard of its source for longer than
// the policies that were asked are to be trusted.
var ErrStale = errors.New("the policies are older here than their stale bound")

// DataAnswer is what came of a query.
type DataAnswer struct {
	ID       string
	Revision authz.Revision
	Result   json.RawMessage // nil: undefined
}

// DataPlace says what stands at a path of the release's `data` for a tenant.
func (s *Snapshot) DataPlace(tenant string, path []string) DataPlace {
	if p := s.dataProgram(); p != nil {
		return p.Place(tenant, path)
	}
	return DataPlace{}
}

func (s *Snapshot) dataProgram() DataProgram {
	for _, program := range s.Release.programs {
		if p, ok := program.(DataProgram); ok {
			return p
		}
	}
	return nil
}

// QueryData evaluates one path of a snapshot's `data` under the same turns and
// budget as a decision, and records question and answer like one. It says what
// the policy in question says: findings are not combined, and grants,
// restrictions and the policies of other languages have no part in it.
// The error of a query that was evaluated is a [*DataError]; it is recorded
// too.
func (p *PDP) QueryData(ctx context.Context, s *Snapshot, q DataQuery, caller Caller) (DataAnswer, error) {
	if s == nil {
		return DataAnswer{}, ErrNotReady
	}
	fresh := p.config.Freshness()
	place := s.DataPlace(q.Tenant, q.Path)
	if fresh.Age > p.dataBound(fresh, place) {
		return DataAnswer{}, ErrStale
	}
	q.Now = fresh.Now
	a := DataAnswer{ID: p.config.NewID(), Revision: s.Revision()}
	var failed error
	if place.Kind != DataNothing {
		if err := p.takeTurn(ctx); err != nil {
			return DataAnswer{}, err
		}
		a.Result, failed = p.query(ctx, s, &q)
	}
	if err := p.recordData(ctx, s, &q, &a, failed, place, caller); err != nil {
		return DataAnswer{}, err
	}
	return a, failed
}

// query ends the turn that its caller has taken.
func (p *PDP) query(ctx context.Context, s *Snapshot, q *DataQuery) (json.RawMessage, error) {
	defer p.endTurn()
	ctx, cancel := context.WithTimeout(ctx, p.config.Budget)
	defer cancel()
	return s.dataProgram().Query(ctx, q)
}

// dataBound is how long the place is trusted without news.
func (p *PDP) dataBound(f authz.Freshness, place DataPlace) time.Duration {
	switch {
	case place.Policy != nil && place.Policy.StaleBound > 0:
		return place.Policy.StaleBound
	case f.StaleBound > 0:
		return f.StaleBound
	default:
		return p.config.StaleBound
	}
}

func (p *PDP) recordData(ctx context.Context, s *Snapshot, q *DataQuery, a *DataAnswer, failed error, place DataPlace, caller Caller) error {
	if p.config.Recorder == nil {
		return nil
	}
	r := Record{Time: q.Now, Caller: caller, Data: s.dataRecord(q, a, failed)}
	if place.Policy != nil {
		r.Durability = place.Policy.Audit
	}
	if err := p.config.Recorder.Record(ctx, &r); err != nil {
		return fmt.Errorf("%w: %w", ErrAuditUnavailable, err)
	}
	return nil
}

// SuppliesTrusted reports whether an input that encoding/json decoded holds an
// attribute that only a source may say.
func (s *Snapshot) SuppliesTrusted(input any) bool {
	for _, a := range s.Release.attributes.sorted {
		if !a.Trusted {
			continue
		}
		entity, property := a.property()
		whole, _ := input.(map[string]any)
		part, _ := whole[entity].(map[string]any)
		properties, _ := part["properties"].(map[string]any)
		if _, supplied := properties[property]; supplied {
			return true
		}
	}
	return false
}
