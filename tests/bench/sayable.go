//go:build unix

package main

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// sayable are the shipped policies that Cedar can say too: their rules about
// regions, sizes, classification, landing zones, roles and isolation. It has no
// way to walk over a list of ingress entries, to match a regular expression or
// to give limits and routes, so network, tags, catalogue, plugins and iam stay
// out, on all sides. Left out is also sizes/type_disagrees, which no input meets.
var sayable = []string{"regions", "sizes", "classification", "landing_zone", "roles", "isolation"}

// sayableInCedar are those rules in Cedar, the tenant's tables written out in
// it, which is quickest. A rule's id is its policy's and its own.
const sayableInCedar = `
@id("platform/regions/region_not_allowed")
forbid (principal, action in [Action::"ecs", Action::"rds", Action::"oss", Action::"vpc"], resource)
unless { resource has region && ["cn-hangzhou", "cn-shanghai"].contains(resource.region) };

@id("platform/sizes/cpu_not_offered")
forbid (principal, action in [Action::"ecs.instance.create", Action::"ecs.instance.resize", Action::"rds.instance.create", Action::"rds.instance.resize"], resource)
unless { resource has cpu && [2, 4, 8].contains(resource.cpu) };

@id("platform/sizes/memory_not_offered")
forbid (principal, action in [Action::"ecs.instance.create", Action::"ecs.instance.resize", Action::"rds.instance.create", Action::"rds.instance.resize"], resource)
when { resource has cpu && [2, 4, 8].contains(resource.cpu) }
unless { resource has memory_gib && resource.memory_gib == resource.cpu * 2 };

@id("platform/classification/classification_unknown")
forbid (principal, action in [Action::"ecs.instance.create", Action::"rds.instance.create", Action::"oss.bucket.create"], resource)
unless { resource has data_classification && ["public", "internal", "sensitive", "regulated"].contains(resource.data_classification) };

@id("platform/classification/encryption_refused")
forbid (principal, action in [Action::"ecs.instance.create", Action::"rds.instance.create", Action::"oss.bucket.create"], resource)
when { resource has data_classification && resource.data_classification != "public" && resource has encrypted && resource.encrypted != true };

@id("platform/classification/bucket_not_private")
forbid (principal, action in [Action::"ecs.instance.create", Action::"rds.instance.create", Action::"oss.bucket.create"], resource)
when { resource has acl && resource.acl != "private" };

@id("platform/classification/sensitive_data_needs_review")
forbid (principal, action in [Action::"ecs.instance.create", Action::"rds.instance.create", Action::"oss.bucket.create"], resource)
when { resource has data_classification && ["sensitive", "regulated"].contains(resource.data_classification) };

@id("platform/landing_zone/vpc_outside_landing_zone")
forbid (principal, action in [Action::"ecs", Action::"rds", Action::"vpc"], resource)
when { ["ecs.instance.create", "ecs.security_group.create", "rds.instance.create"].contains(context.action) || resource has vpc_id }
unless { resource has region && resource has vpc_id &&
  (resource.region == "cn-hangzhou" && resource.vpc_id == "vpc-bp1acme0hangzhou" || resource.region == "cn-shanghai" && resource.vpc_id == "vpc-uf6acme0shanghai") };

@id("platform/landing_zone/vswitch_outside_landing_zone")
forbid (principal, action in [Action::"ecs", Action::"rds", Action::"vpc"], resource)
when { ["ecs.instance.create", "rds.instance.create"].contains(context.action) || resource has vswitch_id }
unless { resource has region && resource has vswitch_id &&
  (resource.region == "cn-hangzhou" && ["vsw-bp1acme0private", "vsw-bp1acme0public"].contains(resource.vswitch_id) || resource.region == "cn-shanghai" && resource.vswitch_id == "vsw-uf6acme0private") };

@id("platform/isolation/resource_of_another_tenant")
forbid (principal, action, resource)
when { resource has tenant && resource.tenant != context.tenant };

@id("platform/isolation/subject_of_another_tenant")
forbid (principal, action, resource)
when { principal has tenant && principal.tenant != context.tenant };

@id("platform/roles/members_look")
permit (principal, action in Action::"describe", resource)
when { principal in [role::"viewer", role::"engineer", role::"dba", role::"network_admin", role::"security_admin", role::"landing_zone_operator", role::"tenant_admin"] };

@id("platform/roles/engineers_run_compute")
permit (principal in role::"engineer", action in [Action::"ecs.instance.create", Action::"ecs.instance.resize", Action::"ecs.instance.start", Action::"ecs.instance.stop", Action::"ecs.instance.delete",
  Action::"ecs.security_group.create", Action::"ecs.security_group.authorize", Action::"ecs.security_group.revoke", Action::"ecs.security_group.delete", Action::"oss.bucket.create", Action::"oss.bucket.delete"], resource);

@id("platform/roles/dbas_run_databases")
permit (principal in role::"dba", action in [Action::"rds.instance.create", Action::"rds.instance.resize", Action::"rds.instance.authorize", Action::"rds.instance.delete"], resource);

@id("platform/roles/network_admins_run_exposure")
permit (principal in role::"network_admin", action in [Action::"ecs.security_group.create", Action::"ecs.security_group.authorize", Action::"ecs.security_group.revoke", Action::"ecs.security_group.delete",
  Action::"vpc.eip.allocate", Action::"vpc.eip.associate", Action::"vpc.eip.release"], resource);

@id("platform/roles/security_admins_run_identities")
permit (principal in role::"security_admin", action in [Action::"ram.user.create", Action::"ram.user.delete", Action::"ram.role.create", Action::"ram.role.delete",
  Action::"ram.policy.create", Action::"ram.policy.attach", Action::"ram.policy.detach", Action::"ram.policy.delete", Action::"ecs.security_group.revoke"], resource);

@id("platform/roles/plugin_operators_call")
permit (principal in role::"plugin_operator", action == Action::"plugin.call", resource);
`

// provision is what a service would have at hand: a Go struct. A nil or empty
// member is absent.
type provision struct {
	action, kind, id, subject string
	roles                     []string
	region, vpc, vswitch      string
	class, acl, tenant        string
	cpu, memory               *int64
	encrypted                 *bool
}

// provisionOf reads an input, or reports that a member is of another type than
// the struct has: such an input is not compared.
func provisionOf(in *input) (p provision, ok bool) {
	ok = true
	p.action, p.kind, p.id, p.subject = in.request.Action.Name, in.request.Resource.Type, in.request.Resource.ID, in.request.Subject.ID
	p.roles = people[p.subject]
	properties, _ := in.ours["resource"].(map[string]any)["properties"].(map[string]any)
	for name, to := range map[string]*string{"region": &p.region, "vpc_id": &p.vpc, "vswitch_id": &p.vswitch, "data_classification": &p.class, "acl": &p.acl, "tenant": &p.tenant} {
		if v, given := properties[name]; given {
			text, is := v.(string)
			*to, ok = text, ok && is && text != ""
		}
	}
	for name, to := range map[string]**int64{"cpu": &p.cpu, "memory_gib": &p.memory} {
		if v, given := properties[name]; given {
			n, is := v.(int)
			n64 := int64(n)
			*to, ok = &n64, ok && is
		}
	}
	if v, given := properties["encrypted"]; given {
		flag, is := v.(bool)
		p.encrypted, ok = &flag, ok && is
	}
	return p, ok
}

// request makes the request that xiezhi decides.
func (p *provision) request() (authz.Request, error) {
	members := make([]authz.Member, 0, 9)
	for _, m := range [...]struct{ name, value string }{
		{"acl", p.acl}, {"data_classification", p.class}, {"region", p.region}, {"tenant", p.tenant}, {"vpc_id", p.vpc}, {"vswitch_id", p.vswitch},
	} {
		if m.value != "" {
			members = append(members, authz.Member{Name: m.name, Value: authz.StringValue(m.value)})
		}
	}
	for _, m := range [...]struct {
		name  string
		value *int64
	}{{"cpu", p.cpu}, {"memory_gib", p.memory}} {
		if m.value != nil {
			n, err := authz.IntValue(*m.value)
			if err != nil {
				return authz.Request{}, err
			}
			members = append(members, authz.Member{Name: m.name, Value: n})
		}
	}
	if p.encrypted != nil {
		members = append(members, authz.Member{Name: "encrypted", Value: authz.BoolValue(*p.encrypted)})
	}
	properties, err := authz.ObjectValue(members...)
	return authz.Request{
		Tenant: tenant, Subject: authz.Entity{Type: "user", ID: p.subject}, Action: authz.Action{Name: p.action},
		Resource: authz.Entity{Type: p.kind, ID: p.id, Properties: properties},
	}, err
}

// cedarPeer is cedar-go with the same rules.
type cedarPeer struct {
	policies *cedar.PolicySet
	actions  map[cedar.EntityUID]cedar.Entity
	roles    map[string]cedar.EntityUIDSet // by subject, as xiezhi has a directory
}

func newCedarPeer(inputs []input) (*cedarPeer, error) {
	parsed, err := cedar.NewPolicySetFromBytes("sayable.cedar", []byte(sayableInCedar))
	if err != nil {
		return nil, err
	}
	c := &cedarPeer{cedar.NewPolicySet(), map[cedar.EntityUID]cedar.Entity{}, map[string]cedar.EntityUIDSet{}}
	for _, p := range parsed.All() {
		c.policies.Add(cedar.PolicyID(p.Annotations()["id"]), p)
	}
	for i := range inputs {
		name := inputs[i].request.Action.Name
		family, _, _ := strings.Cut(name, ".")
		parents := []cedar.EntityUID{cedar.NewEntityUID("Action", cedar.String(family))}
		if strings.HasSuffix(name, ".describe") {
			parents = append(parents, cedar.NewEntityUID("Action", "describe"))
		}
		uid := cedar.NewEntityUID("Action", cedar.String(name))
		c.actions[uid] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(parents...)}
	}
	for subject, roles := range people {
		uids := make([]cedar.EntityUID, len(roles))
		for i, role := range roles {
			uids[i] = cedar.NewEntityUID("role", cedar.String(role))
		}
		c.roles[subject] = cedar.NewEntityUIDSet(uids...)
	}
	return c, nil
}

// entities are those of one request.
type entities struct {
	principal, resource cedar.Entity
	actions             map[cedar.EntityUID]cedar.Entity
}

// Get implements types.EntityGetter.
func (e *entities) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch uid {
	case e.principal.UID:
		return e.principal, true
	case e.resource.UID:
		return e.resource, true
	default:
		action, ok := e.actions[uid]
		return action, ok
	}
}

func (c *cedarPeer) decide(p *provision) (cedar.Decision, cedar.Diagnostic) {
	attributes := make(cedar.RecordMap, 9)
	for _, m := range [...]struct {
		name  cedar.String
		value string
	}{{"acl", p.acl}, {"data_classification", p.class}, {"region", p.region}, {"tenant", p.tenant}, {"vpc_id", p.vpc}, {"vswitch_id", p.vswitch}} {
		if m.value != "" {
			attributes[m.name] = cedar.String(m.value)
		}
	}
	if p.cpu != nil {
		attributes["cpu"] = cedar.Long(*p.cpu)
	}
	if p.memory != nil {
		attributes["memory_gib"] = cedar.Long(*p.memory)
	}
	if p.encrypted != nil {
		attributes["encrypted"] = cedar.Boolean(*p.encrypted)
	}
	e := &entities{
		principal: cedar.Entity{UID: cedar.NewEntityUID("user", cedar.String(p.subject)), Parents: c.roles[p.subject]},
		resource:  cedar.Entity{UID: cedar.NewEntityUID(cedar.EntityType(p.kind), cedar.String(p.id)), Attributes: cedar.NewRecord(attributes)},
		actions:   c.actions,
	}
	return cedar.Authorize(c.policies, e, cedar.Request{
		Principal: e.principal.UID, Action: cedar.NewEntityUID("Action", cedar.String(p.action)), Resource: e.resource.UID,
		Context: cedar.NewRecord(cedar.RecordMap{"tenant": cedar.String(tenant), "action": cedar.String(p.action)}),
	})
}

// written is the same rules by hand: the limit of what can be reached.
func written(p *provision, closed []string) (allowed bool, _ []string) {
	family, _, _ := strings.Cut(p.action, ".")
	hangzhou, shanghai := p.region == "cn-hangzhou", p.region == "cn-shanghai"
	cloud := family == "ecs" || family == "rds" || family == "vpc"
	if (cloud || family == "oss") && !hangzhou && !shanghai {
		closed = append(closed, "platform/regions/region_not_allowed")
	}
	instance := p.action == "ecs.instance.create" || p.action == "rds.instance.create"
	if instance || p.action == "ecs.instance.resize" || p.action == "rds.instance.resize" {
		switch {
		case p.cpu == nil || *p.cpu != 2 && *p.cpu != 4 && *p.cpu != 8:
			closed = append(closed, "platform/sizes/cpu_not_offered")
		case p.memory == nil || *p.memory != 2**p.cpu:
			closed = append(closed, "platform/sizes/memory_not_offered")
		}
	}
	if instance || p.action == "oss.bucket.create" {
		sensitive := p.class == "sensitive" || p.class == "regulated"
		if !sensitive && p.class != "public" && p.class != "internal" {
			closed = append(closed, "platform/classification/classification_unknown")
		}
		if p.class != "" && p.class != "public" && p.encrypted != nil && !*p.encrypted {
			closed = append(closed, "platform/classification/encryption_refused")
		}
		if p.acl != "" && p.acl != "private" {
			closed = append(closed, "platform/classification/bucket_not_private")
		}
		if sensitive {
			closed = append(closed, "platform/classification/sensitive_data_needs_review")
		}
	}
	if cloud && (instance || p.action == "ecs.security_group.create" || p.vpc != "") &&
		!(hangzhou && p.vpc == "vpc-bp1acme0hangzhou" || shanghai && p.vpc == "vpc-uf6acme0shanghai") {
		closed = append(closed, "platform/landing_zone/vpc_outside_landing_zone")
	}
	if cloud && (instance || p.vswitch != "") &&
		!(hangzhou && (p.vswitch == "vsw-bp1acme0private" || p.vswitch == "vsw-bp1acme0public") || shanghai && p.vswitch == "vsw-uf6acme0private") {
		closed = append(closed, "platform/landing_zone/vswitch_outside_landing_zone")
	}
	if p.tenant != "" && p.tenant != tenant {
		closed = append(closed, "platform/isolation/resource_of_another_tenant")
	}
	return len(closed) == 0 && mayByRole(p), closed
}

func mayByRole(p *provision) bool {
	if strings.HasSuffix(p.action, ".describe") && len(p.roles) > 0 && !slices.Contains(p.roles, "plugin_operator") {
		return true
	}
	for _, role := range p.roles {
		switch p.action {
		case "ecs.instance.create", "oss.bucket.create":
			if role == "engineer" {
				return true
			}
		case "rds.instance.create":
			if role == "dba" {
				return true
			}
		case "ecs.security_group.authorize":
			if role == "engineer" || role == "network_admin" {
				return true
			}
		case "vpc.eip.allocate":
			if role == "network_admin" {
				return true
			}
		case "ram.role.create":
			if role == "security_admin" {
				return true
			}
		case "plugin.call":
			if role == "plugin_operator" {
				return true
			}
		}
	}
	return false
}

// sayableRelease is the shipped policies that are [sayable].
func sayableRelease(repository fs.FS) (*bundles.Content, error) {
	return bundles.ReadFS(repository, func(p string) bool {
		folder, name, _ := strings.Cut(p, "/")
		stem, extension, _ := strings.Cut(name, ".")
		switch folder {
		case "platform":
			return slices.Contains(sayable, stem) && (extension == "rego" || extension == "cedar")
		case "tables", "approvals", pdp.AttributesFile, pdp.ObligationsFile:
			return true
		default:
			return false
		}
	})
}

// agreeSayable returns the inputs that the struct can hold, after all three
// found the same on each.
func agreeSayable(ctx context.Context, ours *engine, theirs *cedarPeer, inputs []input) ([]provision, error) {
	var all []provision
	for i := range inputs {
		p, ok := provisionOf(&inputs[i])
		if !ok {
			continue
		}
		req, err := p.request()
		if err != nil {
			return nil, err
		}
		d, err := ours.pdp.Decide(ctx, req, pdp.Caller{Name: "service:bench"})
		if err != nil {
			return nil, err
		}
		found, err := findingsOf(&d)
		if err != nil {
			return nil, fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		var wanted []string
		for _, f := range found {
			if f.effect != "ALLOW" {
				wanted = append(wanted, f.policy+"/"+f.rule)
			}
		}
		slices.Sort(wanted)
		decision, diagnostic := theirs.decide(&p)
		if len(diagnostic.Errors) > 0 {
			return nil, fmt.Errorf("input %d: cedar-go: %v", i, diagnostic.Errors)
		}
		var closed []string
		for _, r := range diagnostic.Reasons {
			if !decision { // else these are the permits
				closed = append(closed, string(r.PolicyID))
			}
		}
		slices.Sort(closed)
		allowed, byHand := written(&p, nil)
		slices.Sort(byHand)
		if !slices.Equal(wanted, closed) || !slices.Equal(wanted, byHand) || d.Allowed() != bool(decision) || d.Allowed() != allowed {
			return nil, fmt.Errorf("input %d: xiezhi says %s %v, cedar-go %s %v, by hand %v %v", i, d.Effect, wanted, decision, closed, allowed, byHand)
		}
		all = append(all, p)
	}
	if len(all) < len(inputs)/2 {
		return nil, fmt.Errorf("a struct holds %d of %d inputs: too few to compare", len(all), len(inputs))
	}
	return all, nil
}

// compareSayable compares deciding from a Go struct, the request made from it
// included, with cedar-go, and with the rules by hand.
func (b *bench) compareSayable(ctx context.Context, repository fs.FS) error {
	content, err := sayableRelease(repository)
	if err != nil {
		return err
	}
	ours, err := newEngine(ctx, content)
	if err != nil {
		return err
	}
	theirs, err := newCedarPeer(b.inputs)
	if err != nil {
		return err
	}
	provisions, err := agreeSayable(ctx, ours, theirs, b.inputs)
	if err != nil {
		return err
	}
	each := func(name string, one func(p *provision) error) side {
		return sideOf(name, len(provisions), func(i int) error { return one(&provisions[i]) })
	}
	xiezhi := each("xiezhi", func(p *provision) error {
		req, err := p.request()
		if err == nil {
			_, err = ours.pdp.Decide(ctx, req, pdp.Caller{Name: "service:bench"})
		}
		return err
	})
	c, err := contest(ctx, "guardrails that Cedar can say, from a Go struct", b.rounds, b.roundTime, [2]side{
		xiezhi, each("cedar-go", func(p *provision) error { theirs.decide(p); return nil }),
	})
	if err != nil {
		return err
	}
	b.compared(c, atLeast(1.5, c).aiming(2.5))
	var closed []string
	limit, err := contest(ctx, "the same beside Go by hand", b.rounds, b.roundTime, [2]side{
		xiezhi, each("by hand", func(p *provision) error { _, closed = written(p, closed[:0]); return nil }),
	})
	if err != nil {
		return err
	}
	b.compared(limit) // reported, no gate: nobody gets there
	return nil
}
