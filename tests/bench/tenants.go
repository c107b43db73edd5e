//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// tenants compares deciding by a table of many tenants with one of few, bounds
// what the table takes in memory, and what decisions take while it is replaced
// or a release activates. Each table is in a process of its own, so that the
// memory is its own.
func (b *bench) tenants(ctx context.Context) (err error) {
	many, err := startChild(self("tenants", strconv.Itoa(b.tenantCount)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, many.stop()) }()
	if err := b.tableMemory(many); err != nil {
		return err
	}
	few, err := startChild(self("tenants", "100"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, few.stop()) }()
	measured := func(name string, c *child, w work) side {
		return side{name, func(d time.Duration) (sample, error) {
			w.For = d
			return c.work(w)
		}}
	}
	c, err := contest(ctx, "look-up in a table by tenant", b.rounds, b.roundTime, [2]side{
		measured(fmt.Sprintf("%d tenants", b.tenantCount), many, work{}), measured("100 tenants", few, work{}),
	})
	if err != nil {
		return err
	}
	b.compared(c, atMost(2, c).aiming(1.5))
	for _, while := range []string{replacing, activating} {
		c, err := contest(ctx, fmt.Sprintf("decide by %d tenants' table, %s", b.tenantCount, while), b.rounds, b.roundTime, [2]side{
			measured(while, many, work{Single: true, Do: while}), measured("calm", many, work{Single: true}),
		})
		if err != nil {
			return err
		}
		b.compared(c, p99AtMost(3, c).aiming(1.5))
	}
	return nil
}

// What a [tenantTable] does while it decides, or instead.
const (
	replacing  = "while the table is replaced"
	activating = "while a release activates"
	updating   = "update"
	weighing   = "weigh"
)

// weight is what a table takes, in bytes.
type weight struct {
	Text  int    `json:"text"`
	Heap  uint64 `json:"heap"` // live
	Error string `json:"error,omitempty"`
}

// tableMemory weighs the table at rest and after four full updates.
func (b *bench) tableMemory(c *child) error {
	weigh := func() (w weight, rss int64, err error) {
		if err := c.ask(work{Do: weighing}, &w); err != nil {
			return w, 0, err
		}
		if w.Error != "" {
			return w, 0, errors.New(w.Error)
		}
		rss, err = settled(c.pid())
		return w, rss, err
	}
	rest, restRSS, err := weigh()
	if err != nil {
		return err
	}
	for range 4 {
		if _, err := c.work(work{Do: updating}); err != nil {
			return err
		}
	}
	after, afterRSS, err := weigh()
	if err != nil {
		return err
	}
	add := func(limit, aim float64, name, first, second string, a, b2 float64) {
		comparison := comparison{Name: name, Sides: [2]outcome{{Name: first, Bytes: a}, {Name: second, Bytes: b2}}, Ratio: a / b2, Ratios: []float64{a / b2}}
		b.compared(comparison, atMost(limit, comparison).aiming(aim))
	}
	name := fmt.Sprintf("table of %d tenants: ", b.tenantCount)
	add(6, 4, name+"live heap", "heap", "its JSON", float64(rest.Heap), float64(rest.Text))
	add(2, 1.5, name+"live heap after 4 updates", "after", "at rest", float64(after.Heap), float64(rest.Heap))
	add(2, 1.5, name+"RSS after 4 updates", "after", "at rest", float64(afterRSS), float64(restRSS))
	return nil
}

// settled is the resident size once it falls no more: what an activation frees
// goes back to the system beside the decisions.
func settled(pid int) (int64, error) {
	rss, err := resident(pid)
	for again := 0; err == nil && again < 5; again++ {
		time.Sleep(200 * time.Millisecond)
		before := rss
		if rss, err = resident(pid); rss < before-before/100 {
			again = 0
		}
	}
	return rss, err
}

// runTenants is the main function of a process that decides by one table.
func runTenants(ctx context.Context, count string, in io.Reader, out io.Writer) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	base := liveHeap()
	t, err := newTenantTable(ctx, n)
	if err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var w work
		if err := json.Unmarshal(lines.Bytes(), &w); err != nil {
			return err
		}
		var answer any
		switch w.Do {
		case weighing:
			answer = weight{Text: t.text, Heap: liveHeap() - base}
		case updating:
			answer = workedOf(sample{}, t.update(ctx))
		default:
			answer = workedOf(t.measure(ctx, w))
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return nil
}

func liveHeap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and weak pointers held
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// regionLimits decides where a tenant may have a plugin's capability run.
const regionLimits = `# METADATA
# title: Region limits
# custom:
#   title_zh: 地域限制
#   scope: {actions: ["region.use"]}
package xiezhi.platform.limits

# METADATA
# title: Region not allowed
# custom:
#   id: region_not_allowed
#   title_zh: 地域未获授权
#   message: {en: "Not there.", zh: "不可。"}
#   severity: high
#   requirement: [C3]
deny contains {"rule": "region_not_allowed", "path": "/resource/properties/region"} if not allowed

# METADATA
# title: Region allowed
# custom:
#   id: region_allowed
#   title_zh: 地域已授权
allow contains {"rule": "region_allowed"} if allowed

allowed if {
	environments := data.xiezhi.tenants[input.tenant].tables.plugins[input.resource.id][input.resource.properties.capability][input.resource.properties.region]
	"production" in environments
}
`

const tablePath = "tables/plugins.json"

// tableText is the table of n tenants.
func tableText(n, version int) []byte {
	text := append(make([]byte, 0, 600*n+100), `{"tenants":{`...)
	for t := range n {
		if t > 0 {
			text = append(text, ',')
		}
		text = fmt.Appendf(text, `"t%06d":`, t)
		text = appendTenant(text, t, version)
	}
	return append(text, "}}"...)
}

// appendTenant adds one tenant's part: 4 plugins × 3 capabilities × 2 regions.
// Versions differ in each tenant, and no two entries are alike, so that none can
// share another's memory.
func appendTenant(text []byte, t, version int) []byte {
	text = fmt.Appendf(text, `{"version":%d`, version)
	for p := range 4 {
		text = fmt.Appendf(text, `,"p%d":{`, p)
		for c := range 3 {
			if c > 0 {
				text = append(text, ',')
			}
			text = fmt.Appendf(text, `"c%d":{"test":[],"r%d":["production",%d]}`, c, (t+p+c)%5, 12*t+3*p+c)
		}
		text = append(text, '}')
	}
	return append(text, '}')
}

// tenantTable is a decision core with a table of n tenants.
type tenantTable struct {
	core      *pdp.PDP
	compilers []pdp.Compiler
	requests  []authz.Request
	n, text   int
	version   int
}

func newTenantTable(ctx context.Context, n int) (*tenantTable, error) {
	t := &tenantTable{n: n, compilers: []pdp.Compiler{regoeval.New()}, core: pdp.New(pdp.Config{
		Now: func() time.Time { return clock }, NewID: func() string { return "bench" },
	})}
	content, err := t.content()
	if err != nil {
		return nil, err
	}
	if err := t.activate(ctx, content); err != nil {
		return nil, err
	}
	return t, t.ask(ctx)
}

// ask makes the requests, spread over the tenants, and sees that each is
// answered as the table has it: every second one is refused.
func (t *tenantTable) ask(ctx context.Context) error {
	for i := range inputCount {
		of := i * 7919 % t.n
		region := (of + i%4 + i%3) % 5
		want := authz.Allow
		if i%2 == 1 {
			region, want = (region+1)%5, authz.Deny
		}
		properties, err := authz.ValueOf(map[string]any{"capability": fmt.Sprintf("c%d", i%3), "region": fmt.Sprintf("r%d", region)})
		if err != nil {
			return err
		}
		req := authz.Request{
			Tenant: fmt.Sprintf("t%06d", of), Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "region.use"},
			Resource: authz.Entity{Type: "plugin", ID: fmt.Sprintf("p%d", i%4), Properties: properties},
		}
		d, err := t.core.Decide(ctx, req, pdp.Caller{Name: "service:bench"})
		if err != nil {
			return err
		}
		if d.Effect != want {
			return fmt.Errorf("request %d of %s: %s, want %s: %v", i, req.Tenant, d.Effect, want, d.Reasons)
		}
		t.requests = append(t.requests, req)
	}
	return nil
}

// content is the next version of everything.
func (t *tenantTable) content() (*bundles.Content, error) {
	t.version++
	text := tableText(t.n, t.version)
	t.text = len(text)
	return bundles.NewContent([]bundles.File{{Path: "platform/limits.rego", Data: []byte(regionLimits)}, {Path: tablePath, Data: text}})
}

func (t *tenantTable) activate(ctx context.Context, content *bundles.Content) error {
	var basis *pdp.Basis
	number := uint64(1)
	if active := t.core.Active(); active != nil {
		basis, number = active.Release.Basis(), active.Release.Number+1
	}
	release, err := pdp.CompileFrom(ctx, basis, number, content, t.compilers...)
	if err != nil {
		return err
	}
	t.core.Activate(&pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}, Directory: directory{}})
	return nil
}

func (t *tenantTable) update(ctx context.Context) error {
	content, err := t.content()
	if err != nil {
		return err
	}
	return t.activate(ctx, content)
}

// next returns a function that makes another content each time: of the table,
// or of the policy. What it costs to make them is not part of what is measured.
func (t *tenantTable) next(what string) (func() (*bundles.Content, error), error) {
	active := t.core.Active().Release.Content
	if what == replacing {
		other, err := t.content()
		pair, turn := []*bundles.Content{other, active}, 0
		return func() (*bundles.Content, error) {
			turn++
			return pair[(turn-1)%2], nil
		}, err
	}
	return func() (*bundles.Content, error) {
		t.version++
		text := fmt.Appendf([]byte(regionLimits), "\n# %d\n", t.version)
		return t.core.Active().Release.Content.Apply([]bundles.Change{{Path: "platform/limits.rego", Data: text}})
	}, nil
}

func (t *tenantTable) measure(ctx context.Context, w work) (sample, error) {
	one := func(i int) error {
		_, err := t.core.Decide(ctx, t.requests[i], pdp.Caller{Name: "service:bench"})
		return err
	}
	decide := sideOf("", len(t.requests), one).run
	if w.Single {
		decide = func(d time.Duration) (sample, error) { return singles(d, len(t.requests), one) }
	}
	if w.Do == "" {
		return decide(w.For)
	}
	next, err := t.next(w.Do)
	if err != nil {
		return sample{}, err
	}
	return beside(w.For, decide, func() error {
		content, err := next()
		if err != nil {
			return err
		}
		return t.activate(ctx, content)
	})
}

// beside measures while other work goes on again and again, until the measuring
// is over.
func beside(d time.Duration, decide func(time.Duration) (sample, error), other func() error) (sample, error) {
	var failed error
	var busy sync.WaitGroup
	over, begun := make(chan struct{}), make(chan struct{})
	busy.Go(func() {
		close(begun)
		for {
			if failed = other(); failed != nil {
				return
			}
			select {
			case <-over:
				return
			default:
			}
		}
	})
	<-begun
	s, err := decide(d)
	close(over)
	busy.Wait()
	return s, errors.Join(err, failed)
}
