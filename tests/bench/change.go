//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// changing is the tenant whose table changes.
const changing = 7

// change changes one tenant among many, of all of which one PEP holds the
// table, and counts from when it is published until a decision rests on it;
// beside it a stock OPA with long polling that is sent a delta of one value.
func (b *bench) change(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "change-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := b.startPushServer(ctx, b.splitTable())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := server.enrolPlatform(ctx); err != nil {
		return err
	}
	p, err := connectPEP(ctx, server, dir, "*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	peer, err := b.startDeltas(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()
	version := 1
	c, err := contest(ctx, fmt.Sprintf("one of %d tenants changes until one PEP decides by it", b.tenantCount), b.rounds, 0, [2]side{
		{"xiezhi, push", func(time.Duration) (sample, error) {
			version++
			return changeOne(ctx, server, p, version)
		}},
		{"opa, long polling and deltas", func(time.Duration) (sample, error) { return peer.publish(ctx) }},
	})
	if err != nil {
		return err
	}
	b.compared(c, atMost(2, c).aiming(1))
	return nil
}

// splitTable is a table with a file a tenant, and the policy that reads it.
func (b *bench) splitTable() []bundles.File {
	files := []bundles.File{{Path: "platform/limits.rego", Data: []byte(regionLimits)}}
	for t := range b.tenantCount {
		files = append(files, bundles.File{Path: tenantFile(t), Data: appendTenant(nil, t, 1)})
	}
	return files
}

func tenantFile(t int) string { return fmt.Sprintf("tables/plugins/t%06d.json", t) }

// changeOne shifts the tenant's regions by the version, and waits until the
// decision that it allows is the PEP's.
func changeOne(ctx context.Context, server *pushServer, p *pep.PEP, version int) (sample, error) {
	text := appendTenant(nil, changing+version, version)
	precondition := http.Header{"If-Match": {fmt.Sprintf(`"%d"`, version-1)}}
	stored, err := server.release(ctx, tenantFile(changing), string(text), precondition)
	if err != nil {
		return sample{}, err
	}
	properties, err := authz.ValueOf(map[string]any{"capability": "c0", "region": fmt.Sprintf("r%d", (changing+version)%5)})
	if err != nil {
		return sample{}, err
	}
	next := authz.Revision{Release: uint64(version)}
	d, err := p.Decide(ctx, authz.Request{
		Tenant: fmt.Sprintf("t%06d", changing), Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "region.use"},
		Resource: authz.Entity{Type: "plugin", ID: "p0", Properties: properties},
	}, pep.AtLeast(next))
	ended := time.Now()
	if err != nil {
		return sample{}, err
	}
	if d.Remote || !d.Revision.Includes(next) {
		return sample{}, fmt.Errorf("decided by %s, remotely %v; want in-process by %s", d.Revision, d.Remote, next)
	}
	for _, r := range d.Reasons {
		if r.Policy == "platform/limits" && r.Rule == "region_not_allowed" {
			return sample{}, fmt.Errorf("version %d is active, and its region is refused", version)
		}
	}
	return sample{ops: 1, wall: ended.Sub(stored)}, nil
}

// enrolPlatform makes an enforcement point that serves every tenant.
func (s *pushServer) enrolPlatform(ctx context.Context) error {
	for _, made := range []struct {
		path   string
		object map[string]any
	}{
		{"tenants", map[string]any{"id": fmt.Sprintf("t%06d", changing)}},
		{"subjects", map[string]any{"type": "service", "id": "everywhere"}},
		{"bindings", map[string]any{"subject": "service:everywhere", "role": "pep"}},
	} {
		if _, err := s.call(ctx, http.MethodPost, "/api/v1/"+made.path, nil, made.object, nil); err != nil {
			return err
		}
	}
	var token struct {
		Token string `json:"token"`
	}
	_, err := s.call(ctx, http.MethodPost, "/api/v1/tokens", nil, map[string]any{
		"subject": "service:everywhere", "rights": []string{"*"}, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339),
	}, &token)
	s.pep = token.Token
	return err
}

// startDeltas starts the OPA with the same table. It stands beside the packages
// and not among them, where OPA activates it many times as fast: below a path
// that rules have too it looks for conflicts in all of the data.
func (b *bench) startDeltas(ctx context.Context) (*polling, error) {
	var table struct{ Tenants map[string]any }
	if err := json.Unmarshal(tableText(b.tenantCount, 1), &table); err != nil {
		return nil, err
	}
	p := &polling{
		data:  map[string]any{"plugins": table.Tenants},
		place: []string{"plugins", fmt.Sprintf("t%06d", changing), "version"}, deltas: true,
	}
	return p, p.start(ctx, filepath.Join(b.bin, "opa"), b.content)
}
