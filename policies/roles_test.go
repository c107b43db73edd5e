package policies_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// offered are all actions of the catalogue, by resource type.
var offered = map[string][]string{
	"ecs.instance":       {"create", "describe", "resize", "start", "stop", "delete"},
	"ecs.security_group": {"create", "describe", "authorize", "revoke", "delete"},
	"rds.instance":       {"create", "describe", "resize", "authorize", "delete"},
	"oss.bucket":         {"create", "describe", "delete"},
	"vpc.eip":            {"allocate", "associate", "describe", "release"},
	"vpc.vpc":            {"create", "describe"},
	"vpc.vswitch":        {"create", "describe"},
	"ram.user":           {"create", "describe", "delete"},
	"ram.role":           {"create", "describe", "delete"},
	"ram.policy":         {"create", "describe", "attach", "detach", "delete"},
	"plugin":             {"call"},
}

// duties says which of them a role may ask for, as patterns, with exceptions
// behind a "!".
var duties = map[string][]string{
	"viewer":                {"*.describe"},
	"engineer":              {"ecs.*", "oss.*", "*.describe"},
	"dba":                   {"rds.*", "*.describe"},
	"network_admin":         {"ecs.security_group.*", "vpc.eip.*", "*.describe"},
	"security_admin":        {"ram.*", "ecs.security_group.revoke", "*.describe"},
	"landing_zone_operator": {"vpc.vpc.create", "vpc.vswitch.create", "ecs.security_group.create", "*.describe"},
	"plugin_operator":       {"plugin.call"},
	"tenant_admin":          {"*", "!vpc.vpc.create", "!vpc.vswitch.create"},
	"stranger":              {},
	"admin":                 {}, // of Xiezhi itself, not of the tenant's resources
}

func mayAsk(role, action string) bool {
	matches := func(pattern string) bool {
		if suffix, ok := strings.CutPrefix(pattern, "*."); ok {
			return strings.HasSuffix(action, "."+suffix)
		}
		return pdp.MatchPattern(pattern, action)
	}
	return slices.ContainsFunc(duties[role], matches) && !slices.Contains(duties[role], "!"+action)
}

func TestRolesMayAskForTheirDutiesAndNothingElse(t *testing.T) {
	release := compile(t)
	for role := range duties {
		answers := policytest.Answers{"subject.roles": authz.Strings(role)}
		p := pdp.New(pdp.Config{Budget: time.Minute, Now: func() time.Time { return now }, NewID: func() string { return "id" }})
		p.Activate(&pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}, Directory: answers})
		for resourceType, verbs := range offered {
			for _, verb := range verbs {
				action := resourceType + "." + verb
				d, err := p.Decide(t.Context(), authz.Request{
					Tenant:   "acme",
					Subject:  authz.Entity{Type: "user", ID: "li.wei"},
					Action:   authz.Action{Name: action},
					Resource: authz.Entity{Type: resourceType, ID: "r"},
				}, pdp.Caller{})
				if err != nil {
					t.Fatal(err)
				}
				allowed := slices.ContainsFunc(d.Reasons, func(r authz.Reason) bool { return r.Effect == authz.Allow })
				if want := mayAsk(role, action); allowed != want {
					t.Errorf("%s may ask for %s: want %v, got %v", role, action, want, allowed)
				}
				if unknown := slices.ContainsFunc(d.Reasons, func(r authz.Reason) bool { return strings.HasPrefix(r.Rule, "unknown_") }); unknown {
					t.Errorf("%s is not in the catalogue: %+v", action, d.Reasons)
				}
			}
		}
	}
}
