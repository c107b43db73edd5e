package httpd

import (
	"context"
	"net/http"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func directoryRoutes() []Route {
	list := []string{"tenant", "limit", "cursor"}
	key := []string{"Idempotency-Key"}
	return append(identityRoutes(), []Route{
		{
			Method: http.MethodPost, Path: "/api/v1/tenants", Operation: "createTenant", Rights: []string{"tenant.write"},
			Summary: "Add a tenant", Headers: key, Body: "NewTenant", Status: http.StatusCreated, Answer: "Tenant", Replay: true,
			handle: (*call).createTenant,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/tenants", Operation: "listTenants", Rights: []string{"tenant.read"},
			Summary: "List tenants: the platform's readers see all, others their own", Query: []string{"limit", "cursor"},
			Status: http.StatusOK, Answer: "TenantList", handle: (*call).listTenants,
		},
		{
			Method: http.MethodPatch, Path: "/api/v1/tenants/{id}", Operation: "setTenant", Rights: []string{"tenant.write"},
			Summary: "Turn a tenant off or on", Headers: key, Body: "Disable", Status: http.StatusOK, Answer: "Tenant", Replay: true,
			handle: (*call).setTenant,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/subjects", Operation: "createSubject", Rights: []string{"directory.write"},
			Summary: "Add a person, service or agent", Headers: key, Body: "NewSubject", Status: http.StatusCreated, Answer: "Subject", Replay: true,
			handle: (*call).createSubject,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/subjects", Operation: "listSubjects", Rights: []string{"directory.read"},
			Summary: "List a tenant's subjects", Query: list, Status: http.StatusOK, Answer: "SubjectList", handle: (*call).listSubjects,
		},
		{
			Method: http.MethodPatch, Path: "/api/v1/subjects/{subject}", Operation: "setSubject", Rights: []string{"directory.write"},
			Summary: "Turn a subject off or on: user:li.wei", Query: []string{"tenant"}, Headers: key, Body: "Disable",
			Status: http.StatusOK, Answer: "Subject", Replay: true, handle: (*call).setSubject,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/roles", Operation: "createRole", Rights: []string{"directory.write"},
			Summary: "Add a role to a tenant, or on the platform one that all share", Headers: key, Body: "NewRole",
			Status: http.StatusCreated, Answer: "Role", Replay: true, handle: (*call).createRole,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/roles", Operation: "listRoles", Rights: []string{"directory.read"},
			Summary: "List a tenant's roles", Query: list, Status: http.StatusOK, Answer: "RoleList", handle: (*call).listRoles,
		},
		{
			Method: http.MethodPatch, Path: "/api/v1/roles/{name}", Operation: "setRole", Rights: []string{"directory.write"},
			Summary: "Turn a role off or on", Query: []string{"tenant"}, Headers: key, Body: "Disable",
			Status: http.StatusOK, Answer: "Role", Replay: true, handle: (*call).setRole,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/bindings", Operation: "createBinding", Rights: []string{"directory.write"},
			Summary: "Give a subject a role", Headers: key, Body: "NewBinding", Status: http.StatusCreated, Answer: "Binding", Replay: true,
			handle: (*call).createBinding,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/bindings", Operation: "listBindings", Rights: []string{"directory.read"},
			Summary: "List a tenant's bindings", Query: list, Status: http.StatusOK, Answer: "BindingList", handle: (*call).listBindings,
		},
		{
			Method: http.MethodDelete, Path: "/api/v1/bindings/{id}", Operation: "disableBinding", Rights: []string{"directory.write"},
			Summary: "Take a role back", Headers: key, Status: http.StatusOK, Answer: "Binding", Replay: true, handle: (*call).disableBinding,
		},
	}...)
}

// change is one write to the directory: what pap makes of in, and the revision.
type change[In, Out any] func(ctx context.Context, actor pap.Actor, in In) (Out, authz.Revision, error)

func write[In, Out any](c *call, status int, in In, do change[In, Out]) error {
	out, revision, err := do(c.ctx, c.actor(), in)
	return c.changed(status, out, revision, err)
}

// listing reads one page of a tenant's objects.
type listing[T any] func(ctx context.Context, actor pap.Actor, tenant, after string, limit int) (pap.Page[T], error)

func list[T any](c *call, read listing[T]) error {
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	tenant, err := c.tenant(c.query("tenant"))
	if err != nil {
		return err
	}
	page, err := read(c.ctx, c.actor(), tenant, after, limit)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, pageOf(page, itself[T]))
}

// disabled reads the body of a PATCH.
func (c *call) disabled() (bool, error) {
	body, err := decode[struct {
		Disabled *bool `json:"disabled"`
	}](c)
	if err == nil && body.Disabled == nil {
		err = &authz.FieldError{Path: "/disabled", Detail: "required: true or false"}
	}
	if err != nil {
		return false, err
	}
	return *body.Disabled, nil
}

// setDisabled turns what the path names off or on.
func setDisabled[Out any](c *call, name string, set func(ctx context.Context, actor pap.Actor, tenant, name string, disabled bool) (Out, authz.Revision, error)) error {
	key, err := c.param(name)
	if err != nil {
		return err
	}
	tenant, err := c.tenant(c.query("tenant"))
	if err != nil {
		return err
	}
	disabled, err := c.disabled()
	if err != nil {
		return err
	}
	return write(c, http.StatusOK, disabled, func(ctx context.Context, actor pap.Actor, disabled bool) (Out, authz.Revision, error) {
		return set(ctx, actor, tenant, key, disabled)
	})
}

func (c *call) createTenant() error {
	body, err := decode[struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}](c)
	if err != nil {
		return err
	}
	return write(c, http.StatusCreated, pap.Tenant{ID: body.ID, Name: body.Name}, c.config.PAP.CreateTenant)
}

func (c *call) listTenants() error {
	return list(c, func(ctx context.Context, actor pap.Actor, _, after string, limit int) (pap.Page[pap.Tenant], error) {
		return c.config.PAP.Tenants(ctx, actor, after, limit)
	})
}

func (c *call) setTenant() error {
	return setDisabled(c, "id", func(ctx context.Context, actor pap.Actor, _, id string, disabled bool) (pap.Tenant, authz.Revision, error) {
		return c.config.PAP.SetTenantDisabled(ctx, actor, id, disabled)
	})
}

func (c *call) createSubject() error {
	body, err := decode[struct {
		Tenant string `json:"tenant"`
		Type   string `json:"type"`
		ID     string `json:"id"`
		Name   string `json:"name"`
		Owner  string `json:"owner"`
	}](c)
	if err != nil {
		return err
	}
	if body.Tenant, err = c.tenant(body.Tenant); err != nil {
		return err
	}
	subject := pap.Subject{Tenant: body.Tenant, Type: body.Type, ID: body.ID, Name: body.Name, Owner: body.Owner}
	return write(c, http.StatusCreated, subject, c.config.PAP.CreateSubject)
}

func (c *call) listSubjects() error { return list(c, c.config.PAP.Subjects) }

func (c *call) setSubject() error {
	return setDisabled(c, "subject", c.config.PAP.SetSubjectDisabled)
}

func (c *call) createRole() error {
	body, err := decode[struct {
		Tenant   string `json:"tenant"`
		Name     string `json:"name"`
		Title    string `json:"title"`
		TitleZH  string `json:"title_zh"`
		Reserved bool   `json:"reserved"`
	}](c)
	if err != nil {
		return err
	}
	if body.Tenant, err = c.tenant(body.Tenant); err != nil {
		return err
	}
	role := pap.Role{Tenant: body.Tenant, Name: body.Name, Title: body.Title, TitleZH: body.TitleZH, Reserved: body.Reserved}
	return write(c, http.StatusCreated, role, c.config.PAP.CreateRole)
}

func (c *call) listRoles() error { return list(c, c.config.PAP.Roles) }

func (c *call) setRole() error { return setDisabled(c, "name", c.config.PAP.SetRoleDisabled) }

func (c *call) createBinding() error {
	body, err := decode[struct {
		Tenant  string `json:"tenant"`
		Subject string `json:"subject"`
		Role    string `json:"role"`
	}](c)
	if err != nil {
		return err
	}
	if body.Tenant, err = c.tenant(body.Tenant); err != nil {
		return err
	}
	binding := pap.Binding{Tenant: body.Tenant, Subject: body.Subject, Role: body.Role}
	return write(c, http.StatusCreated, binding, c.config.PAP.CreateBinding)
}

func (c *call) listBindings() error { return list(c, c.config.PAP.Bindings) }

func (c *call) disableBinding() error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	return write(c, http.StatusOK, id, c.config.PAP.DisableBinding)
}
