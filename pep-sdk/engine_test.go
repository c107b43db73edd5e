package pep

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// tiny is an engine whose releases are one file, policy.txt, of lines such as
// "allow order.create": an effect, or "uses", "strict", "broken", and an action.
// A grant's key is the action that it opens, a restriction's the one it closes.
type tiny struct {
	mu       sync.Mutex
	actions  map[string]string
	strict   map[string]bool
	entries  map[string]stream.Entry
	revision authz.Revision
	applied  []Change

	compiles atomic.Int64
	hold     chan struct{} // compiling waits for it, if it is not nil
}

type tinyRelease struct {
	number  uint64
	actions map[string]string
	strict  map[string]bool
}

func (e *tiny) Compile(ctx context.Context, release uint64, content *bundles.Content) (Compiled, error) {
	e.compiles.Add(1)
	e.mu.Lock()
	hold := e.hold
	e.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	data, err := content.File("policy.txt")
	if err != nil {
		return nil, err
	}
	r := &tinyRelease{number: release, actions: map[string]string{}, strict: map[string]bool{}}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		word, action, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "allow", "deny", "review", "uses":
			r.actions[action] = word
		case "strict":
			r.strict[action] = true
		case "panic":
			panic("a broken engine")
		default:
			return nil, fmt.Errorf("policy.txt: %q is no rule", lines.Text())
		}
	}
	return r, nil
}

func (e *tiny) Apply(c Change) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, entry := range c.Entries {
		if entry.Key == "refused-by-the-engine" {
			return errors.New("the engine does not take it")
		}
	}
	e.applied = append(e.applied, c)
	if c.Release != nil {
		r := c.Release.(*tinyRelease)
		e.actions, e.strict, e.revision.Release = r.actions, r.strict, r.number
	}
	if c.Reset || e.entries == nil {
		e.entries = map[string]stream.Entry{}
	}
	for _, entry := range c.Entries {
		e.entries[string(entry.Kind)+" "+entry.Tenant+" "+entry.Key] = entry
	}
	e.revision.Position = c.Position
	return nil
}

// live reports whether an entry is held and counts at all times given.
func (e *tiny) live(kind stream.EntryKind, tenant, key string, at ...time.Time) bool {
	entry, ok := e.entries[string(kind)+" "+tenant+" "+key]
	if !ok {
		return false
	}
	var body struct {
		Ended    *time.Time     `json:"ended"`
		Validity authz.Validity `json:"validity"`
	}
	if err := json.Unmarshal(entry.Body, &body); err != nil || body.Ended != nil {
		return false
	}
	for _, t := range at {
		if !t.IsZero() && !body.Validity.Contains(t) {
			return false
		}
	}
	return true
}

func (e *tiny) Decide(_ context.Context, req authz.Request, f authz.Freshness) (Outcome, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out Outcome
	d := &out.Decision
	d.ID, d.Revision, d.Stale = rand.Text(), e.revision, f.Stale
	rule := e.actions[req.Action.Name]
	switch {
	case f.Age > f.StaleBound:
		d.Reasons = []authz.Reason{{Rule: authz.RuleStaleBound, Message: "not heard for too long"}}
	case e.live(stream.EntryRestriction, req.Tenant, req.Action.Name, f.Now):
		d.Reasons = []authz.Reason{{Rule: "restricted", Message: "restricted"}}
	case rule == "allow":
		d.Effect = authz.Allow
	case rule == "review" || rule == "uses":
		d.Effect, out.Needs = authz.Review, "approval"
		if f.Grants && e.live(stream.EntryGrant, req.Tenant, req.Action.Name, f.Now, f.Latest) {
			d.Effect, out.Needs = authz.Allow, ""
			if rule == "uses" {
				d.Effect, out.Needs = authz.Review, "uses"
			}
		}
	}
	decision, strict := *d, e.strict[req.Action.Name]
	out.Record = func(caller string) (authz.AuditRecord, bool, error) {
		return authz.AuditRecord{
			ID: decision.ID, Time: f.Now, Kind: authz.AuditDecision, Tenant: req.Tenant, Actor: caller, Action: req.Action.Name,
			Effect: decision.Effect.String(), Revision: decision.Revision.String(), Body: authz.StringValue("the decision"),
		}, strict, nil
	}
	return out, nil
}
