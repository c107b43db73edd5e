package storetest

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// model is the contract in its plainest form: slices and maps in memory. It
// implements [pap.Tx]; a transaction works on a clone.
type model struct {
	readOnly  bool
	broken    bool // an error of another sort happened: nothing may be committed
	head      authz.Revision
	log       []pap.Record
	documents []pap.Document
	releases  []pap.Release
	blobs     map[bundles.Digest][]byte
	uses      map[pap.GrantUse]bool
	replays   []pap.Replay
	audits    map[string]authz.AuditRecord
	decisions map[string]authz.AuditRecord
}

var (
	_ pap.Tx = (*model)(nil)

	errModelReadOnly = errors.New("read only")
	errModelDigest   = errors.New("wrong digest")
)

func newModel() *model {
	return &model{
		blobs: map[bundles.Digest][]byte{}, uses: map[pap.GrantUse]bool{},
		audits: map[string]authz.AuditRecord{}, decisions: map[string]authz.AuditRecord{},
	}
}

func (m *model) clone(readOnly bool) *model {
	c := *m
	c.readOnly = readOnly
	c.log, c.documents, c.releases, c.replays = slices.Clone(m.log), slices.Clone(m.documents), slices.Clone(m.releases), slices.Clone(m.replays)
	c.blobs, c.uses, c.audits, c.decisions = maps.Clone(m.blobs), maps.Clone(m.uses), maps.Clone(m.audits), maps.Clone(m.decisions)
	return &c
}

func (m *model) mayWrite(checks ...error) error {
	if m.readOnly {
		return errModelReadOnly
	}
	return cmp.Or(checks...)
}

// page keeps what is wanted, sorts it, and cuts it to the limit.
func page[T any](all []T, limit int, want func(T) bool, compare func(a, b T) int) []T {
	var list []T
	for _, item := range all {
		if want(item) {
			list = append(list, item)
		}
	}
	slices.SortStableFunc(list, compare)
	return list[:min(len(list), max(limit, 0))]
}

func (m *model) Head() (authz.Revision, error) { return m.head, nil }

func (m *model) Put(r pap.Record) (uint64, error) {
	if err := m.mayWrite(pap.CheckKeys(string(r.Kind), r.Key, r.Tenant)); err != nil {
		return 0, err
	}
	m.head.Position++
	r.Position = m.head.Position
	m.log = append(m.log, r)
	return r.Position, nil
}

// newest is the last log entry of each record.
func (m *model) newest() []pap.Record {
	type name struct {
		kind pap.Kind
		key  string
	}
	last := map[name]pap.Record{}
	for _, r := range m.log {
		last[name{r.Kind, r.Key}] = r
	}
	return slices.Collect(maps.Values(last))
}

func (m *model) Record(kind pap.Kind, key string) (pap.Record, error) {
	if err := pap.CheckText(string(kind), key); err != nil {
		return pap.Record{}, err
	}
	for _, r := range m.newest() {
		if r.Kind == kind && r.Key == key {
			return r, nil
		}
	}
	return pap.Record{}, pap.ErrNotFound
}

func (m *model) Records(kind pap.Kind, tenant, after string, limit int) ([]pap.Record, error) {
	if err := pap.CheckText(string(kind), tenant, after); err != nil {
		return nil, err
	}
	return page(m.newest(), limit, func(r pap.Record) bool {
		return r.Kind == kind && r.Key > after && (tenant == pap.AnyTenant || r.Tenant == tenant)
	}, func(a, b pap.Record) int { return cmp.Compare(a.Key, b.Key) }), nil
}

func (m *model) Log(after uint64, limit int) ([]pap.Record, error) {
	return page(m.log, limit, func(r pap.Record) bool { return r.Position > after },
		func(a, b pap.Record) int { return cmp.Compare(a.Position, b.Position) }), nil
}

func compareDocuments(a, b pap.Document) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version, b.Version))
}

func (m *model) find(path string, version int64) int {
	return slices.IndexFunc(m.documents, func(d pap.Document) bool { return d.Path == path && d.Version == version })
}

func (m *model) isNewest(d pap.Document) bool {
	return !slices.ContainsFunc(m.documents, func(o pap.Document) bool { return o.Path == d.Path && o.Version > d.Version })
}

func (m *model) Document(path string) (pap.Document, error) {
	if err := pap.CheckText(path); err != nil {
		return pap.Document{}, err
	}
	for _, d := range m.documents {
		if d.Path == path && m.isNewest(d) {
			return d, nil
		}
	}
	return pap.Document{}, pap.ErrNotFound
}

func (m *model) PutDocument(d pap.Document) error {
	if err := m.mayWrite(pap.CheckKeys(d.Path), pap.CheckText(d.Layer, d.Tenant, d.UpdatedBy)); err != nil {
		return err
	}
	if m.find(d.Path, d.Version) >= 0 {
		return pap.ErrConflict
	}
	m.documents = append(m.documents, d)
	return nil
}

func (m *model) Documents(f pap.DocumentFilter, after string, limit int) ([]pap.Document, error) {
	if err := pap.CheckText(f.Prefix, f.Layer, f.Tenant, after); err != nil {
		return nil, err
	}
	return page(m.documents, limit, func(d pap.Document) bool {
		return d.Path > after && strings.HasPrefix(d.Path, f.Prefix) && m.isNewest(d) &&
			(f.Layer == "" || f.Layer == d.Layer) && (f.Tenant == "" || f.Tenant == pap.AnyTenant || f.Tenant == d.Tenant) &&
			(!f.OnlyDrafts || d.Draft) && (f.Deleted || !d.Deleted)
	}, compareDocuments), nil
}

func (m *model) DocumentVersions(path string, version int64, limit int) ([]pap.Document, error) {
	if err := pap.CheckText(path); err != nil {
		return nil, err
	}
	return page(m.documents, limit, func(d pap.Document) bool {
		return compareDocuments(d, pap.Document{Path: path, Version: version}) > 0
	}, compareDocuments), nil
}

func (m *model) MarkPublished(path string, version int64, release uint64) error {
	if err := m.mayWrite(pap.CheckText(path)); err != nil {
		return err
	}
	i := m.find(path, version)
	if i < 0 {
		return pap.ErrNotFound
	}
	m.documents[i].Draft, m.documents[i].Release = false, release
	return nil
}

func (m *model) InsertRelease(r pap.Release) error {
	if err := m.mayWrite(pap.CheckText(r.Author, r.Note, r.Source, r.Commit)); err != nil {
		return err
	}
	for i, f := range r.Files {
		if err := pap.CheckText(f.Path); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Files[:i], func(o pap.ReleaseFile) bool { return o.Path == f.Path }) {
			return pap.ErrConflict
		}
	}
	for _, f := range r.Files {
		if _, ok := m.blobs[f.Digest]; !ok {
			return pap.ErrNotFound
		}
	}
	if r.Number != m.head.Release+1 {
		return pap.ErrConflict
	}
	m.head.Release++
	r.Files = slices.Clone(r.Files)
	slices.SortFunc(r.Files, func(a, b pap.ReleaseFile) int { return cmp.Compare(a.Path, b.Path) })
	m.releases = append(m.releases, r)
	return nil
}

func (m *model) Release(number uint64) (pap.Release, error) {
	if number == 0 || number > uint64(len(m.releases)) {
		return pap.Release{}, pap.ErrNotFound
	}
	return m.releases[number-1], nil
}

func (m *model) Releases(before uint64, limit int) ([]pap.Release, error) {
	list := page(m.releases, limit, func(r pap.Release) bool { return before == 0 || r.Number < before },
		func(a, b pap.Release) int { return cmp.Compare(b.Number, a.Number) })
	for i := range list {
		list[i].Files = nil
	}
	return list, nil
}

func (m *model) PutBlob(digest bundles.Digest, data []byte) error {
	if err := m.mayWrite(); err != nil {
		return err
	}
	if sha256.Sum256(data) != digest {
		m.broken = true
		return errModelDigest
	}
	m.blobs[digest] = data
	return nil
}

func (m *model) Blob(digest bundles.Digest) ([]byte, error) {
	data, ok := m.blobs[digest]
	if !ok {
		return nil, pap.ErrNotFound
	}
	return data, nil
}

func (m *model) Blobs(digests []bundles.Digest) ([][]byte, error) {
	var blobs [][]byte
	for _, d := range digests {
		data, ok := m.blobs[d]
		if !ok {
			return nil, pap.ErrNotFound
		}
		blobs = append(blobs, data)
	}
	return blobs, nil
}

func (m *model) UseGrant(grant, useKey string, max int) (bool, error) {
	if err := m.mayWrite(pap.CheckKeys(grant, useKey)); err != nil {
		return false, err
	}
	used := 0
	for use := range m.uses {
		if use.Grant == grant {
			used++
		}
	}
	use := pap.GrantUse{Grant: grant, Key: useKey}
	if !m.uses[use] && used < max {
		m.uses[use] = true
	}
	return m.uses[use], nil
}

func compareUses(a, b pap.GrantUse) int {
	return cmp.Or(cmp.Compare(a.Grant, b.Grant), cmp.Compare(a.Key, b.Key))
}

func (m *model) GrantUses(after pap.GrantUse, limit int) ([]pap.GrantUse, error) {
	if err := pap.CheckText(after.Grant, after.Key); err != nil {
		return nil, err
	}
	return page(slices.Collect(maps.Keys(m.uses)), limit, func(u pap.GrantUse) bool { return compareUses(u, after) > 0 }, compareUses), nil
}

func (m *model) Replay(caller, key string) (pap.Replay, error) {
	if err := pap.CheckText(caller, key); err != nil {
		return pap.Replay{}, err
	}
	for _, r := range m.replays {
		if r.Caller == caller && r.Key == key {
			return r, nil
		}
	}
	return pap.Replay{}, pap.ErrNotFound
}

func (m *model) PutReplay(r pap.Replay) error {
	if err := m.mayWrite(pap.CheckKeys(r.Caller, r.Key)); err != nil {
		return err
	}
	if _, err := m.Replay(r.Caller, r.Key); err == nil {
		return pap.ErrConflict
	}
	m.replays = append(m.replays, r)
	return nil
}

func (m *model) ForgetReplays(before time.Time) error {
	if err := m.mayWrite(); err != nil {
		return err
	}
	m.replays = slices.DeleteFunc(m.replays, func(r pap.Replay) bool { return r.At.Before(before) })
	return nil
}

func (m *model) Audit(r authz.AuditRecord) error {
	if err := m.mayWrite(); err != nil {
		return err
	}
	if _, known := m.audits[r.ID]; known {
		return pap.ErrConflict
	}
	m.audits[r.ID] = r
	return nil
}

func compareAudits(a, b authz.AuditRecord) int { return cmp.Compare(a.ID, b.ID) }

func (m *model) Audits(after string, limit int) ([]authz.AuditRecord, error) {
	if err := pap.CheckText(after); err != nil {
		return nil, err
	}
	return page(slices.Collect(maps.Values(m.audits)), limit, func(r authz.AuditRecord) bool { return r.ID > after }, compareAudits), nil
}

func (m *model) insertDecisions(records []authz.AuditRecord) {
	for _, r := range records {
		if _, known := m.decisions[r.ID]; !known {
			m.decisions[r.ID] = r
		}
	}
}

func (m *model) listDecisions(after string, limit int) []authz.AuditRecord {
	return page(slices.Collect(maps.Values(m.decisions)), limit, func(r authz.AuditRecord) bool { return r.ID > after }, compareAudits)
}

func (m *model) queryAudit(f pap.AuditFilter, limit int) []authz.AuditRecord {
	all := slices.AppendSeq(slices.Collect(maps.Values(m.audits)), maps.Values(m.decisions))
	return page(all, limit, func(r authz.AuditRecord) bool {
		return (f.Tenant == "" || f.Tenant == pap.AnyTenant || f.Tenant == r.Tenant || f.Tenant == pap.Platform && r.Tenant == "") &&
			(f.Subject == "" || f.Subject == r.Subject) && (f.Actor == "" || f.Actor == r.Actor) &&
			(f.Action == "" || f.Action == r.Action) && (f.Effect == "" || f.Effect == r.Effect) &&
			(f.Kind == "" || f.Kind == r.Kind) && (f.Before == "" || r.ID < f.Before) &&
			(f.From.IsZero() || !r.Time.Before(f.From)) && (f.To.IsZero() || r.Time.Before(f.To))
	}, func(a, b authz.AuditRecord) int { return compareAudits(b, a) })
}
