package opadoor

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/opabundle"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Names of bundles beside tenants'.
const (
	namePlatform = pap.Platform
	nameAll      = "all"
)

const (
	maxWait      = 60 * time.Second
	maxTenants   = 100
	buildTimeout = 10 * time.Second // for a name's first bundle
	writeTimeout = 2 * time.Minute  // for a slow reader
	readTimeout  = 30 * time.Second // for a slow writer
)

var errBusy = refuse(http.StatusServiceUnavailable, "overloaded", "too many different bundles are asked for at once")

// bundle answers GET /bundles/{name}.
func (d *Door) bundle(c *call) error {
	name := c.r.PathValue("name")
	tenants, err := audienceOf(name)
	if err != nil {
		return err
	}
	if err := d.maySubscribe(c, name, tenants); err != nil {
		return err
	}
	e, err := d.hold(name, tenants)
	if err != nil {
		return err
	}
	defer d.release(e)
	known := strings.Join(c.r.Header.Values("If-None-Match"), ",")
	wait := preferredWait(c.r.Header.Values("Prefer"))
	b, waited, err := d.await(c.r.Context(), e, known, wait)
	if err != nil {
		return err
	}
	if waited { // a right may have gone while the agent waited
		if c.caller, err = access.OfRequest(d.config.Guard, c.r); err != nil {
			return err
		}
		if err := d.maySubscribe(c, name, tenants); err != nil {
			return err
		}
	}
	if b.knownTo(known) {
		if matches(known, b.etag) {
			c.w.Header().Set("ETag", b.etag)
		}
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	c.w.Header().Set("ETag", b.etag)
	c.w.Header().Set("Content-Type", opabundle.ContentType)
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has one
	c.w.Header().Set("Content-Length", strconv.Itoa(len(b.data)))
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(b.data) // an agent that is gone asks again
	return nil
}

// audienceOf reads the name of a bundle.
func audienceOf(name string) ([]string, error) {
	switch name {
	case namePlatform:
		return nil, nil
	case nameAll:
		return []string{bundles.AllTenants}, nil
	}
	tenants := strings.Split(name, ",")
	if len(tenants) > maxTenants {
		return nil, refuse(http.StatusNotFound, "not_found", "a bundle is for at most 100 tenants")
	}
	for _, tenant := range tenants {
		if authz.ValidTenant(tenant) != nil || tenant == namePlatform || tenant == nameAll {
			return nil, refuse(http.StatusNotFound, "not_found", "no such bundle: want a tenant, tenants with commas between, platform or all")
		}
	}
	if sorted := bundles.Audience(tenants); bundles.AudienceName(sorted) != name {
		return nil, refuse(http.StatusNotFound, "not_found", "no such bundle: name tenants in order, each once: "+bundles.AudienceName(sorted))
	}
	return tenants, nil
}

// maySubscribe asks for the right in every tenant of the bundle. The
// platform's part is for whoever is given a bundle at all.
func (d *Door) maySubscribe(c *call, name string, tenants []string) error {
	if name == namePlatform || name == nameAll {
		tenant := pap.Platform
		if name == namePlatform && c.caller.Tenant != "" {
			tenant = c.caller.Tenant
		}
		return d.config.Guard.Allow(c.r.Context(), c.caller, rightSubscribe, tenant)
	}
	for _, tenant := range tenants {
		if c.caller.Tenant != "" && tenant != c.caller.Tenant {
			return fmt.Errorf("%w: this credential is tenant %s's and is given no bundle of tenant %s", pap.ErrForbidden, c.caller.Tenant, tenant)
		}
		if err := d.config.Guard.Allow(c.r.Context(), c.caller, rightSubscribe, tenant); err != nil {
			return err
		}
	}
	return nil
}

// await returns the entry's bundle once it is another than the agent knows, or
// when the time is over. waited says that the agent was held.
func (d *Door) await(ctx context.Context, e *entry, known string, wait time.Duration) (b *built, waited bool, err error) {
	var timer *time.Timer
	for {
		d.mu.Lock()
		b, failed, changed := e.current, e.failed, e.changed
		d.mu.Unlock()
		switch {
		case b == nil && failed != nil:
			return nil, waited, refuse(http.StatusServiceUnavailable, "unavailable", "this bundle cannot be built now; the server's log says why")
		case b != nil && (wait == 0 || !b.knownTo(known)):
			return b, waited, nil
		}
		if timer == nil {
			limit := wait
			if b == nil {
				limit = max(wait, buildTimeout)
			}
			timer = time.NewTimer(limit)
			defer timer.Stop()
		}
		over := false
		select {
		case <-ctx.Done():
			return nil, waited, ctx.Err()
		case <-changed:
		case <-timer.C:
			over = true
		case <-d.closed:
			over = true
		}
		waited = true
		if over && b == nil {
			return nil, waited, refuse(http.StatusServiceUnavailable, "unavailable", "this bundle is not built yet; ask again")
		}
		if over {
			return b, waited, nil
		}
	}
}

// knownTo reports whether an agent holds this bundle, or one of a newer
// release: another node gave it that, and this one is behind.
func (b *built) knownTo(known string) bool {
	if matches(known, b.etag) {
		return true
	}
	for tag := range strings.SplitSeq(known, ",") {
		text, ok := strings.CutPrefix(strings.Trim(strings.TrimSpace(tag), `"`), "r")
		number, _, found := strings.Cut(text, "-")
		release, err := strconv.ParseUint(number, 10, 64)
		if ok && found && err == nil && release > b.release {
			return true
		}
	}
	return false
}

// matches reads an If-None-Match header: a list of entity tags, which compare
// weakly (RFC 9110 §13.1.2).
func matches(known, etag string) bool {
	for tag := range strings.SplitSeq(known, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == etag || tag == "*" {
			return true
		}
	}
	return false
}

// preferredWait reads how long an agent asks to be held. OPA writes one
// preference with parameters: modes=snapshot,delta;wait=30 (RFC 7240).
func preferredWait(headers []string) time.Duration {
	for _, header := range headers {
		for part := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == ';' || r == ',' }) {
			value, ok := strings.CutPrefix(strings.TrimSpace(part), "wait=")
			if !ok {
				continue
			}
			seconds, err := strconv.Atoi(strings.Trim(value, `"`))
			if err != nil || seconds < 0 {
				return 0
			}
			return min(time.Duration(min(seconds, 3600))*time.Second, maxWait)
		}
	}
	return 0
}
