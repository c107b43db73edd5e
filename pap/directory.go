package pap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Tenant is one customer of the installation.
type Tenant struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Disabled  bool      `json:"disabled"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
}

// Subject is a person, service or agent that may hold roles and tokens.
type Subject struct {
	Tenant string `json:"tenant"` // "" for the platform's own
	Type   string `json:"type"`
	ID     string `json:"id"`
	Name   string `json:"name,omitempty"`
	// Owner is the subject that a service or agent acts for, "user:li.wei".
	// Neither may mint a grant for the other.
	Owner     string    `json:"owner,omitempty"`
	Disabled  bool      `json:"disabled"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
}

// Role is a name that bindings give to subjects and policies ask for. A role
// without tenant is shared by all.
type Role struct {
	Tenant  string `json:"tenant"`
	Name    string `json:"name"`
	Title   string `json:"title,omitempty"`
	TitleZH string `json:"title_zh,omitempty"`
	// Reserved says that only the platform gives this role, in any tenant: it
	// is a duty of the platform's. Only a shared role is reserved.
	Reserved  bool      `json:"reserved,omitempty"`
	Disabled  bool      `json:"disabled"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
}

// Binding gives a subject a role in a tenant. A binding without tenant is the
// platform's: policies see the role as "platform:<role>", in every tenant.
type Binding struct {
	ID        string    `json:"id"`
	Tenant    string    `json:"tenant"`
	Subject   string    `json:"subject"` // "user:li.wei"
	Role      string    `json:"role"`
	Reserved  bool      `json:"reserved,omitempty"` // made by one who may give reserved roles
	Disabled  bool      `json:"disabled"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
}

var roleName = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,62}$`)

// CreateTenant adds a tenant. Needs tenant.write on the platform.
func (s *Service) CreateTenant(ctx context.Context, actor Actor, t Tenant) (Tenant, authz.Revision, error) {
	if err := actor.May(ctx, "tenant.write", Platform); err != nil {
		return Tenant{}, authz.Revision{}, err
	}
	if err := authz.ValidTenant(t.ID); err != nil {
		return Tenant{}, authz.Revision{}, field("/id", "%v", err)
	}
	if t.ID == Platform || t.ID == "self" {
		return Tenant{}, authz.Revision{}, field("/id", "%q is reserved", t.ID)
	}
	t.Disabled, t.CreatedBy, t.CreatedAt = false, actor.Name, s.Now().UTC()
	revision, err := s.change(ctx, actor, auditEntry{"tenant.create", t.ID, "tenant:" + t.ID, t}, func(tx Tx) error {
		if err := absent(tx, KindTenant, t.ID); err != nil {
			return err
		}
		return put(tx, KindTenant, t.ID, t.ID, t.CreatedAt, t)
	})
	return t, revision, err
}

// SetTenantDisabled turns a tenant off or on. Callers of a tenant that is off
// are refused, and its subjects hold no roles.
func (s *Service) SetTenantDisabled(ctx context.Context, actor Actor, id string, disabled bool) (Tenant, authz.Revision, error) {
	if err := actor.May(ctx, "tenant.write", Platform); err != nil {
		return Tenant{}, authz.Revision{}, err
	}
	return setDisabled(ctx, s, actor, KindTenant, id, id, disabled, func(t *Tenant) *bool { return &t.Disabled })
}

// Tenants lists tenants by id: those of the platform's readers, else the
// actor's own.
func (s *Service) Tenants(ctx context.Context, actor Actor, after string, limit int) (Page[Tenant], error) {
	filter := actor.Tenant
	if actor.Tenant == "" {
		filter = AnyTenant
	}
	if err := actor.May(ctx, "tenant.read", rightsTenant(actor.Tenant)); err != nil {
		return Page[Tenant]{}, err
	}
	return list[Tenant](ctx, s, KindTenant, filter, after, limit)
}

// CreateSubject adds a subject. Needs directory.write in its tenant.
func (s *Service) CreateSubject(ctx context.Context, actor Actor, sub Subject) (Subject, authz.Revision, error) {
	if err := actor.May(ctx, "directory.write", rightsTenant(sub.Tenant)); err != nil {
		return Subject{}, authz.Revision{}, err
	}
	probe := authz.Request{Tenant: "x", Subject: authz.Entity{Type: sub.Type, ID: sub.ID}, Action: authz.Action{Name: "x"}, Resource: authz.Entity{Type: "x", ID: "x"}}
	if err := probe.Validate(); err != nil {
		var f *authz.FieldError
		errors.As(err, &f)
		return Subject{}, authz.Revision{}, field(strings.TrimPrefix(f.Path, "/subject"), "%s", f.Detail)
	}
	if strings.Contains(sub.Type, ":") {
		return Subject{}, authz.Revision{}, field("/type", "a subject's type holds no colon")
	}
	if sub.Owner != "" {
		if _, _, err := SplitSubject(sub.Owner); err != nil {
			return Subject{}, authz.Revision{}, field("/owner", "%v", err)
		}
	}
	sub.Disabled, sub.CreatedBy, sub.CreatedAt = false, actor.Name, s.Now().UTC()
	key := subjectKey(sub.Tenant, SubjectName(sub.Type, sub.ID))
	revision, err := s.change(ctx, actor, auditEntry{"subject.create", sub.Tenant, SubjectName(sub.Type, sub.ID), sub}, func(tx Tx) error {
		if err := tenantExists(tx, sub.Tenant); err != nil {
			return err
		}
		if err := absent(tx, KindSubject, key); err != nil {
			return err
		}
		return put(tx, KindSubject, key, sub.Tenant, sub.CreatedAt, sub)
	})
	return sub, revision, err
}

// SetSubjectDisabled turns a subject off or on: its tokens are refused and it
// holds no roles.
func (s *Service) SetSubjectDisabled(ctx context.Context, actor Actor, tenant, name string, disabled bool) (Subject, authz.Revision, error) {
	if err := actor.May(ctx, "directory.write", rightsTenant(tenant)); err != nil {
		return Subject{}, authz.Revision{}, err
	}
	return setDisabled(ctx, s, actor, KindSubject, subjectKey(tenant, name), tenant, disabled, func(sub *Subject) *bool { return &sub.Disabled })
}

// Subjects lists a tenant's subjects.
func (s *Service) Subjects(ctx context.Context, actor Actor, tenant, after string, limit int) (Page[Subject], error) {
	if err := actor.May(ctx, "directory.read", rightsTenant(tenant)); err != nil {
		return Page[Subject]{}, err
	}
	return list[Subject](ctx, s, KindSubject, tenant, after, limit)
}

// CreateRole adds a role. Needs directory.write in its tenant, or on the
// platform for a shared one. A tenant's role may not have a shared one's name.
func (s *Service) CreateRole(ctx context.Context, actor Actor, r Role) (Role, authz.Revision, error) {
	if err := actor.May(ctx, "directory.write", rightsTenant(r.Tenant)); err != nil {
		return Role{}, authz.Revision{}, err
	}
	if !roleName.MatchString(r.Name) {
		return Role{}, authz.Revision{}, field("/name", "%q: want lower-case letters, digits and _.- beginning with a letter", r.Name)
	}
	if r.Reserved && r.Tenant != "" {
		return Role{}, authz.Revision{}, field("/reserved", "only a role that all tenants share can be reserved")
	}
	r.Disabled, r.CreatedBy, r.CreatedAt = false, actor.Name, s.Now().UTC()
	revision, err := s.change(ctx, actor, auditEntry{"role.create", r.Tenant, "role:" + r.Name, r}, func(tx Tx) error {
		if err := tenantExists(tx, r.Tenant); err != nil {
			return err
		}
		if err := absent(tx, KindRole, roleKey(r.Tenant, r.Name)); err != nil {
			return err
		}
		if err := absent(tx, KindRole, roleKey("", r.Name)); err != nil {
			return err
		}
		return put(tx, KindRole, roleKey(r.Tenant, r.Name), r.Tenant, r.CreatedAt, r)
	})
	return r, revision, err
}

// SetRoleDisabled turns a role off or on: bindings to it have no effect.
func (s *Service) SetRoleDisabled(ctx context.Context, actor Actor, tenant, name string, disabled bool) (Role, authz.Revision, error) {
	if err := actor.May(ctx, "directory.write", rightsTenant(tenant)); err != nil {
		return Role{}, authz.Revision{}, err
	}
	return setDisabled(ctx, s, actor, KindRole, roleKey(tenant, name), tenant, disabled, func(r *Role) *bool { return &r.Disabled })
}

// Roles lists a tenant's own roles, or the shared ones for "".
func (s *Service) Roles(ctx context.Context, actor Actor, tenant, after string, limit int) (Page[Role], error) {
	if err := actor.May(ctx, "directory.read", rightsTenant(tenant)); err != nil {
		return Page[Role]{}, err
	}
	return list[Role](ctx, s, KindRole, tenant, after, limit)
}

// CreateBinding gives a role. The subject must exist in the tenant, the role
// there or shared. Needs directory.write in the tenant, and on the platform
// where the role is reserved.
func (s *Service) CreateBinding(ctx context.Context, actor Actor, b Binding) (Binding, authz.Revision, error) {
	if err := actor.May(ctx, "directory.write", rightsTenant(b.Tenant)); err != nil {
		return Binding{}, authz.Revision{}, err
	}
	if _, _, err := SplitSubject(b.Subject); err != nil {
		return Binding{}, authz.Revision{}, field("/subject", "%v", err)
	}
	b.ID, b.Disabled, b.CreatedBy, b.CreatedAt = bindingID(b.Tenant, b.Subject, b.Role), false, actor.Name, s.Now().UTC()
	revision, err := s.change(ctx, actor, auditEntry{"binding.create", b.Tenant, b.Subject, b}, func(tx Tx) error {
		if err := tenantExists(tx, b.Tenant); err != nil {
			return err
		}
		if _, err := tx.Record(KindSubject, subjectKey(b.Tenant, b.Subject)); err != nil {
			return orField(err, "/subject", "no subject %s in tenant %q; create it first", b.Subject, rightsTenant(b.Tenant))
		}
		role, err := get[Role](tx, KindRole, roleKey("", b.Role))
		if errors.Is(err, ErrNotFound) {
			role, err = get[Role](tx, KindRole, roleKey(b.Tenant, b.Role))
		}
		if err != nil {
			return orField(err, "/role", "no role %q, neither shared nor in tenant %q; create it first", b.Role, rightsTenant(b.Tenant))
		}
		if b.Reserved = role.Reserved; b.Reserved {
			if err := actor.May(ctx, "directory.write", Platform); err != nil {
				return fmt.Errorf("role %s is given by the platform only: %w", b.Role, err)
			}
		}
		old, err := get[Binding](tx, KindBinding, b.ID)
		if err == nil && !old.Disabled {
			return ErrConflict
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return put(tx, KindBinding, b.ID, b.Tenant, b.CreatedAt, b)
	})
	return b, revision, err
}

// DisableBinding takes a role back.
func (s *Service) DisableBinding(ctx context.Context, actor Actor, id string) (Binding, authz.Revision, error) {
	tenant, err := s.tenantOf(ctx, KindBinding, id)
	if err != nil {
		return Binding{}, authz.Revision{}, err
	}
	if err := actor.May(ctx, "directory.write", rightsTenant(tenant)); err != nil {
		return Binding{}, authz.Revision{}, hide(actor, tenant, err)
	}
	return setDisabled(ctx, s, actor, KindBinding, id, tenant, true, func(b *Binding) *bool { return &b.Disabled })
}

// Bindings lists a tenant's bindings, optionally of one subject.
func (s *Service) Bindings(ctx context.Context, actor Actor, tenant, after string, limit int) (Page[Binding], error) {
	if err := actor.May(ctx, "directory.read", rightsTenant(tenant)); err != nil {
		return Page[Binding]{}, err
	}
	return list[Binding](ctx, s, KindBinding, tenant, after, limit)
}

func setDisabled[T any](ctx context.Context, s *Service, actor Actor, kind Kind, key, tenant string, disabled bool, flag func(*T) *bool) (T, authz.Revision, error) {
	var body T
	verb := map[bool]string{true: ".disable", false: ".enable"}[disabled]
	revision, err := s.change(ctx, actor, auditEntry{string(kind) + verb, tenant, string(kind) + ":" + key, nil}, func(tx Tx) error {
		var err error
		if body, err = get[T](tx, kind, key); err != nil {
			return err
		}
		*flag(&body) = disabled
		return put(tx, kind, key, tenant, s.Now().UTC(), body)
	})
	return body, revision, err
}

// tenantOf reads whose record it is, so that the right can be asked for there.
func (s *Service) tenantOf(ctx context.Context, kind Kind, key string) (string, error) {
	var tenant string
	err := s.Store.View(ctx, func(tx Tx) error {
		r, err := tx.Record(kind, key)
		tenant = r.Tenant
		return err
	})
	return tenant, err
}

// hide turns a refusal into "not found" where even the existence is another
// tenant's business.
func hide(actor Actor, tenant string, err error) error {
	if actor.Tenant != "" && actor.Tenant != tenant && errors.Is(err, ErrForbidden) {
		return ErrNotFound
	}
	return err
}

func tenantExists(tx Tx, id string) error {
	if id == "" {
		return nil
	}
	_, err := tx.Record(KindTenant, id)
	return orField(err, "/tenant", "no tenant %q; create it first", id)
}

// orField turns ErrNotFound into a field error and leaves others as they are.
func orField(err error, path, format string, args ...any) error {
	if errors.Is(err, ErrNotFound) {
		return field(path, format, args...)
	}
	return err
}

func subjectKey(tenant, name string) string { return rightsTenant(tenant) + "/" + name }

func roleKey(tenant, name string) string { return rightsTenant(tenant) + "/" + name }

// bindingID is derived, so that the same binding made twice is one.
func bindingID(tenant, subject, role string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{tenant, subject, role}, "\x00")))
	return "bnd-" + hex.EncodeToString(sum[:12])
}

// SharedRoles are the roles that the shipped policies ask for; bootstrap
// creates them.
func SharedRoles() []Role {
	var roles []Role
	for _, r := range [][3]string{
		{"admin", "Administrator", "管理员"},
		{"author", "Policy author", "策略作者"},
		{"service", "Service that asks for itself", "为自身提问的服务"},
		{"pep", "Policy enforcement point", "策略执行点"},
		{"auditor", "Auditor", "审计员"},
		{"engineer", "Engineer", "工程师"},
		{"dba", "Database administrator", "数据库管理员"},
		{"network_admin", "Network administrator", "网络管理员"},
		{"security_admin", "Security administrator", "安全管理员"},
		{"plugin_operator", "Plugin operator", "插件操作员"},
		{"tenant_admin", "Tenant administrator", "租户管理员"},
		{"viewer", "Viewer", "只读成员"},
		{"publisher", "Publisher of tenants' policies", "租户策略发布源"},
		{"guardrail_publisher", "Publisher of guardrails", "护栏发布源"},
	} {
		roles = append(roles, Role{Name: r[0], Title: r[1], TitleZH: r[2]})
	}
	return append(roles, Role{Name: "landing_zone_operator", Title: "Landing-zone operator", TitleZH: "落地区操作员", Reserved: true})
}
