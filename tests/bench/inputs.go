//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const (
	inputCount = 1200
	inputSeed  = 0x78696520 // fixed: everybody gets the same inputs, in every run
	tenant     = "acme"
)

// clock is what decisions in this process take for now. A server has its own;
// answers do not differ, since what the inputs say is past is long past, and
// what is not is far ahead.
var clock = time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)

// input is one request, in the form each side takes it in.
type input struct {
	request authz.Request
	ours    map[string]any // the request as Go maps
	peers   map[string]any // the same with the subject's roles, which a peer has no directory for
}

// people are the subjects and the roles that they are bound to.
var people = map[string][]string{
	"bench.engineer": {"engineer"},
	"bench.dba":      {"dba", "viewer"},
	"bench.network":  {"network_admin"},
	"bench.security": {"security_admin"},
	"bench.operator": {"plugin_operator"},
	"bench.viewer":   {"viewer"},
}

// generate returns n provisioning and plugin-call requests. About half are
// sound; the others have one or two defects, each of a kind that some shipped
// guardrail names.
func generate(n int) ([]input, error) {
	rng := rand.New(rand.NewPCG(inputSeed, 1))
	inputs := make([]input, 0, n)
	for i := range n {
		r := draft(rng, i)
		for range [...]int{0, 0, 0, 1, 1, 2}[rng.IntN(6)] {
			spoil(rng, r)
		}
		in, err := r.input()
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}

// request is one input while it is made.
type request struct {
	subject, action, kind, id string
	properties                map[string]any
	context                   map[string]any
}

// kinds are the requests that [draft] makes, each with how often among all.
var kinds = []struct {
	share int
	make  func(rng *rand.Rand, r *request)
}{
	{38, func(rng *rand.Rand, r *request) {
		r.set("bench.engineer", "ecs.instance.create", "ecs.instance")
		place(rng, r, "vpc_id", "vswitch_id")
		size(rng, r)
		data(rng, r)
		r.properties["image_id"] = "aliyun_3_x64_20G"
		r.properties["disk_gib"] = 40 + 20*rng.IntN(5)
		if rng.IntN(3) == 0 {
			r.properties["ingress"] = ingress(rng)
		}
	}},
	{12, func(rng *rand.Rand, r *request) {
		r.set("bench.dba", "rds.instance.create", "rds.instance")
		place(rng, r, "vpc_id", "vswitch_id")
		size(rng, r)
		data(rng, r)
		r.properties["engine"] = "mysql"
		r.properties["storage_gib"] = 100
	}},
	{8, func(rng *rand.Rand, r *request) {
		r.set("bench.engineer", "oss.bucket.create", "oss.bucket")
		place(rng, r)
		data(rng, r)
		r.properties["acl"] = "private"
	}},
	{10, func(rng *rand.Rand, r *request) {
		r.set("bench.network", "ecs.security_group.authorize", "ecs.security_group")
		place(rng, r)
		r.properties["tenant"] = tenant
		r.properties["ingress"] = ingress(rng)
	}},
	{5, func(rng *rand.Rand, r *request) {
		r.set("bench.network", "vpc.eip.allocate", "vpc.eip")
		place(rng, r)
		tags(rng, r, "internal")
		r.properties["ingress"] = []any{map[string]any{"port": 443, "cidrs": []any{"203.0.113.0/24"}}}
	}},
	{3, func(rng *rand.Rand, r *request) {
		r.set("bench.security", "ram.role.create", "ram.role")
		tags(rng, r, "internal")
		r.properties["template"] = pick(rng, "oss-bucket-reader", "oss-bucket-writer", "instance-observer")
	}},
	{9, func(rng *rand.Rand, r *request) {
		r.set("bench.viewer", pick(rng, "ecs.instance.describe", "rds.instance.describe", "oss.bucket.describe"), "")
		r.kind = r.action[:len(r.action)-len(".describe")]
		place(rng, r)
	}},
	{15, func(rng *rand.Rand, r *request) {
		r.set("bench.operator", "plugin.call", "plugin")
		r.id = "invoice-ocr"
		r.properties["capability"] = "extract"
		r.properties["region"] = "cn-hangzhou"
		r.properties["environment"] = pick(rng, "test", "production")
	}},
}

func draft(rng *rand.Rand, i int) *request {
	total := 0
	for _, k := range kinds {
		total += k.share
	}
	r := &request{
		id:         fmt.Sprintf("req-%04d/main", i),
		properties: map[string]any{},
		context:    map[string]any{"source_ip": fmt.Sprintf("198.51.100.%d", rng.IntN(254)+1)},
	}
	at := rng.IntN(total)
	for _, k := range kinds {
		if at -= k.share; at < 0 {
			k.make(rng, r)
			break
		}
	}
	return r
}

func (r *request) set(subject, action, kind string) {
	r.subject, r.action, r.kind = subject, action, kind
}

// place puts the resource into one of the tenant's regions, and into its
// network where the properties are named.
func place(rng *rand.Rand, r *request, names ...string) {
	zone := pick(rng,
		map[string]string{"region": "cn-hangzhou", "vpc_id": "vpc-bp1acme0hangzhou", "vswitch_id": "vsw-bp1acme0private"},
		map[string]string{"region": "cn-shanghai", "vpc_id": "vpc-uf6acme0shanghai", "vswitch_id": "vsw-uf6acme0private"})
	for _, name := range append(names, "region") {
		r.properties[name] = zone[name]
	}
}

func size(rng *rand.Rand, r *request) {
	cpu := pick(rng, 2, 4, 8)
	r.properties["cpu"], r.properties["memory_gib"] = cpu, 2*cpu
}

func data(rng *rand.Rand, r *request) {
	class := pick(rng, "public", "internal", "internal", "internal", "sensitive")
	r.properties["data_classification"] = class
	r.properties["encrypted"] = true
	tags(rng, r, class)
}

func tags(rng *rand.Rand, r *request, class string) {
	r.properties["tags"] = map[string]any{
		"itsm:tenant_code":         tenant,
		"itsm:request_id":          r.id[:len("req-0000")],
		"itsm:expire_at":           time.Date(2090, time.Month(rng.IntN(12)+1), 1, 0, 0, 0, 0, time.UTC).Format(time.RFC3339),
		"itsm:cost_center":         fmt.Sprintf("CC-%03d", rng.IntN(40)),
		"itsm:data_classification": class,
		"itsm:owner":               r.subject,
	}
}

// ingress is between one and three entries that are allowed, or reviewed.
func ingress(rng *rand.Rand) []any {
	var entries []any
	for range rng.IntN(3) + 1 {
		entries = append(entries, pick(rng,
			map[string]any{"port": 443, "cidrs": []any{fmt.Sprintf("203.0.113.%d/32", rng.IntN(256))}},
			map[string]any{"port": 8080, "cidrs": []any{"10.8.0.0/16"}, "protocol": "tcp"},
			map[string]any{"port": 443, "cidrs": []any{"10.8.4.0/24", "10.8.5.0/24"}},
		))
	}
	return entries
}

// spoil makes one defect; where the property is not there, it appears.
func spoil(rng *rand.Rand, r *request) {
	switch rng.IntN(12) {
	case 0:
		r.properties["cpu"] = pick[any](rng, 3, 64, "4", nil)
	case 1:
		r.properties["memory_gib"] = pick[any](rng, 7, 512, -8)
	case 2:
		r.properties["region"] = pick[any](rng, "us-east-1", "CN-Hangzhou", 7)
	case 3:
		r.properties["vpc_id"] = "vpc-of-somebody-else"
	case 4:
		delete(r.properties, "tags")
	case 5:
		if t, ok := r.properties["tags"].(map[string]any); ok {
			t["itsm:expire_at"] = pick(rng, "2020-01-01T00:00:00Z", "next year")
		}
	case 6:
		r.properties["ingress"] = []any{map[string]any{"port": pick[any](rng, 22, 3389, "20-30"), "cidrs": []any{"203.0.113.0/24"}}}
	case 7:
		r.properties["ingress"] = []any{map[string]any{"port": 443, "cidrs": []any{pick(rng, "0.0.0.0/0", "::/0", "0.0.0.0/1")}}}
	case 8:
		r.properties["public_ip"] = true
	case 9:
		r.properties["data_classification"] = pick(rng, "regulated", "secret")
	case 10:
		r.subject = "bench.viewer"
	case 11:
		r.properties["colour"] = "blue"
	}
}

// input converts the request into each side's form. Nothing is shared between
// them, so that no side can spoil another's.
func (r *request) input() (input, error) {
	in := input{ours: r.maps(nil), peers: r.maps(people[r.subject])}
	v, err := authz.ValueOf(in.ours)
	if err != nil {
		return in, err
	}
	in.request, err = authz.RequestOf(v)
	return in, err
}

func (r *request) maps(roles []string) map[string]any {
	subject := map[string]any{"type": "user", "id": r.subject}
	if roles != nil {
		list := make([]any, len(roles))
		for i, role := range roles {
			list[i] = role
		}
		subject["properties"] = map[string]any{"roles": list}
	}
	return map[string]any{
		"tenant":   tenant,
		"subject":  subject,
		"action":   map[string]any{"name": r.action},
		"resource": map[string]any{"type": r.kind, "id": r.id, "properties": clone(r.properties)},
		"context":  clone(r.context),
	}
}

// clone copies nested maps and lists.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for name, member := range v {
			c[name] = clone(member)
		}
		return c
	case []any:
		c := slices.Clone(v)
		for i := range c {
			c[i] = clone(c[i])
		}
		return c
	default:
		return v
	}
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }
