package opadoor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Limits of one status report; it may carry the agent's whole metrics.
const (
	maxPackedStatus = 2 << 20
	maxStatus       = 16 << 20
	maxLabels       = 64
	maxReason       = 1024 // bytes of why a bundle was not taken
)

// report is a status report as OPA 1.22 sends it, as far as it is kept.
type report struct {
	Labels  map[string]string       `json:"labels"`
	Bundles map[string]bundleStatus `json:"bundles"`
	Bundle  *bundleStatus           `json:"bundle"` // of an agent that is configured in the old way
}

type bundleStatus struct {
	Name           string            `json:"name"`
	ActiveRevision string            `json:"active_revision"`
	ActivatedAt    time.Time         `json:"last_successful_activation"`
	Code           string            `json:"code"`
	Message        string            `json:"message"`
	Errors         []json.RawMessage `json:"errors"`
}

// status answers POST /status.
func (d *Door) status(c *call) error {
	if err := d.config.Guard.Allow(c.r.Context(), c.caller, rightSubscribe, homeOf(c.caller)); err != nil {
		return err
	}
	body, done, err := d.upload(c, maxPackedStatus, maxStatus)
	if err != nil {
		return err
	}
	defer done()
	r, err := readReport(body)
	if err != nil {
		return err
	}
	pep := r.pep(c.caller, d.config.Now())
	pep.Node, pep.Address = d.config.Node, c.r.RemoteAddr
	if err := d.config.Report(c.r.Context(), pep); err != nil {
		return fmt.Errorf("keep the status of %s: %w", pep.Key, err)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func readReport(body io.Reader) (*report, error) {
	decoder := json.NewDecoder(body)
	var r report
	if err := decoder.Decode(&r); err != nil {
		return nil, badBody("want a status report", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, badBody("something follows the report", nil)
	}
	if r.Bundle != nil {
		if r.Bundles == nil {
			r.Bundles = map[string]bundleStatus{}
		}
		r.Bundles[r.Bundle.Name] = *r.Bundle
	}
	if r.Labels["id"] == "" {
		return nil, badBody("labels.id: required", nil)
	}
	if err := pap.CheckKeys(r.Labels["id"]); err != nil || len(r.Labels["id"]) > 256 || len(r.Labels) > maxLabels {
		return nil, badBody(fmt.Sprintf("labels: want an id of at most 256 bytes, and at most %d labels", maxLabels), nil)
	}
	for name, value := range r.Labels {
		if len(name)+len(value) > maxReason || pap.CheckText(name, value) != nil {
			return nil, badBody(fmt.Sprintf("labels: %.64q is too long, or no text", name), nil)
		}
	}
	return &r, nil
}

// pep is the agent as the PAP knows PEPs. An agent counts as disconnected:
// nothing tells when it goes, only when it was last heard.
func (r *report) pep(c access.Caller, now time.Time) pap.PEP {
	id := r.Labels["id"]
	p := pap.PEP{
		Key: pap.PEPKey(c.Tenant, c.Name(), id), ID: id, Tenant: c.Tenant, Subject: c.Name(),
		Tenants: []string{bundles.AllTenants}, Labels: maps.Clone(r.Labels), Version: "opa " + r.Labels["version"],
		Kind: pap.KindOPA, SeenAt: now,
	}
	if c.Tenant != "" {
		p.Tenants = []string{c.Tenant}
	}
	delete(p.Labels, "id")
	delete(p.Labels, "version")
	for _, name := range slices.Sorted(maps.Keys(r.Bundles)) {
		b := r.Bundles[name]
		release, ours := releaseOf(b.ActiveRevision)
		if !ours && b.ActiveRevision != "" {
			continue // a bundle of somebody else's
		}
		if ours && (p.Revision.IsZero() || release < p.Revision.Release) {
			p.Revision, p.AckedAt = authz.Revision{Release: release}, b.ActivatedAt
		}
		if reason := b.reason(); reason != "" {
			p.Rejects, p.Rejected = p.Rejects+1, &pap.Rejection{Reason: name + ": " + reason, At: now}
		}
	}
	return p
}

// reason is why the agent did not take what it was sent.
func (b *bundleStatus) reason() string {
	if b.Code == "" && b.Message == "" && len(b.Errors) == 0 {
		return ""
	}
	parts := []string{b.Code, b.Message}
	for _, e := range b.Errors {
		parts = append(parts, string(e))
	}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	text := strings.ToValidUTF8(strings.ReplaceAll(strings.Join(parts, ": "), "\x00", ""), "\uFFFD")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}
