package gitsource

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// told is what was logged and reported last: a poll that finds the same again
// says nothing.
type told struct {
	head   plumbing.Hash
	result pap.SourceResult
	reason string
}

// news reports whether this was not said yet, and notes it.
func (s *Source) news(head plumbing.Hash, result pap.SourceResult, reason string) bool {
	now := told{head, result, reason}
	if s.told == now {
		return false
	}
	s.told = now
	return true
}

// begin notes that a commit is being checked for the first time.
func (s *Source) begin(c *commit) {
	if s.told.head == c.id || !s.news(c.id, pap.SourcePending, "") {
		return
	}
	s.set(func(st *pap.SourceStatus) {
		st.Result, st.Reason, st.Faults = pap.SourcePending, "", nil
		st.Seen = s.seen(c)
		st.CheckedAt = s.config.Now().UTC()
	})
	s.notifier.tell(report{Commit: c.id.String(), State: statePending, Description: "checking the policies"})
}

func (s *Source) seen(c *commit) *pap.SourceCommit {
	return &pap.SourceCommit{ID: c.id.String(), Author: c.author, Message: c.summary(), At: s.config.Now().UTC()}
}

// checked notes that there is nothing new.
func (s *Source) checked() {
	s.set(func(st *pap.SourceStatus) { st.CheckedAt, st.Failures = s.config.Now().UTC(), 0 })
}

// settled notes that a commit is in force, or changes nothing.
func (s *Source) settled(c *commit, result pap.SourceResult, release pap.Release) error {
	news := s.news(c.id, result, "")
	s.refused.head = plumbing.ZeroHash
	s.set(func(st *pap.SourceStatus) {
		st.Result, st.Reason, st.Faults, st.Failures = result, "", nil, 0
		st.CheckedAt = s.config.Now().UTC()
		if news {
			st.Seen = s.seen(c)
		}
		if release.Number > 0 {
			st.Published = &pap.SourceCommit{ID: release.Commit, Author: release.Author, Message: release.Note, Release: release.Number, At: release.CreatedAt}
		}
	})
	if !news {
		return nil
	}
	description := fmt.Sprintf("published as release %d", release.Number)
	if result == pap.SourceUnchanged {
		description = "changes no policy"
	}
	// Also by a node that found it published: its "pending" may have come last.
	s.notifier.tell(report{Commit: c.id.String(), State: stateSuccess, Description: description})
	return nil
}

// waits notes that people must say yes to a commit first.
func (s *Source) waits(c *commit, id string) {
	reason := "it waits for people to say yes: case " + id
	news := s.news(c.id, pap.SourceWaiting, reason)
	s.set(func(st *pap.SourceStatus) {
		st.Result, st.Reason, st.Faults, st.Failures = pap.SourceWaiting, reason, nil, 0
		st.CheckedAt = s.config.Now().UTC()
		if news || st.Seen == nil {
			st.Seen = s.seen(c)
		}
	})
	if !news {
		return
	}
	s.config.Log.Info("a commit of the policy source waits for people", "source", s.name, "commit", c.id.String(), "author", c.author, "case", id)
	s.notifier.tell(report{Commit: c.id.String(), State: statePending, Description: reason})
}

// refuse notes that a commit does not pass. Errors that are no refusal come
// back: they may be better next time.
func (s *Source) refuse(ctx context.Context, head plumbing.Hash, err error) error {
	if ctx.Err() != nil || !isRefusal(err) {
		return err
	}
	faults := faultsOf(err)
	reason := printable(err.Error(), 1000)
	if len(faults) > 0 {
		reason = fmt.Sprintf("%d faults; the active release stays", len(faults))
	}
	news := s.news(head, pap.SourceRefused, reason)
	c, unreadable := readCommit(s.clone.store, head)
	if unreadable != nil {
		c = &commit{id: head}
	}
	s.set(func(st *pap.SourceStatus) {
		st.Result, st.Reason, st.Faults, st.Failures = pap.SourceRefused, reason, faults, 0
		st.CheckedAt = s.config.Now().UTC()
		if news || st.Seen == nil {
			st.Seen = s.seen(c)
		}
		if s.last.Number > 0 {
			st.Published = &pap.SourceCommit{ID: s.last.Commit, Author: s.last.Author, Message: s.last.Note, Release: s.last.Number, At: s.last.CreatedAt}
		}
	})
	if !news {
		return nil
	}
	s.refusals.Add(1)
	s.config.Log.Error("a commit of the policy source is refused; the active release stays",
		"source", s.name, "commit", head.String(), "author", c.author, "error", err)
	s.notifier.tell(report{Commit: head.String(), State: stateFailure, Description: reason, Faults: faults})
	return nil
}

// maxFaults bounds what the status and a report hold.
const maxFaults = 100

// faultsOf lists what is wrong file by file.
func faultsOf(err error) []pap.SourceFault {
	var found []pap.SourceFault
	var own *refusal
	var files *pap.CommitError
	var faults pdp.Faults
	switch {
	case errors.As(err, &files):
		found = files.Files
	case errors.As(err, &faults):
		for _, f := range faults {
			found = append(found, pap.SourceFault{File: f.File, Line: f.Line, Policy: f.Policy, Rule: f.Rule, Message: f.Message})
		}
	case errors.As(err, &own) && own.file != "":
		found = []pap.SourceFault{{File: own.file, Message: own.reason}}
	}
	return found[:min(len(found), maxFaults)]
}
