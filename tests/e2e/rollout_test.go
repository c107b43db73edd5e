//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp/local"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
)

const shopPath = "tenants/acme/shop.policy.yaml"

// dated is an engine of an older build, which does not know what a rule named
// closed is written in.
type dated struct{ pep.Engine }

const unknownToIt = "this build does not know what rule closed says"

func (d dated) Compile(ctx context.Context, release uint64, content *bundles.Content) (pep.Compiled, error) {
	if text, _ := content.File(shopPath); strings.Contains(string(text), "closed") {
		return nil, errors.New(unknownToIt)
	}
	return d.Engine.Compile(ctx, release, content)
}

// openDated connects the SDK with the older engine.
func openDated(t *testing.T, i *installation, ring string) *pep.PEP {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(i.data(), "keys", "trust.json"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := pep.ParseTrust(data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pep.New(t.Context(), pep.Config{
		Server: i.url, Token: pep.TokenFile(filepath.Join(i.data(), "tokens", "pep")), Tenants: []string{"acme"}, ID: "old",
		Labels: map[string]string{"ring": ring}, Engine: dated{local.New(local.Options{})}, Trust: root, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

// publishInStages publishes drafts to PEPs of these rings in turn, and then to
// all, and returns the release's path.
func (s *server) publishInStages(drafts files, seconds int, rings ...string) string {
	s.t.Helper()
	for path, text := range drafts {
		s.must(http.StatusOK, s.draft("admin", path, text))
	}
	var stages []object
	for _, ring := range rings {
		stages = append(stages, object{"labels": object{"ring": ring}})
	}
	a := s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/releases", body: encode(object{
		"drafts": slices.Sorted(maps.Keys(drafts)), "note": "in stages", "stages": stages, "min_stage_seconds": seconds,
	})})
	return fmt.Sprintf("/api/v1/releases/%v", a.at("/number"))
}

// of reports whether a service answers by a release.
func (a shopAnswer) of(release int) bool {
	return strings.HasPrefix(a.Revision, fmt.Sprintf("r%d.", release))
}

// A release that the PEPs of the first stage reject goes no further: PEPs of
// other labels never hold it, it is taken back by a release that restores the
// one before, and the audit says who did what and why.
func TestAReleaseThatAStageRejectsIsTakenBack(t *testing.T) {
	t.Parallel()
	i := install(t, minimal(t, files{shopPath: shopRules}))
	old := openDated(t, i, "old")
	beside := openShop(t, i, "--id", "beside", "--labels", "ring=new")
	beside.until(patience, "decided in-process", func(a shopAnswer) bool { return a.Decided == "in-process" && a.of(1) })
	await(t, patience, "the old PEP holds release 1", func() bool { return old.Status().Revision.Release == 1 })

	release := i.publishInStages(files{shopPath: shopClosed}, 1, "old", "new")
	var seen []string // by which releases the other PEP answered
	await(t, 2*patience, "all hold release 3", func() bool {
		number, _, _ := strings.Cut(beside.decide().Revision, ".")
		if !slices.Contains(seen, number) {
			seen = append(seen, number)
		}
		return number == "r3" && i.release() == 3 && old.Status().Revision.Release == 3
	})
	if !slices.Equal(seen, []string{"r1", "r3"}) {
		t.Errorf("the PEP of another label answered by %v, want r1 and then r3", seen)
	}
	i.must(http.StatusOK, call{as: "admin", method: http.MethodPost, path: "/api/v1/releases/3/await?quorum=all&wait=20s"})

	state := i.must(http.StatusOK, call{as: "admin", path: release + "/rollout"})
	if state.at("/state") != "halted" || state.at("/stage") != 0.0 || !strings.Contains(state.textAt("/reason"), unknownToIt) {
		t.Errorf("%s", state.text)
	}
	if a := i.refused(call{as: "admin", method: http.MethodPost, path: release + "/await?wait=1s"}, http.StatusConflict); !strings.Contains(a.text, "halted") {
		t.Errorf("%s", a.text)
	}
	restored := i.must(http.StatusOK, call{as: "admin", path: "/api/v1/releases/3"})
	if restored.at("/restores") != 1.0 || restored.at("/author") != "system:rollout" {
		t.Errorf("%s", restored.text)
	}
	peps := i.must(http.StatusOK, call{as: "admin", path: "/api/v1/peps?id=old"})
	if peps.at("/items/0/rejected/release") != 2.0 || !strings.Contains(peps.textAt("/items/0/rejected/reason"), unknownToIt) || peps.at("/items/0/rejects") != 1.0 {
		t.Errorf("%s", peps.text)
	}

	for _, want := range []struct{ action, actor, resource, says string }{
		{"rollout.halt", "system:rollout", "release:2", unknownToIt},
		{"release.publish", "system:rollout", "release:3", `"restores":1`},
		{"release.publish", "user:root", "release:2", `"note":"in stages"`},
	} {
		a := i.must(http.StatusOK, call{as: "auditor", path: "/api/v1/audit?kind=change&action=" + want.action + "&actor=" + want.actor + "&limit=1"})
		if a.at("/items/0/resource") != want.resource || !strings.Contains(a.text, want.says) {
			t.Errorf("%s by %s: %s", want.action, want.actor, a.text)
		}
	}
}

// A release that goes well reaches one stage after the other, then all others
// and the server itself.
func TestAReleaseReachesStageAfterStage(t *testing.T) {
	t.Parallel()
	i := install(t, minimal(t, files{shopPath: shopRules}))
	shops := make([]*service, 3)
	for n, labels := range []string{"ring=one", "ring=two", ""} {
		shops[n] = openShop(t, i, "--id", fmt.Sprintf("shop-%d", n), "--labels", labels)
	}
	for _, s := range shops {
		s.until(patience, "decided in-process", func(a shopAnswer) bool { return a.Decided == "in-process" && a.of(1) })
	}
	release := i.publishInStages(files{shopPath: shopClosed}, 2, "one", "two")
	before := [2]int{} // by stage, how often the PEPs of later stages were seen to wait while its own held the release
	await(t, 3*patience, "the rollout is done", func() bool {
		var held [3]bool
		for n, s := range shops {
			a := s.decide()
			if held[n] = a.of(2); held[n] != a.says("closed") {
				t.Fatalf("%+v", a)
			}
		}
		ours := i.decide("pep", sale(5)).Revision
		state := i.must(http.StatusOK, call{as: "admin", path: release + "/rollout"}) // read last: what was seen was of this stage or an earlier one
		if state.at("/state") == "done" {
			return true
		}
		stage := int(state.at("/stage").(float64))
		for n := stage + 1; n < len(shops); n++ {
			if held[n] {
				t.Fatalf("shop %d holds the release in stage %d", n, stage)
			}
		}
		if strings.HasPrefix(ours, "r2.") {
			t.Fatalf("the server decides by the release in stage %d", stage)
		}
		if held[stage] {
			before[stage]++
		}
		return false
	})
	if before[0] == 0 || before[1] == 0 {
		t.Errorf("looked %v times at a stage: want to see each", before)
	}
	i.must(http.StatusOK, call{as: "admin", method: http.MethodPost, path: release + "/await?quorum=all&wait=20s"})
	for _, s := range shops {
		if a := s.decide(); !a.of(2) || !a.says("closed") {
			t.Errorf("after the rollout: %+v", a)
		}
	}
	await(t, patience, "the server decides by it", func() bool { return strings.HasPrefix(i.decide("pep", sale(5)).Revision, "r2.") })
	a := i.must(http.StatusOK, call{as: "auditor", path: "/api/v1/audit?kind=change&actor=system:rollout"})
	if a.at("/items/0/action") != "rollout.done" || a.at("/items/1/action") != "rollout.advance" {
		t.Errorf("%s", a.text)
	}
}
