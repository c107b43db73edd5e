package pap

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Token is a personal access token (M1). Its secret is shown once; only the
// hash is stored. 256 random bits need no slow hash.
type Token struct {
	ID      string `json:"id"`
	Tenant  string `json:"tenant"`
	Subject string `json:"subject"` // "user:li.wei"
	Name    string `json:"name,omitempty"`
	// Rights bounds what the subject's roles allow; "*" does not bound.
	Rights    []string   `json:"rights"`
	Hash      []byte     `json:"hash"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// TokenPrefix begins every token, so that secret scanners find it.
const TokenPrefix = "xz_pat_"

// MaxTokenLife bounds ExpiresAt.
const MaxTokenLife = 366 * 24 * time.Hour

// SplitToken reads the id and the hash of the secret out of a token's text.
func SplitToken(text string) (id string, hash []byte, ok bool) {
	rest, ok := strings.CutPrefix(text, TokenPrefix)
	id, secret, found := strings.Cut(rest, "_")
	if !ok || !found || id == "" || len(secret) != 43 || len(text) > 128 {
		return "", nil, false
	}
	sum := sha256.Sum256([]byte(secret))
	return id, sum[:], true
}

// Matches compares in constant time.
func (t *Token) Matches(hash []byte) bool { return subtle.ConstantTimeCompare(t.Hash, hash) == 1 }

// Usable says why the token must be refused at now, or nil.
func (t *Token) Usable(now time.Time) error {
	switch {
	case t.RevokedAt != nil:
		return fmt.Errorf("the token was revoked at %s", t.RevokedAt.Format(time.RFC3339))
	case !now.Before(t.ExpiresAt):
		return fmt.Errorf("the token expired at %s", t.ExpiresAt.Format(time.RFC3339))
	default:
		return nil
	}
}

// CreateToken makes a token for a subject of the actor's reach and returns its
// text, which is not stored. Needs token.create in the subject's tenant, and a
// credential that is itself good for the rights.
func (s *Service) CreateToken(ctx context.Context, actor Actor, t Token) (Token, string, authz.Revision, error) {
	if err := actor.May(ctx, "token.create", rightsTenant(t.Tenant)); err != nil {
		return Token{}, "", authz.Revision{}, err
	}
	now := s.Now().UTC()
	switch beyond := slices.IndexFunc(t.Rights, func(right string) bool { return !actor.passesOn(right) }); {
	case len(t.Rights) == 0:
		return Token{}, "", authz.Revision{}, field("/rights", `name the rights, such as ["decide"], or ["*"] for all that the subject's roles give`)
	case slices.Contains(t.Rights, ""):
		return Token{}, "", authz.Revision{}, field("/rights", "a right is not empty")
	case beyond >= 0:
		return Token{}, "", authz.Revision{}, fmt.Errorf("a token cannot make one with more rights than its own, such as %q: %w", t.Rights[beyond], ErrForbidden)
	case !t.ExpiresAt.After(now):
		return Token{}, "", authz.Revision{}, field("/expires_at", "must lie in the future")
	case t.ExpiresAt.Sub(now) > MaxTokenLife:
		return Token{}, "", authz.Revision{}, field("/expires_at", "at most %d days ahead", int(MaxTokenLife.Hours()/24))
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // crypto/rand.Read never fails
	secretText := base64.RawURLEncoding.EncodeToString(secret)
	t.ID, t.CreatedBy, t.CreatedAt, t.RevokedAt = strings.ToLower(s.NewID()), actor.Name, now, nil
	text := TokenPrefix + t.ID + "_" + secretText
	_, t.Hash, _ = SplitToken(text)

	detail := map[string]any{"id": t.ID, "name": t.Name, "rights": t.Rights, "expires_at": t.ExpiresAt}
	revision, err := s.change(ctx, actor, auditEntry{"token.create", t.Tenant, t.Subject, detail}, func(tx Tx) error {
		sub, err := get[Subject](tx, KindSubject, subjectKey(t.Tenant, t.Subject))
		if err != nil {
			return orField(err, "/subject", "no subject %s in tenant %q; create it first", t.Subject, rightsTenant(t.Tenant))
		}
		if sub.Disabled {
			return field("/subject", "%s is disabled", t.Subject)
		}
		return put(tx, KindToken, t.ID, t.Tenant, now, t)
	})
	if err != nil && revision.IsZero() {
		return Token{}, "", authz.Revision{}, err
	}
	return t, text, revision, err
}

// passesOn reports whether the actor's credential is good for the right itself:
// else a token that may only make tokens would be good for everything.
func (a *Actor) passesOn(right string) bool {
	return slices.Contains(a.Rights, "*") || slices.Contains(a.Rights, right)
}

// RevokeToken ends a token. Needs token.revoke in its tenant.
func (s *Service) RevokeToken(ctx context.Context, actor Actor, id string) (Token, authz.Revision, error) {
	tenant, err := s.tenantOf(ctx, KindToken, id)
	if err != nil {
		return Token{}, authz.Revision{}, err
	}
	if err := actor.May(ctx, "token.revoke", rightsTenant(tenant)); err != nil {
		return Token{}, authz.Revision{}, hide(actor, tenant, err)
	}
	var t Token
	revision, err := s.change(ctx, actor, auditEntry{"token.revoke", tenant, "token:" + id, nil}, func(tx Tx) error {
		if t, err = get[Token](tx, KindToken, id); err != nil {
			return err
		}
		if t.RevokedAt == nil {
			now := s.Now().UTC()
			t.RevokedAt = &now
		}
		return put(tx, KindToken, id, tenant, s.Now().UTC(), t)
	})
	return t, revision, err
}

// Tokens lists a tenant's tokens without their hashes.
func (s *Service) Tokens(ctx context.Context, actor Actor, tenant, after string, limit int) (Page[Token], error) {
	if err := actor.May(ctx, "token.read", rightsTenant(tenant)); err != nil {
		return Page[Token]{}, err
	}
	page, err := list[Token](ctx, s, KindToken, tenant, after, limit)
	for i := range page.Items {
		page.Items[i].Hash = nil
	}
	return page, err
}
