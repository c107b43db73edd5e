package pap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Publication is what a release is made of.
type Publication struct {
	// Drafts are the paths of drafts to publish; empty publishes all that the
	// actor may publish.
	Drafts []string
	Note   string
	// Stages make the release reach PEPs in stages, each of which lasts at
	// least MinStage; after the last one come all others. Needs release.rollout
	// on the platform. None: all PEPs get it at once.
	Stages   []Selector
	MinStage time.Duration
	// Tenants are those whose own PEPs count for the stages, beside the
	// platform's and those of tenants whose part of the release changes.
	Tenants []string
}

// Publish checks the chosen drafts against the newest release and publishes
// them as the next. A candidate that fails any step changes nothing.
func (s *Service) Publish(ctx context.Context, actor Actor, p Publication) (Release, authz.Revision, error) {
	if err := checkStages(p); err != nil {
		return Release{}, authz.Revision{}, err
	}
	if len(p.Stages) > 0 {
		if err := actor.May(ctx, "release.rollout", Platform); err != nil {
			return Release{}, authz.Revision{}, err
		}
	}
	base, content, drafts, err := s.readDrafts(ctx, actor, p)
	if err != nil {
		return Release{}, authz.Revision{}, err
	}
	var changes []bundles.Change
	for _, d := range drafts {
		if _, err := content.File(d.Path); err != nil && d.Deleted {
			continue // written and removed again before it was ever published
		}
		changes = append(changes, bundles.Change{Path: d.Path, Removed: d.Deleted, Data: d.Content})
	}
	next, err := content.Apply(changes)
	if err != nil {
		return Release{}, authz.Revision{}, err
	}
	var concerned []string
	if len(p.Stages) > 0 {
		if concerned, err = concernedTenants(content, next); err != nil {
			return Release{}, authz.Revision{}, err
		}
	}
	proposal := Proposal{Drafts: []ProposedDraft{}, Stages: p.Stages, MinStage: p.MinStage, Tenants: p.Tenants, Concerned: concerned}
	for _, d := range drafts {
		proposal.Drafts = append(proposal.Drafts, ProposedDraft{d.Path, d.Version})
	}
	return s.publish(ctx, actor, base, content, next, Release{Note: p.Note}, &proposal)
}

// PublishContent publishes a whole folder: what changed against the newest
// release is written as documents in the same transaction. It serves
// `xiezhi dev`, whose releases are marked unreviewed.
func (s *Service) PublishContent(ctx context.Context, actor Actor, next *bundles.Content, note string, unreviewed bool) (Release, authz.Revision, error) {
	base, content, err := s.newestContent(ctx)
	if err != nil {
		return Release{}, authz.Revision{}, err
	}
	return s.publish(ctx, actor, base, content, next, Release{Note: note, Unreviewed: unreviewed}, &Proposal{})
}

// Restore publishes the content of an older release as the next one. Numbers
// never fall.
func (s *Service) Restore(ctx context.Context, actor Actor, number uint64) (Release, authz.Revision, error) {
	base, content, err := s.newestContent(ctx)
	if err != nil {
		return Release{}, authz.Revision{}, err
	}
	next, err := s.content(ctx, number)
	if err != nil {
		return Release{}, authz.Revision{}, err
	}
	restored := Release{Restores: number, Note: fmt.Sprintf("restores release %d", number)}
	return s.publish(ctx, actor, base, content, next, restored, &Proposal{})
}

// publish is the one way to a release: rights, gate, people, transaction. The
// proposal says what is published with it, and the case that people said yes
// in, if they were asked; without one nobody is.
func (s *Service) publish(ctx context.Context, actor Actor, base uint64, content, next *bundles.Content, r Release, p *Proposal) (Release, authz.Revision, error) {
	changes := content.Diff(next)
	if len(changes) == 0 {
		return Release{}, authz.Revision{}, ErrNothingToPublish
	}
	if err := mayPublish(ctx, actor, changes); err != nil {
		return Release{}, authz.Revision{}, err
	}
	paths := make([]string, len(changes))
	for i, c := range changes {
		paths[i] = c.Path
	}
	if err := s.waitsForRollout(ctx, r); err != nil {
		return Release{}, authz.Revision{}, err
	}
	candidate, err := s.Gate.Check(ctx, next, paths)
	if err != nil {
		return Release{}, authz.Revision{}, err
	}
	if p == nil {
		p = &Proposal{}
	} else if err := s.review(ctx, actor, Change{base, content, next, changes, candidate, r, p.Case}, p); err != nil {
		return Release{}, authz.Revision{}, err
	}
	r.Number, r.Digest, r.CreatedAt = base+1, next.Digest(), s.Now().UTC()
	if r.Author == "" {
		r.Author = actor.Name // a commit has an author of its own
	}
	fresh := s.newest.list(&r, base, content, next, changes)
	detail := map[string]any{"digest": r.Digest, "changed": paths, "note": r.Note, "unreviewed": r.Unreviewed, "restores": r.Restores}
	if r.Commit != "" {
		detail["source"], detail["commit"], detail["author"] = r.Source, r.Commit, r.Author
	}
	if p.Case != "" {
		detail["case"] = p.Case
	}
	revision, err := s.change(ctx, actor, auditEntry{"release.publish", onlyTenant(changes), fmt.Sprintf("release:%d", r.Number), detail}, func(tx Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		if head.Release != base {
			return fmt.Errorf("release %d was published meanwhile: %w", head.Release, ErrVersion)
		}
		if err := s.endRollout(tx, actor, r); err != nil {
			return err
		}
		for _, i := range fresh {
			if err := tx.PutBlob(r.Files[i].Digest, next.Files()[i].Data); err != nil {
				return err
			}
		}
		if err := tx.InsertRelease(r); err != nil {
			return err
		}
		if err := s.endChangedGrants(tx, candidate); err != nil {
			return err
		}
		return s.alongside(tx, actor, changes, r.Number, p)
	})
	if err == nil {
		s.newest.keep(r, next)
	}
	return r, revision, err
}

// alongside writes what a release brings beside itself.
func (s *Service) alongside(tx Tx, actor Actor, changes []bundles.Change, number uint64, p *Proposal) error {
	if p.Case != "" {
		if err := s.became(tx, p.Case, number); err != nil {
			return err
		}
	}
	if p.Drafts == nil {
		return s.writeDocuments(tx, actor, changes, number)
	}
	for _, d := range p.Drafts {
		newest, err := tx.Document(d.Path)
		if err != nil {
			return err
		}
		if newest.Version != d.Version && p.Case == "" { // what people said yes to is fixed
			return fmt.Errorf("document %s: %w", d.Path, ErrVersion)
		}
		if err := tx.MarkPublished(d.Path, d.Version, number); err != nil {
			return err
		}
	}
	return s.startRollout(tx, actor, number, Publication{Stages: p.Stages, MinStage: p.MinStage, Tenants: p.Tenants}, p.Concerned)
}

// mayPublish asks for the right of every layer and tenant that changes.
func mayPublish(ctx context.Context, actor Actor, changes []bundles.Change) error {
	type place struct{ right, tenant string }
	asked := map[place]bool{}
	for _, c := range changes {
		layer, tenant, err := Place(c.Path)
		if err != nil {
			return field("/files", "%v", err)
		}
		p := place{"release.publish", tenant}
		switch layer {
		case "platform":
			p = place{"release.publish.platform", Platform}
		case "self":
			p = place{"release.publish.self", Platform}
		}
		if asked[p] {
			continue
		}
		asked[p] = true
		if err := actor.May(ctx, p.right, p.tenant); err != nil {
			return fmt.Errorf("publish %s: %w", c.Path, err)
		}
	}
	return nil
}

// onlyTenant is the tenant that all changes belong to, or "".
func onlyTenant(changes []bundles.Change) string {
	only := ""
	for i, c := range changes {
		_, tenant, _ := Place(c.Path) // checked by mayPublish
		if i > 0 && tenant != only {
			return ""
		}
		only = tenant
	}
	return only
}

// readDrafts returns the newest release and the drafts to publish.
func (s *Service) readDrafts(ctx context.Context, actor Actor, p Publication) (uint64, *bundles.Content, []Document, error) {
	// Rights are asked first: whether another tenant has a draft is its own business.
	for i, path := range p.Drafts {
		if _, _, err := Place(path); err != nil {
			return 0, nil, nil, field(fmt.Sprintf("/drafts/%d", i), "%v", err)
		}
		if err := mayPublish(ctx, actor, []bundles.Change{{Path: path}}); err != nil {
			return 0, nil, nil, err
		}
	}
	base, content, err := s.newestContent(ctx)
	if err != nil {
		return 0, nil, nil, err
	}
	var drafts []Document
	err = s.Store.View(ctx, func(tx Tx) error {
		if len(p.Drafts) > 0 {
			for i, path := range p.Drafts {
				doc, err := tx.Document(path)
				if errors.Is(err, ErrNotFound) || err == nil && !doc.Draft {
					return field(fmt.Sprintf("/drafts/%d", i), "%q is not a draft", path)
				}
				if err != nil {
					return err
				}
				drafts = append(drafts, doc)
			}
			return nil
		}
		filter := DocumentFilter{OnlyDrafts: true, Deleted: true}
		if actor.Tenant != "" {
			filter.Tenant, filter.Layer = actor.Tenant, "tenant"
		}
		var after string
		for {
			page, err := tx.Documents(filter, after, 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			drafts = append(drafts, page...)
			after = page[len(page)-1].Path
		}
	})
	return base, content, drafts, err
}

// writeDocuments records changes that did not come from drafts as published
// versions. A draft of the same path stays newest only in history: its writer
// meets a new version.
func (s *Service) writeDocuments(tx Tx, actor Actor, changes []bundles.Change, number uint64) error {
	for _, c := range changes {
		layer, tenant, err := Place(c.Path)
		if err != nil {
			return err
		}
		newest, err := tx.Document(c.Path)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		doc := Document{
			Path: c.Path, Version: newest.Version + 1, Content: c.Data, Deleted: c.Removed, Release: number,
			Layer: layer, Tenant: tenant, UpdatedBy: actor.Name, UpdatedAt: s.Now().UTC(),
		}
		if err := tx.PutDocument(doc); err != nil {
			return err
		}
	}
	return nil
}

// endChangedGrants ends every grant that names a rule which is no longer what
// it was, for good: a rollback does not revive it (docs/semantics.md).
func (s *Service) endChangedGrants(tx Tx, candidate Candidate) error {
	now := s.Now().UTC()
	var after string
	for {
		records, err := tx.Records(KindGrant, AnyTenant, after, 1000)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			g, err := get[authz.Grant](tx, KindGrant, r.Key)
			if err != nil {
				return err
			}
			if g.Ended != nil || !now.Before(g.Validity.End) {
				continue
			}
			changed := changedRule(candidate, g)
			if changed == "" {
				continue
			}
			g.Ended, g.EndedReason = &now, "rule "+changed+" changed"
			if err := putEnded(tx, &g, now); err != nil {
				return err
			}
		}
		after = records[len(records)-1].Key
	}
}

func changedRule(candidate Candidate, g authz.Grant) string {
	for _, ref := range slices.Concat(g.Satisfies, g.Waives) {
		if strings.HasPrefix(ref.Rule, "dynamic/") {
			continue // a restriction's rule never changes
		}
		if info, ok := candidate.Rule(ref.Rule); !ok || info.Digest != ref.Digest {
			return ref.Rule
		}
	}
	return ""
}

// newestContent returns the newest release's number and content; number 0 and
// no files before the first.
func (s *Service) newestContent(ctx context.Context) (uint64, *bundles.Content, error) {
	var head authz.Revision
	err := s.Store.View(ctx, func(tx Tx) error {
		var err error
		head, err = tx.Head()
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	if head.Release == 0 {
		empty, err := bundles.NewContent(nil)
		return 0, empty, err
	}
	content, err := s.newest.read(ctx, s.Store, head.Release)
	return head.Release, content, err
}

// NewestContent returns the newest release's files, none before the first.
func (s *Service) NewestContent(ctx context.Context) (*bundles.Content, error) {
	_, content, err := s.newestContent(ctx)
	return content, err
}

// content reads a release's files.
func (s *Service) content(ctx context.Context, number uint64) (*bundles.Content, error) {
	var content *bundles.Content
	err := s.Store.View(ctx, func(tx Tx) error {
		r, err := tx.Release(number)
		if err != nil {
			return fmt.Errorf("release %d: %w", number, err)
		}
		content, err = ReadContent(tx, r)
		return err
	})
	return content, err
}

// ReadContent reads a release's files and checks them against its digest.
func ReadContent(tx Tx, r Release) (*bundles.Content, error) {
	data, err := readFiles(tx, r, r.Files)
	if err != nil {
		return nil, err
	}
	files := make([]bundles.File, len(r.Files))
	for i, f := range r.Files {
		files[i] = bundles.File{Path: f.Path, Data: data[i]}
	}
	content, err := bundles.NewContent(files)
	if err != nil {
		return nil, fmt.Errorf("release %d: %w", r.Number, err)
	}
	if content.Digest() != r.Digest {
		return nil, fmt.Errorf("release %d: its files give %s, not %s: the store was altered", r.Number, content.Digest(), r.Digest)
	}
	return content, nil
}

// Releases lists releases, the newest first. Needs release.read. A tenant's
// readers learn author and note of their own releases only.
func (s *Service) Releases(ctx context.Context, actor Actor, before uint64, limit int) (Page[Release], error) {
	if err := actor.May(ctx, "release.read", rightsTenant(actor.Tenant)); err != nil {
		return Page[Release]{}, err
	}
	var page Page[Release]
	err := s.Store.View(ctx, func(tx Tx) error {
		items, err := tx.Releases(before, limit+1)
		if len(items) > limit {
			items = items[:limit]
			page.Next = fmt.Sprint(items[limit-1].Number)
		}
		page.Items = items
		return err
	})
	for i := range page.Items {
		page.Items[i] = page.Items[i].seenBy(actor)
	}
	return page, err
}

// seenBy leaves out what is not the actor's business: who published, and why,
// is often another tenant's.
func (r Release) seenBy(actor Actor) Release {
	if actor.Tenant == "" {
		return r
	}
	if r.Author != actor.Name {
		r.Author, r.Note, r.Source, r.Commit = "", "", "", ""
	}
	r.Files = slices.DeleteFunc(r.Files, func(f ReleaseFile) bool { return !visible(actor, f.Path) })
	return r
}

// Release returns one release with its files: all of them for the platform's
// readers, else the actor's tenant's and the platform's.
func (s *Service) Release(ctx context.Context, actor Actor, number uint64) (Release, error) {
	if err := actor.May(ctx, "release.read", rightsTenant(actor.Tenant)); err != nil {
		return Release{}, err
	}
	var r Release
	err := s.Store.View(ctx, func(tx Tx) error {
		var err error
		r, err = tx.Release(number)
		return err
	})
	return r.seenBy(actor), err
}

// FileDiff is one changed file between two releases. Nil means absent.
type FileDiff struct {
	Path   string
	Before []byte
	After  []byte
}

// Diff compares two releases, file by file, as far as the actor may read them.
func (s *Service) Diff(ctx context.Context, actor Actor, a, b uint64) ([]FileDiff, error) {
	if err := actor.May(ctx, "release.read", rightsTenant(actor.Tenant)); err != nil {
		return nil, err
	}
	from, err := s.content(ctx, a)
	if err != nil {
		return nil, err
	}
	to, err := s.content(ctx, b)
	if err != nil {
		return nil, err
	}
	diffs := []FileDiff{}
	for _, c := range from.Diff(to) {
		if !visible(actor, c.Path) {
			continue
		}
		before, _ := from.File(c.Path) // absent: a new file
		diffs = append(diffs, FileDiff{Path: c.Path, Before: before, After: c.Data})
	}
	return diffs, nil
}

// visible hides other tenants' files, the tables, which hold all tenants', and
// the self policies from a tenant's readers.
func visible(actor Actor, path string) bool {
	if actor.Tenant == "" {
		return true
	}
	layer, tenant, err := Place(path)
	return err == nil && layer != "self" && !strings.HasPrefix(path, "tables/") && (tenant == "" || tenant == actor.Tenant)
}
