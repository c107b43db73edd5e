package pap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Commit is one state of a policy repository, to be published as one release.
type Commit struct {
	// Source is the repository's address without credentials, ID the commit's
	// full id, Author who wrote it, Note what the author said.
	Source, ID, Author, Note string
	// Content is the commit's files.
	Content *bundles.Content
	// Before is the files of the commit of this source that was published last;
	// nil before the first.
	Before *bundles.Content
}

// CommitError refuses a commit, file by file. It changes nothing.
type CommitError struct {
	Files []SourceFault
}

func (e *CommitError) Error() string {
	lines := make([]string, len(e.Files))
	for i, f := range e.Files {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// maxCommitFaults bounds what one refusal names.
const maxCommitFaults = 100

// PublishCommit publishes a repository's files as the next release (C6). The
// actor is the source's subject, whose rights say which layers and tenants it
// may publish; self/ is never a source's.
//
// In every layer or tenant that the actor may publish and that the repository
// holds, or held at the last commit, the repository is the whole truth: what it
// no longer has is removed. All else stays as it is in the newest release; a
// file there that the repository has otherwise is a [*CommitError]. So is a
// file that somebody else changed since the last commit of this source, unless
// the commit makes it what it is now: a hotfix is never undone unseen.
func (s *Service) PublishCommit(ctx context.Context, actor Actor, c Commit) (Release, authz.Revision, error) {
	base, current, err := s.newestContent(ctx)
	if err != nil {
		return Release{}, authz.Revision{}, err
	}
	merge := sourceMerge{commit: c, current: current, may: map[sourcePlace]error{}, held: map[sourcePlace]bool{}}
	if err := merge.places(ctx, actor); err != nil {
		return Release{}, authz.Revision{}, err
	}
	next, err := merge.next()
	if err != nil {
		return Release{}, authz.Revision{}, err
	}
	if err := s.nameChangers(ctx, merge.conflicts); err != nil {
		return Release{}, authz.Revision{}, err
	}
	if faults := slices.Concat(merge.beyond, merge.conflicts); len(faults) > 0 {
		return Release{}, authz.Revision{}, &CommitError{Files: faults[:min(len(faults), maxCommitFaults)]}
	}
	r := Release{Note: c.Note, Source: c.Source, Commit: c.ID, Author: c.Author}
	return s.publish(ctx, actor, base, current, next, r, &Proposal{})
}

// sourcePlace is what one right to publish covers.
type sourcePlace struct{ layer, tenant string }

// sourceMerge makes the next release of the newest one and a commit.
type sourceMerge struct {
	commit  Commit
	current *bundles.Content
	may     map[sourcePlace]error // nil: the source may publish there
	held    map[sourcePlace]bool  // the repository has, or had, files there

	beyond    []SourceFault // files that are not the source's
	conflicts []SourceFault // files that others changed
}

var errNeverSelf = fmt.Errorf("no policy source publishes self/: %w", ErrForbidden)

// places asks for the rights of every layer and tenant that the repository holds.
func (m *sourceMerge) places(ctx context.Context, actor Actor) error {
	for _, content := range []*bundles.Content{m.commit.Content, m.commit.Before} {
		if content == nil {
			continue
		}
		for _, f := range content.Files() {
			layer, tenant, err := Place(f.Path)
			if err != nil {
				if content == m.commit.Content {
					m.beyond = append(m.beyond, SourceFault{File: f.Path, Message: err.Error()})
				}
				continue
			}
			p := sourcePlace{layer, tenant}
			if m.held[p] {
				continue
			}
			m.held[p] = true
			if layer == "self" {
				m.may[p] = errNeverSelf
				continue
			}
			err = mayPublish(ctx, actor, []bundles.Change{{Path: f.Path}})
			if err != nil && !errors.Is(err, ErrForbidden) {
				return err
			}
			m.may[p] = err
		}
	}
	return nil
}

// governed reports whether the repository is the truth for a path.
func (m *sourceMerge) governed(path string) bool {
	layer, tenant, err := Place(path)
	p := sourcePlace{layer, tenant}
	return err == nil && m.held[p] && m.may[p] == nil
}

func (m *sourceMerge) next() (*bundles.Content, error) {
	var files []bundles.File
	for _, f := range m.current.Files() {
		if !m.governed(f.Path) {
			files = append(files, f)
			continue
		}
		m.check(f.Path)
	}
	for _, f := range m.commit.Content.Files() {
		layer, tenant, err := Place(f.Path)
		if err != nil {
			continue // noted by places
		}
		if refused := m.may[sourcePlace{layer, tenant}]; refused != nil {
			if now, err := m.current.File(f.Path); err != nil || !bytes.Equal(now, f.Data) {
				m.beyond = append(m.beyond, SourceFault{File: f.Path, Message: "differs from the active release, and the source may not publish it: " + refused.Error()})
			}
			continue
		}
		if _, err := m.current.File(f.Path); err != nil {
			m.check(f.Path)
		}
		files = append(files, f)
	}
	return bundles.NewContent(files)
}

// check notes a file that somebody else changed since the last commit and that
// the commit would make something else again.
func (m *sourceMerge) check(path string) {
	if m.commit.Before == nil {
		return // the first commit of a source takes over
	}
	before, now, next := at(m.commit.Before, path), at(m.current, path), at(m.commit.Content, path)
	if !now.equal(before) && !now.equal(next) {
		m.conflicts = append(m.conflicts, SourceFault{File: path})
	}
}

// version is a file at one time.
type version struct {
	data   []byte
	exists bool
}

func at(c *bundles.Content, path string) version {
	data, err := c.File(path)
	return version{data, err == nil}
}

func (v version) equal(o version) bool { return v.exists == o.exists && bytes.Equal(v.data, o.data) }

// nameChangers says in each fault who changed the file.
func (s *Service) nameChangers(ctx context.Context, faults []SourceFault) error {
	return s.Store.View(ctx, func(tx Tx) error {
		for i := range faults {
			who := "somebody else"
			doc, err := tx.Document(faults[i].File)
			switch {
			case err == nil && !doc.Draft:
				who = fmt.Sprintf("%s, in release %d,", doc.UpdatedBy, doc.Release)
			case err != nil && !errors.Is(err, ErrNotFound):
				return err
			}
			faults[i].Message = fmt.Sprintf("%s changed it outside the repository; commit the same change, or publish what the repository had", who)
		}
		return nil
	})
}

// What the doors of a policy source answer.
var (
	// ErrSignature means that a webhook's call was not signed with the secret.
	ErrSignature = errors.New("the call is not signed with this server's webhook secret")
	// ErrBusy means that there are too many calls of its kind.
	ErrBusy = errors.New("too many calls; try again later")
)

// NewestNumber returns the number of the newest release, 0 before the first.
func (s *Service) NewestNumber(ctx context.Context) (uint64, error) {
	var number uint64
	err := s.Store.View(ctx, func(tx Tx) error {
		head, err := tx.Head()
		number = head.Release
		return err
	})
	return number, err
}

// NewestOfSource returns the newest release that came from a source and whose
// number is above after, without Files; ErrNotFound where there is none.
func (s *Service) NewestOfSource(ctx context.Context, source string, after uint64) (Release, error) {
	found := Release{}
	err := s.Store.View(ctx, func(tx Tx) error {
		before := uint64(0)
		for {
			page, err := tx.Releases(before, 1000)
			if err != nil {
				return err
			}
			for _, r := range page {
				if r.Number <= after {
					return ErrNotFound
				}
				if r.Source == source {
					found = r
					return nil
				}
				before = r.Number
			}
			if len(page) == 0 {
				return ErrNotFound
			}
		}
	})
	return found, err
}

// SourceResult says what became of the newest commit of a policy source.
type SourceResult string

const (
	SourceWaiting     SourceResult = "waiting"     // nothing was fetched yet, or people must say yes first
	SourcePending     SourceResult = "pending"     // being checked
	SourcePublished   SourceResult = "published"   // it is a release
	SourceUnchanged   SourceResult = "unchanged"   // it changes no policy
	SourceRefused     SourceResult = "refused"     // the active release stays
	SourceUnavailable SourceResult = "unavailable" // it could not be fetched or checked; tried again
)

// SourceFault is one thing wrong with a commit.
type SourceFault struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // from 1; 0 where the whole file is meant
	Policy  string `json:"policy,omitempty"`
	Rule    string `json:"rule,omitempty"`
	Message string `json:"message"`
}

func (f SourceFault) String() string {
	if f.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
	}
	return f.File + ": " + f.Message
}

// SourceCommit is a commit as the status shows it.
type SourceCommit struct {
	ID      string    `json:"commit"`
	Author  string    `json:"author"`
	Message string    `json:"message"`           // its first line
	Release uint64    `json:"release,omitempty"` // that it became
	At      time.Time `json:"at"`                // when this node saw it, or when it was published
}

// SourceStatus is what a node knows of its policy source (C6).
type SourceStatus struct {
	Source    string        `json:"source"`
	Subject   string        `json:"subject"` // whose rights it publishes with
	Result    SourceResult  `json:"result"`
	Reason    string        `json:"reason,omitempty"`
	Faults    []SourceFault `json:"faults,omitempty"`
	Seen      *SourceCommit `json:"seen,omitempty"`
	Published *SourceCommit `json:"published,omitempty"`
	CheckedAt time.Time     `json:"checked_at,omitzero"` // when the source was last reached, or tried
	Failures  int           `json:"failures,omitempty"`  // in a row
}

// SeenBy leaves out what is not the actor's business: a tenant's readers learn
// whether the newest commit was published, and the faults in their own files.
func (s SourceStatus) SeenBy(actor Actor) SourceStatus {
	if actor.Tenant == "" {
		return s
	}
	s.Reason, s.Subject = "", ""
	s.Faults = slices.DeleteFunc(slices.Clone(s.Faults), func(f SourceFault) bool {
		_, tenant, err := Place(f.File)
		return err != nil || tenant != actor.Tenant
	})
	for _, c := range []**SourceCommit{&s.Seen, &s.Published} {
		if *c != nil {
			*c = &SourceCommit{ID: (*c).ID, Release: (*c).Release, At: (*c).At}
		}
	}
	return s
}
