package changes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// replayed is a store of decisions that were made by one policy.
type replayed struct {
	*Desk
	t      *testing.T
	store  *sqlite.Store
	made   int
	active *pdp.Snapshot
}

const priced = `id: shop
name: Shop
masks: [/resource/properties/card, /context/pin]
rules:
  - {id: sells, condition: "action == 'shop.sell'", effect: ALLOW, message: {en: "Yes.", zh: "可。"}}
  - {id: dear, condition: "resource.properties.price > MOST", effect: DENY, message: {en: "Dear.", zh: "贵。"}}
`

func price(most int, more ...string) map[string]string {
	return map[string]string{"platform/shop.policy.yaml": strings.Replace(priced, "MOST", fmt.Sprint(most), 1) + strings.Join(more, "")}
}

func compiled(t *testing.T, files map[string]string) *pdp.Snapshot {
	t.Helper()
	var list []bundles.File
	for path, text := range files {
		list = append(list, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	release, err := engine.New().Compile(t.Context(), content)
	if err != nil {
		t.Fatal(err)
	}
	return &pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}}
}

func newReplayed(t *testing.T, files map[string]string) *replayed {
	t.Helper()
	store, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &replayed{t: t, store: store, active: compiled(t, files)}
	core := pdp.New(pdp.Config{Recorder: r, Now: time.Now, NewID: func() string {
		r.made++
		return fmt.Sprintf("%026d", r.made)
	}})
	core.Activate(r.active)
	r.Desk = New(Config{PDP: core, Decisions: store, Now: time.Now})
	return r
}

// Record implements [pdp.Recorder].
func (r *replayed) Record(ctx context.Context, d *pdp.Record) error {
	record, err := d.Audit()
	if err != nil {
		return err
	}
	return r.store.InsertDecisions(ctx, []authz.AuditRecord{record})
}

func (r *replayed) decide(action string, properties, more map[string]any) {
	r.t.Helper()
	req := authz.Request{
		Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li"}, Action: authz.Action{Name: action},
		Resource: authz.Entity{Type: "item", ID: "i", Properties: authz.MustValue(properties)}, Context: authz.MustValue(more),
	}
	if _, err := r.config.PDP.Decide(r.t.Context(), req, pdp.Caller{Name: "service:shop"}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *replayed) under(files map[string]string) cheq.Flips {
	r.t.Helper()
	candidate := compiled(r.t, files)
	f, err := r.flips(r.t.Context(), r.active, candidate, r.active.Release.Content.Diff(candidate.Release.Content))
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

func TestRecordedDecisionsThatWouldBeOthersAreCounted(t *testing.T) {
	r := newReplayed(t, price(10))
	for p := range 20 {
		r.decide("shop.sell", map[string]any{"price": p + 1}, nil)
	}
	for _, row := range []struct {
		name  string
		files map[string]string
		want  cheq.Flips
	}{
		{"weaker", price(15), cheq.Flips{DenyToAllow: 5}},
		{"stronger", price(7), cheq.Flips{AllowToDeny: 3}},
		{"asks people", price(10, `  - {id: ask, condition: "resource.properties.price > 8", effect: REVIEW, message: {en: "?", zh: "?"}}`+"\n"), cheq.Flips{Other: 2}},
		{"the same by other words", price(10, "# nothing\n"), cheq.Flips{}},
	} {
		row.want.Days, row.want.Replayed = 7, 20
		if got := r.under(row.files); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
	}
}

func TestWhatIsMaskedAndReadIsUnknown(t *testing.T) {
	base := price(10)
	base["platform/pins.policy.yaml"] = `id: pins
name: Pins
scope: {actions: ["door.*"]}
rules:
  - {id: opens, condition: "context.pin == '1234'", effect: ALLOW, message: {en: "Yes.", zh: "可。"}}
`
	r := newReplayed(t, base)
	r.decide("shop.sell", map[string]any{"price": 12, "card": "4111"}, nil) // a member of the resource is hidden
	r.decide("shop.sell", map[string]any{"price": 12}, map[string]any{"pin": "1"})
	r.decide("shop.sell", map[string]any{"price": 12}, nil)
	r.decide("door.open", nil, map[string]any{"pin": "1234"})

	// The shop's rules read no pin, and may read any member of the resource.
	weaker := price(15)
	weaker["platform/pins.policy.yaml"] = base["platform/pins.policy.yaml"]
	if got, want := r.under(weaker), (cheq.Flips{DenyToAllow: 2, Unknown: 1, Replayed: 4, Days: 7}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	// The door's rules read the pin, and are asked about doors alone.
	shut := price(10)
	shut["platform/pins.policy.yaml"] = strings.Replace(base["platform/pins.policy.yaml"], "1234", "4321", 1)
	if got, want := r.under(shut), (cheq.Flips{Unknown: 1, Replayed: 4, Days: 7}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	// What policies share may be read by any of them.
	shut = price(10)
	shut["platform/pins.policy.yaml"], shut["tables/t.yaml"] = base["platform/pins.policy.yaml"], "platform: {n: 1}\n"
	if got := r.under(shut); got.Unknown != 2 {
		t.Errorf("a table changed: %+v", got)
	}
}

func TestAChangeWeakensWhereARuleThatHeldBackIsAnother(t *testing.T) {
	active := compiled(t, price(10)).Release
	without := price(10)
	without["platform/more.policy.yaml"] = strings.NewReplacer("id: shop", "id: more", "MOST", "1").Replace(priced)
	for _, row := range []struct {
		name string
		to   map[string]string
		want bool
	}{
		{"another rule", price(15), true},
		{"one policy more", without, false},
		{"none", map[string]string{"platform/a.md": "a"}, true},
	} {
		if got := weakens(active, compiled(t, row.to).Release, cheq.Flips{}); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
	if !weakens(active, active, cheq.Flips{DenyToAllow: 1}) {
		t.Error("a DENY that would be an ALLOW")
	}
}

func TestADifferenceIsWhatChangedAndSomeLinesAround(t *testing.T) {
	var before []string
	for i := range 30 {
		before = append(before, fmt.Sprintf("line %d", i+1))
	}
	after := slices.Concat(before[:9], []string{"ten"}, before[10:20], before[21:], []string{"more"})
	lines, added, removed := compare(before, after)
	want := `@@ -7 +7 @@
 line 7
 line 8
 line 9
-line 10
+ten
 line 11
 line 12
 line 13
@@ -18 +18 @@
 line 18
 line 19
 line 20
-line 21
 line 22
 line 23
 line 24
@@ -28 +27 @@
 line 28
 line 29
 line 30
+more`
	if got := strings.Join(lines, "\n"); got != want || added != 2 || removed != 2 {
		t.Errorf("%d added, %d removed:\n%s", added, removed, got)
	}
}

func TestADifferenceIsBounded(t *testing.T) {
	content, err := bundles.NewContent([]bundles.File{{Path: "platform/old.rego", Data: []byte("a\nb\n")}})
	if err != nil {
		t.Fatal(err)
	}
	changes := []bundles.Change{{Path: "platform/old.rego", Removed: true}}
	for i := range 30 {
		changes = append(changes, bundles.Change{Path: fmt.Sprintf("platform/n%02d.rego", i), Data: []byte(strings.Repeat(strings.Repeat("x", 1000)+"\n", 15))})
	}
	files, more := difference(content, changes)
	shown, cut := 0, 0
	for _, f := range files {
		if f.Diff != "" {
			shown += strings.Count(f.Diff, "\n") + 1
		}
		cut += f.Cut
		if len(f.Diff) > 16*(maxColumns+10) {
			t.Errorf("%s: a line is longer than %d", f.Path, maxColumns)
		}
	}
	if len(files) != maxFiles || more != 11 || shown != maxLines || shown+cut != 20*16 {
		t.Errorf("%d files, %d more, %d lines shown, %d cut", len(files), more, shown, cut)
	}
}
