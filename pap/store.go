package pap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What callers of a Store branch on.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("already exists")
	// ErrStoreUnavailable means that the database cannot be reached now.
	ErrStoreUnavailable = errors.New("the database cannot be reached")
	// ErrText refuses what a database cannot hold: see [CheckText], [CheckKeys].
	ErrText = errors.New("text must be valid UTF-8 without U+0000, and keys short")
)

// Store keeps everything the server must not lose, except decision records on
// their way to the [AuditStore]. SQLite and PostgreSQL implement it; the suite
// in tests/storetest makes them equal. It is safe for concurrent use by any
// number of processes that share the database.
type Store interface {
	// Update runs fn in one write transaction: all of it or nothing. Writers
	// are serialised before fn begins, by the lock on the log's head row, so
	// that order of positions is order of commit, without gaps. fn may run
	// more than once and must have no effect outside tx.
	Update(ctx context.Context, fn func(tx Tx) error) error

	// View runs fn on one consistent snapshot. Write methods of its Tx fail.
	View(ctx context.Context, fn func(tx Tx) error) error

	// Wake returns a channel that receives (without queueing more than one
	// value) after commits of this or any other process, as soon as they are
	// known. It is a hint: values may be lost, so readers also poll. The
	// channel is released when ctx ends.
	Wake(ctx context.Context) <-chan struct{}

	Close() error
}

// Tx is one transaction. Its methods take the context of Update or View.
//
// Lists hold at most limit entries, none if limit is below one. Text given to
// any method must pass [CheckText], and keys that are written [CheckKeys], else
// the method fails with ErrText; audit records are repaired instead. Times are kept in UTC to the microsecond, the
// rest cut off. ErrNotFound, ErrConflict and ErrText leave the transaction
// usable; after any other error Update stores nothing, whatever fn returns.
type Tx interface {
	// Head returns the newest release number and the newest log position.
	Head() (authz.Revision, error)

	// Put stores the record as the newest under (Kind, Key), sets its Position
	// to the next of the log, appends it there and returns that position.
	Put(record Record) (position uint64, err error)
	// Record returns the newest record, or ErrNotFound.
	Record(kind Kind, key string) (Record, error)
	// Records lists the newest records of a kind with Key > after, in order of
	// Key as bytes, at most limit. Tenant AnyTenant lists all tenants'.
	Records(kind Kind, tenant, after string, limit int) ([]Record, error)
	// Log lists log entries with Position > after, in order, at most limit.
	Log(after uint64, limit int) ([]Record, error)

	// Document returns the newest version, or ErrNotFound.
	Document(path string) (Document, error)
	// PutDocument stores a version; one with the same path and version must
	// not exist (ErrConflict).
	PutDocument(doc Document) error
	// Documents lists the newest version of documents under prefix with Path >
	// after, in order of Path as bytes, at most limit.
	Documents(filter DocumentFilter, after string, limit int) ([]Document, error)
	// DocumentVersions lists all versions of all documents after the given
	// path and version, in order of Path as bytes, then Version.
	DocumentVersions(path string, version int64, limit int) ([]Document, error)
	// MarkPublished clears Draft of one version and notes its release. It
	// returns ErrNotFound if there is no such version.
	MarkPublished(path string, version int64, release uint64) error

	// InsertRelease stores a release; its number must be the newest plus one
	// (ErrConflict otherwise). The files' blobs are stored before (ErrNotFound
	// otherwise). Files come back in order of Path as bytes.
	InsertRelease(release Release) error
	// Release returns one release, or ErrNotFound.
	Release(number uint64) (Release, error)
	// Releases lists releases with Number < before (0: from the newest), the
	// newest first, at most limit, without Files.
	Releases(before uint64, limit int) ([]Release, error)
	// PutBlob stores data under its SHA-256, and refuses any other digest;
	// storing it again changes nothing.
	PutBlob(digest bundles.Digest, data []byte) error
	// Blob returns stored data, or ErrNotFound.
	Blob(digest bundles.Digest) ([]byte, error)
	// Blobs returns the stored data of each digest, in their order, or
	// ErrNotFound if one is not stored. It asks for all at once.
	Blobs(digests []bundles.Digest) ([][]byte, error)

	// UseGrant counts one use under useKey if fewer than max were counted,
	// and reports whether it is counted now. The same useKey counts once: it
	// is reported as counted again, also when max has been reached since.
	UseGrant(grant, useKey string, max int) (counted bool, err error)
	// GrantUses lists counted uses after the given one, in order of Grant,
	// then Key, as bytes.
	GrantUses(after GrantUse, limit int) ([]GrantUse, error)

	// Replay returns the stored answer of a mutating call, or ErrNotFound.
	Replay(caller, key string) (Replay, error)
	// PutReplay stores one (ErrConflict if caller and key are known).
	PutReplay(replay Replay) error
	// ForgetReplays deletes answers stored before the given time.
	ForgetReplays(before time.Time) error

	// Audit stores the audit record of this change (ErrConflict if its ID is
	// known).
	Audit(record authz.AuditRecord) error
	// Audits lists the records that Audit stored with ID > after, in order.
	Audits(after string, limit int) ([]authz.AuditRecord, error)
}

// AuditStore keeps decision records apart from the rest, and reads both
// them and the audit records of changes.
type AuditStore interface {
	// InsertDecisions stores records; ids it already holds are skipped, so a
	// batch may be sent again.
	InsertDecisions(ctx context.Context, records []authz.AuditRecord) error
	// DecisionsByID returns those of the ids' records that InsertDecisions
	// stored, in no order.
	DecisionsByID(ctx context.Context, ids []string) ([]authz.AuditRecord, error)
	// QueryAudit lists decision and change records that match, newest first,
	// at most limit.
	QueryAudit(ctx context.Context, filter AuditFilter, limit int) ([]authz.AuditRecord, error)
	// Decisions lists the records that InsertDecisions stored with ID > after,
	// in order, at most limit.
	Decisions(ctx context.Context, after string, limit int) ([]authz.AuditRecord, error)
}

// AnyTenant lists across tenants. The platform's own tenant is "".
const AnyTenant = "*"

// Kind says what a [Record] is.
type Kind string

const (
	KindTenant      Kind = "tenant"
	KindSubject     Kind = "subject"
	KindRole        Kind = "role"
	KindBinding     Kind = "binding"
	KindToken       Kind = "token"
	KindGrant       Kind = "grant"
	KindRestriction Kind = "restriction"
	KindKeys        Kind = "keys"    // one record, "keys": SignedKeys
	KindRollout     Kind = "rollout" // one record, "rollout": Rollout
	KindPush        Kind = "push"    // one record, "push": Push
)

// Record is one object of the directory or one dynamic policy, whole, at one
// position of the log. Every record carries its tenant (L1).
type Record struct {
	Position uint64
	Kind     Kind
	Key      string // unique within Kind
	Tenant   string // "" for the platform
	At       time.Time
	Body     []byte // JSON of Tenant, Subject, …, Restriction
}

// Document is one version of one file of the policy repository (X3).
type Document struct {
	Path      string
	Version   int64 // from 1
	Content   []byte
	Deleted   bool   // this version removes the file
	Draft     bool   // not published yet
	Release   uint64 // the release that published it, 0 for drafts
	Layer     string // "platform", "self", "tenant"
	Tenant    string // of Layer "tenant"
	UpdatedBy string
	UpdatedAt time.Time
}

// DocumentFilter selects documents by their newest version. Zero fields select
// everything, except that deleted and published documents are left out as asked.
type DocumentFilter struct {
	Prefix     string // the first bytes of Path
	Layer      string
	Tenant     string // AnyTenant is the same as ""
	OnlyDrafts bool
	Deleted    bool // include documents whose newest version removes them
}

// Release is one published set of files.
type Release struct {
	Number     uint64         `json:"number"`
	Digest     bundles.Digest `json:"digest"`
	Restores   uint64         `json:"restores,omitempty"` // the release whose content it repeats
	Unreviewed bool           `json:"unreviewed,omitempty"`
	Author     string         `json:"author"`
	Note       string         `json:"note,omitempty"`
	// Source and Commit say where a release of a repository came from: its
	// address without credentials, and the commit's full id.
	Source    string        `json:"source,omitempty"`
	Commit    string        `json:"commit,omitempty"`
	CreatedAt time.Time     `json:"created_at"`
	Files     []ReleaseFile `json:"files,omitempty"`
}

// ReleaseFile names one file's content.
type ReleaseFile struct {
	Path   string         `json:"path"`
	Digest bundles.Digest `json:"digest"`
	Size   int            `json:"size"`
}

// GrantUse is one counted use of a grant.
type GrantUse struct {
	Grant string `json:"grant"`
	Key   string `json:"key"`
}

// Replay is the answer to a mutating call, kept so that a retry under the same
// Idempotency-Key gets it again.
type Replay struct {
	Caller     string
	Key        string
	BodyDigest bundles.Digest // of method, path and body
	Status     int
	Response   []byte
	At         time.Time
}

// AuditFilter selects audit records; zero fields select everything.
type AuditFilter struct {
	Tenant  string // AnyTenant or "" for all; Platform for the platform's own
	Subject string
	Actor   string
	Action  string
	Effect  string
	Kind    authz.AuditKind
	From    time.Time // inclusive
	To      time.Time // exclusive
	Before  string    // only records with ID < Before: the cursor
}

// PEPStore keeps what nodes know of PEPs, and what they signed for them. None
// of it is part of the log or of a backup, and none of it waits for the log's
// lock. Every method is one transaction of its own, and fails with ErrText as
// those of [Tx] do.
type PEPStore interface {
	// KeepSeal stores a signed manifest unless there is one of the same
	// release, audience and key, and returns the one that is stored, so that
	// every node serves the same bytes.
	KeepSeal(ctx context.Context, seal Seal) (Seal, error)
	// Seals returns the release's stored seals for an audience, all keys', in
	// order of KeyID as bytes, or none.
	Seals(ctx context.Context, release uint64, audience string) ([]Seal, error)

	// PutPEPs stores the state of PEPs by Key, as [NewestPEPs] has them. One
	// that was seen earlier than the stored one changes nothing but Offered,
	// which is the highest that was ever stored.
	//
	// A tenant has [PEPsPerTenant] of them, or as many as the store was opened
	// for; the platform as many as it likes. For more, those leave first that
	// nobody has seen for the longest time; connected ones and those that still
	// count grants never do. New ones beyond are not stored, and the error is a
	// [*TooManyPEPsError]: the others are stored.
	PutPEPs(ctx context.Context, peps []PEP) error
	// PEPs lists PEPs with Key > after that the filter selects, in order of
	// Key as bytes, at most limit.
	PEPs(ctx context.Context, filter PEPFilter, after string, limit int) ([]PEP, error)
	// CountPEPs counts those that the filter selects.
	CountPEPs(ctx context.Context, filter PEPFilter) (int, error)
	// ForgetPEPs deletes those that were seen last before the given time, also
	// those that count as connected: their node ended without saying so.
	ForgetPEPs(ctx context.Context, before time.Time) error
}

// PEPsPerTenant is how many PEPs of one tenant's credentials are kept unless a
// store is opened for another number.
const PEPsPerTenant = 10_000

// TooManyPEPsError names PEPs that were not stored: their tenants have as many
// as they may, and all of those are connected.
type TooManyPEPsError struct {
	Most int // of each tenant
	Keys []string
}

func (e *TooManyPEPsError) Error() string {
	return fmt.Sprintf("%d PEPs are refused, %.256q for one: its tenant has %d that are connected, as many as one may have", len(e.Keys), e.Keys[0], e.Most)
}

// Seal is the signed manifest of one release for one audience.
type Seal struct {
	Release  uint64
	Audience string // bundles.AudienceName
	KeyID    string
	Signed   string
}

// PEP is one connected or lately connected PEP, as its node saw it.
type PEP struct {
	Key         string            `json:"key"` // Tenant/Subject/ID
	ID          string            `json:"id"`
	Tenant      string            `json:"tenant"`  // of its credential, "" for the platform's
	Subject     string            `json:"subject"` // of its credential, "service:shop"
	Tenants     []string          `json:"tenants"` // that it serves
	Labels      map[string]string `json:"labels"`
	Version     string            `json:"version,omitempty"`
	Address     string            `json:"address"`
	Node        string            `json:"node"`
	Kind        string            `json:"kind"` // "stream", "poll", "opa"
	Connected   bool              `json:"connected"`
	ConnectedAt time.Time         `json:"connected_at"`
	SeenAt      time.Time         `json:"seen_at"`
	// Revision is what it last acknowledged, AckedAt when.
	Revision authz.Revision `json:"revision"`
	Digest   string         `json:"digest"`
	AckedAt  time.Time      `json:"acked_at,omitzero"`
	// HonoursUntil is when it stops counting grants if it hears nothing more.
	HonoursUntil time.Time `json:"honours_until,omitzero"`
	Stale        bool      `json:"stale"` // as it says itself
	// Offered is the newest release that it was sent, by whatever node: what is
	// stored of a PEP never falls.
	Offered uint64 `json:"offered"`
	// Rejects counts, Rejected is the newest one.
	Rejects  uint64     `json:"rejects"`
	Rejected *Rejection `json:"rejected,omitempty"`
}

// Rejection is something a PEP was sent and did not take.
type Rejection struct {
	Release  uint64    `json:"release,omitempty"`
	Position uint64    `json:"position,omitempty"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// PEPFilter selects PEPs. Zero fields select everything.
type PEPFilter struct {
	Key string // the one that has it
	// Tenant selects those whose credential is the tenant's; AnyTenant is the
	// same as "", Platform the platform's own.
	Tenant string
	// Owners selects those whose credential is one of these tenants', "" for the
	// platform's; nil selects all.
	Owners []string
	// Serves selects those that serve the tenant, or all tenants.
	Serves    string
	Labels    map[string]string // all of them
	IDs       []string          // any of them
	Connected bool              // only these
	Select    Selector          // those it selects
	SeenSince time.Time         // those seen then or later
	// Below selects those that hold an older release, or less of the log;
	// Holds all others.
	Below, Holds authz.Revision
	// Rejected selects those whose newest rejection is of this release.
	Rejected uint64
	// Offered selects those that were sent this release or a newer one.
	Offered uint64
	// Counting selects those that count grants at this time, for all that is
	// known: the connected ones seen in the [PEPSilence] before, and the others
	// until their HonoursUntil.
	Counting time.Time
	Without  string // a Kind that is left out
}
