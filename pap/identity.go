package pap

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// KindIdentity is an [Identity], under its ID.
const KindIdentity Kind = "identity"

// Identity says whose account of a chat platform it is. An account is bound to
// one subject at most; to bind it to another, it is unbound first.
type Identity struct {
	ID       string    `json:"id"`       // "<channel>:<platform>"
	Channel  string    `json:"channel"`  // "feishu", "matrix" or "webhook"
	Platform string    `json:"platform"` // the account as the platform names it
	Tenant   string    `json:"tenant"`   // of the subject, "" for the platform's own
	Subject  string    `json:"subject"`  // "user:li.wei"
	BoundBy  string    `json:"bound_by"` // the subject itself where it sent a code
	At       time.Time `json:"at"`
	Active   bool      `json:"active"`
}

// IdentityCode is a short code that was given to a subject.
type IdentityCode struct {
	Hash            bundles.Digest
	Tenant, Subject string
	ExpiresAt       time.Time
}

// IdentityCodes are the codes that were given and not used. The transactions
// of both databases implement it; codes are in no backup.
type IdentityCodes interface {
	// PutIdentityCode stores a code, forgets those that are over at now, and
	// returns how many its subject has then. ErrConflict: the hash is known.
	PutIdentityCode(c IdentityCode, now time.Time) (live int, err error)
	// TakeIdentityCode returns a code and forgets it, or is ErrNotFound.
	TakeIdentityCode(hash bundles.Digest) (IdentityCode, error)
}

// Bounds of codes, and of the names of accounts in bytes.
const (
	CodeLife        = 10 * time.Minute
	maxCodes        = 3 // of a subject at a time
	codeLength      = 8
	codeLetters     = "23456789ABCDEFGHJKMNPQRSTUVWXYZ" // none that is read as another
	maxPlatformName = 512
)

// BindIdentity says whose account it is. Needs identity.write in the tenant of
// the subject.
func (s *Service) BindIdentity(ctx context.Context, actor Actor, i Identity) (Identity, authz.Revision, error) {
	if err := actor.May(ctx, "identity.write", rightsTenant(i.Tenant)); err != nil {
		return Identity{}, authz.Revision{}, err
	}
	if _, _, err := SplitSubject(i.Subject); err != nil {
		return Identity{}, authz.Revision{}, field("/subject", "%v", err)
	}
	i.BoundBy = actor.Name
	if err := i.begin(s.Now()); err != nil {
		return Identity{}, authz.Revision{}, err
	}
	revision, err := s.change(ctx, actor, auditEntry{"identity.bind", i.Tenant, i.Subject, i}, func(tx Tx) error { return putIdentity(tx, i) })
	return i, revision, err
}

// begin fills in what the server knows, and checks the rest.
func (i *Identity) begin(now time.Time) error {
	switch {
	case i.Channel == "" || len(i.Channel) > 32 || strings.ContainsAny(i.Channel, ": /"):
		return field("/channel", "%.40q: want the name of a channel, such as feishu", i.Channel)
	case i.Platform == "" || len(i.Platform) > maxPlatformName:
		return field("/platform", "want the account's id on the platform, of at most %d bytes", maxPlatformName)
	}
	i.ID, i.At, i.Active = identityID(i.Channel, i.Platform), now.UTC(), true
	return nil
}

func identityID(channel, platform string) string { return channel + ":" + platform }

// putIdentity binds where subject and account are free to be bound.
func putIdentity(tx Tx, i Identity) error {
	subject, err := get[Subject](tx, KindSubject, subjectKey(i.Tenant, i.Subject))
	if err != nil {
		return orField(err, "/subject", "no subject %s in tenant %q; create it first", i.Subject, rightsTenant(i.Tenant))
	}
	if subject.Disabled {
		return field("/subject", "%s is disabled", i.Subject)
	}
	switch bound, err := IdentityOf(tx, i.Channel, i.Platform); {
	case err == nil && bound.Active:
		return fmt.Errorf("account %s is bound already; unbind it first: %w", i.ID, ErrConflict)
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	}
	return put(tx, KindIdentity, i.ID, i.Tenant, i.At, i)
}

// IdentityOf returns who an account is, as the transaction sees it, or
// ErrNotFound where nobody has bound it.
func IdentityOf(tx Tx, channel, platform string) (Identity, error) {
	i, err := get[Identity](tx, KindIdentity, identityID(channel, platform))
	if err == nil && !i.Active {
		return Identity{}, fmt.Errorf("account %s was unbound: %w", i.ID, ErrNotFound)
	}
	return i, err
}

// UnbindIdentity makes an account nobody's. Needs identity.write in the tenant
// of the subject that it was bound to.
func (s *Service) UnbindIdentity(ctx context.Context, actor Actor, id string) (Identity, authz.Revision, error) {
	// At home first: who may unbind nothing finds out of no account.
	if err := actor.May(ctx, "identity.write", rightsTenant(actor.Tenant)); err != nil {
		return Identity{}, authz.Revision{}, err
	}
	tenant, err := s.tenantOf(ctx, KindIdentity, id)
	if err != nil {
		return Identity{}, authz.Revision{}, err
	}
	if err := actor.May(ctx, "identity.write", rightsTenant(tenant)); err != nil {
		return Identity{}, authz.Revision{}, hide(actor, tenant, err)
	}
	var i Identity
	revision, err := s.change(ctx, actor, auditEntry{"identity.unbind", tenant, string(KindIdentity) + ":" + id, nil}, func(tx Tx) error {
		if i, err = get[Identity](tx, KindIdentity, id); err != nil {
			return err
		}
		if !i.Active || i.Tenant != tenant {
			return fmt.Errorf("identity %s: %w", id, ErrNotFound)
		}
		i.Active = false
		return put(tx, KindIdentity, id, tenant, s.Now().UTC(), i)
	})
	return i, revision, err
}

// Identities lists the accounts of a tenant's subjects, also those that were
// unbound. Needs identity.read there.
func (s *Service) Identities(ctx context.Context, actor Actor, tenant, after string, limit int) (Page[Identity], error) {
	if err := actor.May(ctx, "identity.read", rightsTenant(tenant)); err != nil {
		return Page[Identity]{}, err
	}
	return list[Identity](ctx, s, KindIdentity, tenant, after, limit)
}

// NewIdentityCode gives the actor a code that binds, for [CodeLife], the
// account that sends it. Only its hash is stored. Needs cheq.answer in the
// actor's tenant: an account is of use to who answers cases. A subject that
// has 3 codes already waits: ErrBusy.
func (s *Service) NewIdentityCode(ctx context.Context, actor Actor) (code string, expires time.Time, err error) {
	if err := actor.May(ctx, "cheq.answer", rightsTenant(actor.Tenant)); err != nil {
		return "", time.Time{}, err
	}
	code = newCode()
	expires = s.Now().UTC().Add(CodeLife)
	what := auditEntry{"identity.code", actor.Tenant, actor.Name, map[string]any{"expires_at": expires}}
	_, err = s.change(ctx, actor, what, func(tx Tx) error {
		codes, err := codesOf(tx)
		if err != nil {
			return err
		}
		live, err := codes.PutIdentityCode(IdentityCode{codeHash(code), actor.Tenant, actor.Name, expires}, s.Now())
		if err == nil && live > maxCodes {
			return fmt.Errorf("%s has %d codes, which end within %s: %w", actor.Name, maxCodes, CodeLife, ErrBusy)
		}
		return err
	})
	return code, expires, err
}

func newCode() string {
	var code []byte
	for one := make([]byte, 1); len(code) < codeLength; {
		_, _ = rand.Read(one) // crypto/rand.Read never fails
		if i := int(one[0]); i < 256/len(codeLetters)*len(codeLetters) {
			code = append(code, codeLetters[i%len(codeLetters)])
		}
	}
	return string(code)
}

// codeHash hashes a code as people type it. The code lives for minutes: its 39
// bits need no slow hash.
func codeHash(code string) bundles.Digest {
	return sha256.Sum256([]byte(strings.ToUpper(strings.TrimSpace(code))))
}

func codesOf(tx Tx) (IdentityCodes, error) {
	codes, ok := tx.(IdentityCodes)
	if !ok {
		return nil, fmt.Errorf("%T keeps no identity codes", tx)
	}
	return codes, nil
}

// BindByCode binds the account that sent a code to the subject that was given
// it, and uses the code up. A code that is wrong, used or over is ErrNotFound;
// an account that is bound already ErrConflict. Callers bound how often one
// account may try.
func (s *Service) BindByCode(ctx context.Context, channel, platform, code string) (Identity, error) {
	i := Identity{Channel: channel, Platform: platform}
	if err := i.begin(s.Now()); err != nil {
		return Identity{}, err
	}
	err := s.Store.Update(ctx, func(tx Tx) error {
		codes, err := codesOf(tx)
		if err != nil {
			return err
		}
		given, err := codes.TakeIdentityCode(codeHash(code))
		if err != nil {
			return err
		}
		if !s.Now().Before(given.ExpiresAt) {
			return fmt.Errorf("identity code: %w", ErrNotFound)
		}
		i.Tenant, i.Subject, i.BoundBy = given.Tenant, given.Subject, given.Subject
		if err := putIdentity(tx, i); err != nil {
			return err
		}
		head, err := tx.Head()
		if err != nil {
			return err
		}
		what := auditEntry{"identity.bind", i.Tenant, i.Subject, i}
		return tx.Audit(what.record(s, Actor{Name: i.Subject, Tenant: i.Tenant}, head))
	})
	return i, err
}
