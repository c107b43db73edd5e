package gitsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Publisher is what the source uses of pap.
type Publisher interface {
	PublishCommit(ctx context.Context, actor pap.Actor, c pap.Commit) (pap.Release, authz.Revision, error)
	NewestOfSource(ctx context.Context, source string, after uint64) (pap.Release, error)
	NewestNumber(ctx context.Context) (uint64, error)
	Proposal(ctx context.Context, id string) (pap.Proposal, error)
}

// Config is what a Source is handed. Address, Data, Poll, Publisher, Actor, Now
// and Log are required.
type Config struct {
	Address string        // see [ParseAddress]
	Data    string        // the bare repository is in its folder git/
	Poll    time.Duration // at least one second

	Publisher Publisher
	// Subject is whose rights it publishes with, for the status; Actor returns
	// it with rights that are current.
	Subject string
	Actor   func(ctx context.Context) (pap.Actor, error)

	// Files, "" for none: of a token for HTTPS, of keys that commits must be
	// signed with, of the webhook's secret.
	TokenFile, SignersFile, WebhookSecretFile string

	// StatusURL is told what became of a commit, with the token of
	// StatusTokenFile; {commit} in it is filled. TargetURL is where people read more.
	StatusURL, StatusTokenFile, TargetURL string

	Now func() time.Time
	Log *slog.Logger
}

// MinPoll is the shortest time between two fetches that nobody asked for.
const MinPoll = time.Second

// maxBackoff bounds the time between tries of a source that cannot be reached,
// unless Poll is longer.
const maxBackoff = 5 * time.Minute

// Source publishes one branch of one repository. Its methods are safe for
// concurrent use.
type Source struct {
	config   Config
	name     string // the address's one form
	notifier *notifier
	hooks    limiter // calls of the webhook that are signed

	strangers limiter // calls that are not

	turn  chan struct{} // holds a value while a round is under way
	wake  chan struct{}
	clone *clone // of the round under way
	// refused is the head whose policies did not pass, or wait for people in a
	// case, and over which release; a round that nobody asked for does not
	// compile them again.
	refused struct {
		head  plumbing.Hash
		base  uint64
		waits string
	}
	told told        // what was said last
	last pap.Release // of this source, as far as is known

	mu     sync.Mutex
	status pap.SourceStatus

	fetches, failures, published, refusals atomic.Uint64
}

// New builds a source and refuses what could not work: an address that is
// none, files that cannot be read.
func New(c Config) (*Source, error) {
	address, err := ParseAddress(c.Address)
	if err != nil {
		return nil, err
	}
	if c.Poll < MinPoll {
		return nil, fmt.Errorf("policies_poll: %s: want at least %s", c.Poll, MinPoll)
	}
	for key, file := range map[string]string{
		"policies_token_file": c.TokenFile, "policies_webhook_secret_file": c.WebhookSecretFile, "policies_status_token_file": c.StatusTokenFile,
	} {
		if file == "" {
			continue
		}
		if _, err := readSecret(key, file); err != nil {
			return nil, err
		}
	}
	if c.SignersFile != "" {
		if _, err := readSigners(c.SignersFile); err != nil {
			return nil, err
		}
	}
	s := &Source{
		config: c, name: address.String(), clone: newClone(address, c.Data, c.TokenFile),
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	if s.notifier, err = newNotifier(c); err != nil {
		return nil, err
	}
	s.status = pap.SourceStatus{Source: s.name, Subject: c.Subject, Result: pap.SourceWaiting}
	return s, nil
}

// Run polls until ctx ends, and returns when nothing of it runs any more.
func (s *Source) Run(ctx context.Context) {
	var reports sync.WaitGroup
	reports.Go(func() { s.notifier.run(ctx) })
	defer reports.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
			asked = true
		}
		err := s.round(ctx, asked)
		if ctx.Err() != nil {
			return
		}
		timer.Reset(s.pause(err))
		if asked && !sleep(ctx, MinPoll) { // calls of the webhook meanwhile are one more round
			return
		}
	}
}

// pause is the time to the next round: doubled with each failure in a row.
func (s *Source) pause(err error) time.Duration {
	pause := s.config.Poll
	if err == nil {
		return pause
	}
	longest := max(maxBackoff, pause)
	for failures := s.Status().Failures; failures > 1 && pause < longest; failures-- {
		pause *= 2
	}
	return min(pause, longest)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Load fetches now and returns what became of the newest commit. An error says
// that the source could not be reached or checked.
func (s *Source) Load(ctx context.Context) (pap.SourceStatus, error) {
	err := s.round(ctx, true)
	return s.Status(), err
}

// Status returns what is known.
func (s *Source) Status() pap.SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Counts are what happened since the start.
type Counts struct {
	Fetches, Failures, Published, Refused, ReportsLost uint64
}

// Counts returns them.
func (s *Source) Counts() Counts {
	return Counts{s.fetches.Load(), s.failures.Load(), s.published.Load(), s.refusals.Load(), s.notifier.lost.Load()}
}

// round fetches, and publishes what is new. Its error is of what may be better
// next time; a commit that is refused is none.
func (s *Source) round(ctx context.Context, asked bool) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	err := s.follow(ctx, asked)
	if errors.Is(err, errCache) && ctx.Err() == nil {
		s.config.Log.Warn("the bare repository of the policy source is not good; it is fetched anew", "source", s.name, "error", err)
		if err = s.clone.forget(); err == nil {
			err = s.follow(ctx, asked)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.failures.Add(1)
		s.set(func(st *pap.SourceStatus) {
			st.Result, st.Reason, st.Faults = pap.SourceUnavailable, printable(err.Error(), 1000), nil
			st.Failures++
			st.CheckedAt = s.config.Now().UTC()
		})
		s.config.Log.Warn("the policy source could not be followed; the active release stays", "source", s.name, "failures", s.Status().Failures, "error", err)
	}
	return err
}

func (s *Source) set(change func(*pap.SourceStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// follow is one round: fetch, then publish until the newest commit is settled.
func (s *Source) follow(ctx context.Context, asked bool) error {
	head, err := s.fetch(ctx)
	if err != nil {
		return err
	}
	for tries := 0; ; tries++ {
		err := s.settle(ctx, head, asked)
		switch {
		case errors.Is(err, errBehind) && tries == 0:
			// Another node may have published a newer commit since our fetch.
			if head, err = s.fetch(ctx); err != nil {
				return err
			}
		case errors.Is(err, errBehind):
			return s.refuse(ctx, head, refuse("", "the branch's history was rewritten: commit %s does not descend from %s, which release %d was made of; "+
				"put %[2]s back under the branch, for example with git merge", head.String()[:12], s.last.Commit, s.last.Number))
		case errors.Is(err, pap.ErrVersion) && tries < maxRaces:
			// Another release came first, perhaps this very commit's by another node.
		default:
			return err
		}
	}
}

// maxRaces bounds how often one round starts again because others publish.
const maxRaces = 5

var errBehind = errors.New("the newest commit does not descend from the last published one")

func (s *Source) fetch(ctx context.Context) (plumbing.Hash, error) {
	s.fetches.Add(1)
	return s.clone.fetch(ctx)
}

// settle publishes a head, unless it is published or was refused before.
func (s *Source) settle(ctx context.Context, head plumbing.Hash, asked bool) error {
	c, err := readCommit(s.clone.store, head)
	if err != nil {
		return s.refuse(ctx, head, err)
	}
	if err := s.findLast(ctx); err != nil {
		return err
	}
	if s.last.Commit == head.String() {
		return s.settled(c, pap.SourcePublished, s.last)
	}
	base, err := s.config.Publisher.NewestNumber(ctx)
	if err != nil {
		return err
	}
	if !asked && s.refused.head == head && s.refused.base == base {
		if err := s.answered(ctx, head); err != nil {
			return err
		}
		s.checked()
		return nil
	}
	s.begin(c)
	release, err := s.publish(ctx, c)
	var needs *pap.NeedsReviewError
	switch {
	case errors.As(err, &needs) && needs.Case != "":
		s.refused.head, s.refused.base, s.refused.waits = head, base, needs.Case
		s.waits(c, needs.Case)
		return nil
	case errors.Is(err, pap.ErrNothingToPublish):
		return s.settled(c, pap.SourceUnchanged, s.last)
	case err != nil && isRefusal(err):
		if isFaulty(err) {
			s.refused.head, s.refused.base, s.refused.waits = head, base, ""
		}
		return s.refuse(ctx, head, err)
	case err != nil:
		return err
	}
	s.published.Add(1)
	s.last = release
	s.config.Log.Info("published from the policy source", "source", s.name, "commit", release.Commit, "author", release.Author, "release", release.Number)
	return s.settled(c, pap.SourcePublished, release)
}

// answered looks at what people say to a commit that waits. One that they said
// no to is refused; one that cannot be published any more is tried anew.
func (s *Source) answered(ctx context.Context, head plumbing.Hash) error {
	id := s.refused.waits
	if id == "" {
		return nil
	}
	p, err := s.config.Publisher.Proposal(ctx, id)
	if err != nil {
		return fmt.Errorf("read what became of case %s: %w", id, err)
	}
	switch p.State {
	case pap.ProposalDropped:
		s.refused.waits = ""
		return s.refuse(ctx, head, refuse("", "people did not say yes to it: case %s is %s", id, p.Reason))
	case pap.ProposalOutdated:
		s.refused.head, s.refused.waits = plumbing.ZeroHash, ""
	}
	return nil
}

// findLast looks for the newest release of this source, above the one that is
// known.
func (s *Source) findLast(ctx context.Context) error {
	newest, err := s.config.Publisher.NewestOfSource(ctx, s.name, s.last.Number)
	switch {
	case errors.Is(err, pap.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("find the last release of the policy source: %w", err)
	}
	s.last = newest
	return nil
}

// publish checks a commit's descent and signature, reads its files and
// publishes them.
func (s *Source) publish(ctx context.Context, c *commit) (pap.Release, error) {
	var before *bundles.Content
	if s.last.Commit != "" {
		last := plumbing.NewHash(s.last.Commit)
		ok, err := descends(ctx, s.clone.store, c.id, last)
		if err != nil {
			return pap.Release{}, err
		}
		if !ok {
			return pap.Release{}, errBehind
		}
		if before, err = s.read(ctx, last); err != nil {
			return pap.Release{}, fmt.Errorf("read the last published commit %s: %w", s.last.Commit, err)
		}
	}
	if s.config.SignersFile != "" {
		keys, err := readSigners(s.config.SignersFile)
		if err != nil {
			return pap.Release{}, err
		}
		if err := keys.verify(c, s.config.Now()); err != nil {
			return pap.Release{}, err
		}
	}
	content, err := readTree(ctx, s.clone.store, c.tree, s.clone.address.Folder)
	if err != nil {
		return pap.Release{}, err
	}
	actor, err := s.config.Actor(ctx)
	if err != nil {
		return pap.Release{}, fmt.Errorf("read the rights of %s: %w", s.config.Subject, err)
	}
	release, revision, err := s.config.Publisher.PublishCommit(ctx, actor, pap.Commit{
		Source: s.name, ID: c.id.String(), Author: c.author, Note: c.summary(), Content: content, Before: before,
	})
	if err != nil && !revision.IsZero() {
		s.config.Log.Warn("a commit is published but not applied here yet", "source", s.name, "commit", c.id.String(), "error", err)
		err = nil
	}
	return release, err
}

func (s *Source) read(ctx context.Context, id plumbing.Hash) (*bundles.Content, error) {
	c, err := readCommit(s.clone.store, id)
	if err != nil {
		return nil, err
	}
	return readTree(ctx, s.clone.store, c.tree, s.clone.address.Folder)
}

// isRefusal tells what is wrong with a commit from what is wrong around it.
func isRefusal(err error) bool {
	var own *refusal
	var files *pap.CommitError
	var faults pdp.Faults
	var text *authz.FieldError
	return errors.As(err, &own) || errors.As(err, &files) || errors.As(err, &faults) || errors.As(err, &text) ||
		errors.Is(err, pap.ErrForbidden) || errors.Is(err, pap.ErrText) || errors.Is(err, access.ErrLockout)
}

// isFaulty tells policies that do not pass, whoever publishes them; finding
// that out costs a compilation.
func isFaulty(err error) bool {
	var faults pdp.Faults
	return errors.As(err, &faults)
}
