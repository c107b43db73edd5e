package pap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What callers branch on, beside the store's.
var (
	// ErrForbidden means that the actor lacks a right; the error names it.
	ErrForbidden = errors.New("forbidden")
	// ErrVersion means that the document or release changed since it was read.
	ErrVersion = errors.New("changed since it was read")
	// ErrNothingToPublish means that the candidate equals the active release.
	ErrNothingToPublish = errors.New("nothing to publish: the candidate equals the active release")
)

// Platform is how the platform's own tenant, "", is written where a right is
// asked for. No tenant may have this name.
const Platform = "platform"

// Actor is who makes a change.
type Actor struct {
	Name   string // the credential's subject, "user:li.wei"
	Tenant string // "" for the platform's own
	// May returns nil if the actor holds the right in the tenant ([Platform]
	// for the platform), else an error that wraps ErrForbidden.
	May func(ctx context.Context, right, tenant string) error
	// Could is May by any credential the actor may have: a narrow token hides
	// from May what its owner could do with another.
	Could func(ctx context.Context, right, tenant string) error
	// Rights are what the actor's credential is good for; "*" is all that the
	// actor may. Nobody passes on more than that.
	Rights []string
}

// Gate checks a candidate release: it parses, compiles and runs test cases.
type Gate interface {
	// Check returns an error that says what is wrong, file by file, where the
	// candidate must not be published. Changed are the paths in which it
	// differs from the newest release.
	Check(ctx context.Context, content *bundles.Content, changed []string) (Candidate, error)
}

// Candidate is a checked release as far as publishing needs to know it.
type Candidate interface {
	// Number is the release's, 0 before it is published.
	Number() uint64
	// Rule describes a rule by its full name.
	Rule(name string) (RuleInfo, bool)
	// RequestDigest is what a grant for the request is bound to.
	RequestDigest(req authz.Request) (string, error)
	// Masked is the request as it may be stored.
	Masked(req authz.Request) authz.Request
}

// RuleInfo is what minting a grant needs to know of a rule.
type RuleInfo struct {
	Digest   string
	Effect   authz.Effect // of a finding rule
	Finding  bool         // false for rules that only oblige, limit or route
	Waivable bool
	Tenant   string // "" for the platform layer
	// Platform says that the platform made the tenant's restriction that the
	// rule is of; rules without a tenant are the platform's anyway.
	Platform bool
}

// Config is what a Service is handed; every field but Review and Ceiling is required.
type Config struct {
	Store     Store
	PEPStore  PEPStore
	Decisions AuditStore
	Gate      Gate
	// Active returns the release in force here, or nil.
	Active func() Candidate
	// Review says whether people must say yes before a change is published: nil,
	// or a [*NeedsReviewError] with their case, or why it is refused. nil: nobody
	// is ever asked.
	Review func(ctx context.Context, actor Actor, c Change) error
	// CheckRestriction compiles a restriction's conditions; its error is an
	// *authz.FieldError.
	CheckRestriction func(r authz.Restriction) error
	// CatchUp makes this node answer by everything committed so far.
	CatchUp func(ctx context.Context) error
	Now     func() time.Time
	NewID   func() string
	// Ceiling is the longest validity of a grant or restriction made by hand;
	// 0 means 24 hours.
	Ceiling time.Duration
}

// Service is the administration of one installation. It is safe for concurrent
// use and holds no state of its own but the newest release as it was read last.
type Service struct {
	Config
	newest newestRelease
}

// New returns a Service.
func New(c Config) *Service {
	if c.Ceiling == 0 {
		c.Ceiling = 24 * time.Hour
	}
	return &Service{Config: c}
}

// change is one write: it checks the right, runs fn in a transaction with an
// audit record, and returns the revision that includes it.
func (s *Service) change(ctx context.Context, actor Actor, what auditEntry, fn func(tx Tx) error) (authz.Revision, error) {
	var revision authz.Revision
	err := s.Store.Update(ctx, func(tx Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		var err error
		if revision, err = tx.Head(); err != nil {
			return err
		}
		return tx.Audit(what.record(s, actor, revision))
	})
	if err != nil {
		return authz.Revision{}, err
	}
	if err := s.CatchUp(ctx); err != nil {
		return revision, fmt.Errorf("the change is stored as %s, but this node could not apply it yet: %w", revision, err)
	}
	return revision, nil
}

// auditEntry is what a change leaves in the audit store (L16).
type auditEntry struct {
	action   string // "token.create"
	tenant   string
	resource string
	detail   any // anything encoding/json takes; no secrets
}

func (e auditEntry) record(s *Service, actor Actor, revision authz.Revision) authz.AuditRecord {
	return authz.AuditRecord{
		ID: s.NewID(), Time: s.Now().UTC(), Kind: authz.AuditChange,
		Tenant: e.tenant, Actor: actor.Name, Action: e.action, Resource: e.resource,
		Revision: revision.String(), Body: jsonValue(e.detail),
	}
}

func jsonValue(detail any) authz.Value {
	data, err := json.Marshal(detail)
	if err != nil {
		return authz.StringValue("not representable: " + err.Error())
	}
	v, err := authz.Parse(data)
	if err != nil {
		return authz.StringValue("not representable: " + err.Error())
	}
	return v
}

// put stores one record of the log.
func put(tx Tx, kind Kind, key, tenant string, at time.Time, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", kind, key, err)
	}
	_, err = tx.Put(Record{Kind: kind, Key: key, Tenant: tenant, At: at, Body: data})
	return err
}

// get reads one record's body.
func get[T any](tx Tx, kind Kind, key string) (T, error) {
	var body T
	record, err := tx.Record(kind, key)
	if err != nil {
		return body, fmt.Errorf("%s %s: %w", kind, key, err)
	}
	if err := json.Unmarshal(record.Body, &body); err != nil {
		return body, fmt.Errorf("decode %s %s: %w", kind, key, err)
	}
	return body, nil
}

// absent returns ErrConflict if the record exists.
func absent(tx Tx, kind Kind, key string) error {
	_, err := tx.Record(kind, key)
	switch {
	case err == nil:
		return fmt.Errorf("%s %s: %w", kind, key, ErrConflict)
	case errors.Is(err, ErrNotFound):
		return nil
	default:
		return err
	}
}

// rightsTenant is how a tenant is written where a right is asked for.
func rightsTenant(tenant string) string {
	if tenant == "" {
		return Platform
	}
	return tenant
}

// field is a shorthand for an error about one member of a request body.
func field(path, format string, args ...any) error {
	return &authz.FieldError{Path: path, Detail: fmt.Sprintf(format, args...)}
}

// Page is one page of a list. Next is the cursor of the following one, or "".
type Page[T any] struct {
	Items []T
	Next  string
}

// list pages over records of one kind.
func list[T any](ctx context.Context, s *Service, kind Kind, tenant, after string, limit int) (Page[T], error) {
	var page Page[T]
	err := s.Store.View(ctx, func(tx Tx) error {
		records, err := tx.Records(kind, tenant, after, limit+1)
		if err != nil {
			return err
		}
		page = Page[T]{Items: make([]T, 0, len(records))}
		for i, r := range records {
			if i == limit {
				page.Next = records[i-1].Key
				break
			}
			var item T
			if err := json.Unmarshal(r.Body, &item); err != nil {
				return fmt.Errorf("decode %s %s: %w", kind, r.Key, err)
			}
			page.Items = append(page.Items, item)
		}
		return nil
	})
	return page, err
}

// SubjectName writes a subject as audit records and bindings have it.
func SubjectName(typ, id string) string { return typ + ":" + id }

// SplitSubject reads what SubjectName writes.
func SplitSubject(name string) (typ, id string, err error) {
	typ, id, ok := strings.Cut(name, ":")
	if !ok || typ == "" || id == "" {
		return "", "", fmt.Errorf("%q: want <type>:<id>, such as user:li.wei", name)
	}
	return typ, id, nil
}
