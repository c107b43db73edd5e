// Package admin does what an operator with access to the store may do without
// a credential: make the first administrator, and mend a lock-out. Every step
// is audited under the operator's local name.
package admin

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
)

// LocalActor is the operator at the machine. No right is asked of it: it could
// write the database by hand.
func LocalActor() pap.Actor {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	anything := func(context.Context, string, string) error { return nil }
	return pap.Actor{Name: "local:" + name, May: anything, Could: anything, Rights: []string{"*"}}
}

// Bootstrapped is what Bootstrap made.
type Bootstrapped struct {
	Subject   string
	Token     string // shown once
	ExpiresAt time.Time
	Release   uint64 // that it published, 0 for none
}

// Bootstrap makes an administrator of the platform with a token, and publishes
// shipped where nothing is published yet. With restoreSelf it also puts the
// shipped self policies in force again, which ends a lock-out by policy.
func Bootstrap(ctx context.Context, s *pap.Service, name string, life time.Duration, shipped *bundles.Content, restoreSelf bool) (Bootstrapped, error) {
	actor := LocalActor()
	if err := EnsureRoles(ctx, s, actor); err != nil {
		return Bootstrapped{}, err
	}
	if _, _, err := s.SetRoleDisabled(ctx, actor, "", "admin", false); err != nil {
		return Bootstrapped{}, fmt.Errorf("turn role admin on: %w", err)
	}
	out := Bootstrapped{Subject: pap.SubjectName("user", name), ExpiresAt: s.Now().Add(life).UTC().Truncate(time.Second)}
	if err := EnsureSubject(ctx, s, actor, pap.Subject{Type: "user", ID: name}, "admin"); err != nil {
		return Bootstrapped{}, err
	}
	_, text, _, err := s.CreateToken(ctx, actor, pap.Token{Subject: out.Subject, Name: "bootstrap", Rights: []string{"*"}, ExpiresAt: out.ExpiresAt})
	if err != nil {
		return Bootstrapped{}, fmt.Errorf("make a token for %s: %w", out.Subject, err)
	}
	out.Token = text
	out.Release, err = publishShipped(ctx, s, actor, shipped, restoreSelf)
	return out, err
}

func publishShipped(ctx context.Context, s *pap.Service, actor pap.Actor, shipped *bundles.Content, restoreSelf bool) (uint64, error) {
	current, err := s.NewestContent(ctx)
	if err != nil {
		return 0, err
	}
	next, note := shipped, "shipped policies"
	switch {
	case len(current.Files()) == 0:
	case restoreSelf:
		if next, err = withSelf(current, shipped); err != nil {
			return 0, err
		}
		note = "shipped self policies, to end a lock-out"
	default:
		return 0, nil
	}
	release, _, err := s.PublishContent(ctx, actor, next, note, false)
	if errors.Is(err, pap.ErrNothingToPublish) {
		return 0, nil
	}
	return release.Number, err
}

// changeTemplate is what the shipped self policies name beside their folder.
const changeTemplate = "approvals/policy-change.yaml"

// withSelf replaces the folder self/ of current by that of shipped, with the
// approval template that it names where current has none.
func withSelf(current, shipped *bundles.Content) (*bundles.Content, error) {
	var files []bundles.File
	for _, f := range current.Files() {
		if !strings.HasPrefix(f.Path, "self/") {
			files = append(files, f)
		}
	}
	_, err := current.File(changeTemplate)
	for _, f := range shipped.Files() {
		if strings.HasPrefix(f.Path, "self/") || f.Path == changeTemplate && err != nil {
			files = append(files, f)
		}
	}
	return bundles.NewContent(files)
}

// EnsureRoles makes the shared roles that the shipped policies ask for.
func EnsureRoles(ctx context.Context, s *pap.Service, actor pap.Actor) error {
	for _, role := range pap.SharedRoles() {
		if _, _, err := s.CreateRole(ctx, actor, role); err != nil && !errors.Is(err, pap.ErrConflict) {
			return fmt.Errorf("make role %s: %w", role.Name, err)
		}
	}
	return nil
}

// EnsureSubject makes a subject where it does not exist, turns it on where it
// is off, and binds roles in its tenant.
func EnsureSubject(ctx context.Context, s *pap.Service, actor pap.Actor, sub pap.Subject, roles ...string) error {
	name := pap.SubjectName(sub.Type, sub.ID)
	_, _, err := s.CreateSubject(ctx, actor, sub)
	if errors.Is(err, pap.ErrConflict) {
		_, _, err = s.SetSubjectDisabled(ctx, actor, sub.Tenant, name, false)
	}
	if err != nil {
		return fmt.Errorf("make subject %s: %w", name, err)
	}
	for _, role := range roles {
		_, _, err := s.CreateBinding(ctx, actor, pap.Binding{Tenant: sub.Tenant, Subject: name, Role: role})
		if err != nil && !errors.Is(err, pap.ErrConflict) {
			return fmt.Errorf("bind %s to role %s: %w", name, role, err)
		}
	}
	return nil
}
