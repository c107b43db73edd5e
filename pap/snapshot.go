package pap

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Directory is a node's copy of the directory and the access tokens, kept
// current from the log. It is safe for concurrent use; the zero value is empty.
type Directory struct {
	mu        sync.RWMutex
	tenants   map[string]Tenant
	subjects  map[string]Subject
	roles     map[string]Role
	bindings  map[string]Binding
	bySubject map[string][]string // subject key → binding ids
	tokens    map[string]Token
	version   atomic.Uint64
}

// Version changes with every Apply that put something, before it returns.
func (d *Directory) Version() uint64 { return d.version.Load() }

// Apply puts records of the directory; other kinds are left to their readers.
// Nothing is applied where one record does not decode.
func (d *Directory) Apply(records []Record) error {
	puts := make([]func(), 0, len(records))
	for _, r := range records {
		set, err := d.decode(r)
		if err != nil {
			return fmt.Errorf("log position %d: %s %s: %w", r.Position, r.Kind, r.Key, err)
		}
		if set != nil {
			puts = append(puts, set)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tenants == nil {
		d.tenants, d.subjects, d.roles = map[string]Tenant{}, map[string]Subject{}, map[string]Role{}
		d.bindings, d.bySubject, d.tokens = map[string]Binding{}, map[string][]string{}, map[string]Token{}
	}
	for _, set := range puts {
		set()
	}
	if len(puts) > 0 {
		d.version.Add(1)
	}
	return nil
}

func (d *Directory) decode(r Record) (set func(), err error) {
	switch r.Kind {
	case KindTenant:
		return decoded(r, func(t Tenant) { d.tenants[r.Key] = t })
	case KindSubject:
		return decoded(r, func(s Subject) { d.subjects[r.Key] = s })
	case KindRole:
		return decoded(r, func(role Role) { d.roles[r.Key] = role })
	case KindToken:
		return decoded(r, func(t Token) { d.tokens[r.Key] = t })
	case KindBinding:
		return decoded(r, func(b Binding) {
			d.bindings[r.Key] = b
			key := subjectKey(b.Tenant, b.Subject)
			if !slices.Contains(d.bySubject[key], b.ID) {
				d.bySubject[key] = append(d.bySubject[key], b.ID)
			}
		})
	default:
		return nil, nil
	}
}

func decoded[T any](r Record, set func(T)) (func(), error) {
	var body T
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return nil, err
	}
	return func() { set(body) }, nil
}

// Roles returns the roles of a subject of this tenant ("" for the platform's
// own), sorted; a platform binding gives "platform:<role>". A subject or
// tenant that is disabled or unknown has none.
func (d *Directory) Roles(tenant, subject string) []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	key := subjectKey(tenant, subject)
	sub, known := d.subjects[key]
	if !known || sub.Disabled || !d.open(tenant) {
		return nil
	}
	var roles []string
	for _, id := range d.bySubject[key] {
		b := d.bindings[id]
		if b.Disabled || !d.roleHolds(tenant, b) {
			continue
		}
		if tenant == "" {
			roles = append(roles, Platform+":"+b.Role)
		} else {
			roles = append(roles, b.Role)
		}
	}
	slices.Sort(roles)
	return roles
}

// roleHolds reports whether the binding's role exists, is on, and was given by
// one who may give it: a name that a tenant used before the platform reserved
// it stays worth nothing.
func (d *Directory) roleHolds(tenant string, b Binding) bool {
	role, ok := d.roles[roleKey("", b.Role)]
	if !ok {
		role, ok = d.roles[roleKey(tenant, b.Role)]
	}
	return ok && !role.Disabled && (b.Reserved || !role.Reserved)
}

// open reports whether a tenant exists and is not disabled.
func (d *Directory) open(tenant string) bool {
	t, ok := d.tenants[tenant]
	return tenant == "" || ok && !t.Disabled
}

// Credential checks a token's id and secret hash at now and returns the token
// and its subject, or an error that says why it is refused.
func (d *Directory) Credential(id string, hash []byte, now time.Time) (Token, Subject, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	token, ok := d.tokens[id]
	// An unknown id costs the same compare as a known one.
	if matches := token.Matches(hash); !ok || !matches {
		return Token{}, Subject{}, fmt.Errorf("unknown token")
	}
	if err := token.Usable(now); err != nil {
		return Token{}, Subject{}, err
	}
	sub, err := d.standing(token.Tenant, token.Subject)
	if err != nil {
		return Token{}, Subject{}, err
	}
	return token, sub, nil
}

// PlatformAdmins lists the platform's subjects that hold any platform role,
// for the check that a self policy leaves an administrator.
func (d *Directory) PlatformAdmins() []Subject {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var admins []Subject
	for key, sub := range d.subjects {
		if sub.Tenant == "" && !sub.Disabled && len(d.bySubject[key]) > 0 {
			admins = append(admins, sub)
		}
	}
	return admins
}

// SubjectStanding returns a subject that may call now, or an error that says
// why it may not.
func (d *Directory) SubjectStanding(tenant, name string) (Subject, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.standing(tenant, name)
}

func (d *Directory) standing(tenant, name string) (Subject, error) {
	sub, ok := d.subjects[subjectKey(tenant, name)]
	if !ok || sub.Disabled {
		return Subject{}, fmt.Errorf("subject %s is disabled", name)
	}
	if !d.open(tenant) {
		return Subject{}, fmt.Errorf("tenant %s is disabled", tenant)
	}
	return sub, nil
}

// TokenStanding says why a token that was checked by [Directory.Credential]
// before is refused at now, or nil.
func (d *Directory) TokenStanding(id string, now time.Time) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	token, ok := d.tokens[id]
	if !ok {
		return fmt.Errorf("unknown token")
	}
	if err := token.Usable(now); err != nil {
		return err
	}
	_, err := d.standing(token.Tenant, token.Subject)
	return err
}
