package httpd

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// batchBody asks about machines of these sizes: more than four CPUs is a DENY.
func batchBody(how string, sizes ...int) string {
	items := make([]string, len(sizes))
	for i, cpu := range sizes {
		items[i] = fmt.Sprintf(`{"resource":{"type":"ecs.instance","id":"i%d","properties":{"cpu":%d}}}`, i, cpu)
	}
	options := ""
	if how != "" {
		options = `,"options":{"evaluations_semantic":"` + how + `"}`
	}
	return `{"subject":{"type":"service","id":"shop"},"action":"ecs.create","evaluations":[` + strings.Join(items, ",") + `]` + options + `}`
}

func effects(g got) string {
	var all []string
	list, _ := g.json["evaluations"].([]any)
	for i := range list {
		effect, _ := g.at(fmt.Sprintf("/evaluations/%d/effect", i)).(string)
		if g.at(fmt.Sprintf("/evaluations/%d/error", i)) != nil {
			effect = "error"
		}
		all = append(all, effect)
	}
	return strings.Join(all, " ")
}

func TestABatchKeepsOrderAndFollowsItsSemantic(t *testing.T) {
	r := newRig(t, testPolicies())
	for _, row := range []struct {
		how   string
		sizes []int
		want  string
	}{
		{"", []int{2, 8, 4, 16}, "ALLOW DENY ALLOW DENY"},
		{"execute_all", []int{8, 2}, "DENY ALLOW"},
		{"deny_on_first_deny", []int{2, 4, 8, 2}, "ALLOW ALLOW DENY"},
		{"deny_on_first_deny", []int{2, 4}, "ALLOW ALLOW"},
		{"permit_on_first_permit", []int{8, 16, 2, 4}, "DENY DENY ALLOW"},
		{"permit_on_first_permit", []int{8, 16}, "DENY DENY"},
	} {
		t.Run(row.how+" "+row.want, func(t *testing.T) {
			r.record.take()
			g := r.do(ask{as: "shop", path: "/api/v1/decide/batch", body: batchBody(row.how, row.sizes...)})
			if g.status != 200 || effects(g) != row.want {
				t.Fatalf("%d %s", g.status, g.text)
			}
			// Each answer is recorded once, and nothing behind the end is.
			records := r.record.take()
			if answers := len(strings.Fields(row.want)); len(records) != answers {
				t.Errorf("%d records for %d answers", len(records), answers)
			}
			ids := map[any]bool{}
			for i := range strings.Fields(row.want) {
				ids[g.at(fmt.Sprintf("/evaluations/%d/decision_id", i))] = true
			}
			for _, record := range records {
				if !ids[record.Decision.ID] {
					t.Errorf("record %s answers no item", record.Decision.ID)
				}
			}
		})
	}
}

func TestABatchDecidesManyInOrder(t *testing.T) {
	r := newRig(t, testPolicies())
	sizes := make([]int, MaxBatch)
	want := make([]string, MaxBatch)
	for i := range sizes {
		sizes[i], want[i] = 2, "ALLOW"
		if i%3 == 0 {
			sizes[i], want[i] = 8, "DENY"
		}
	}
	g := r.do(ask{as: "shop", path: "/api/v1/decide/batch", body: batchBody("", sizes...)})
	if g.status != 200 || effects(g) != strings.Join(want, " ") {
		t.Errorf("%d %.300s", g.status, g.text)
	}
	g = r.do(ask{as: "shop", path: "/api/v1/decide/batch", body: batchBody("", append(sizes, 1)...)})
	if g.status != 400 || g.at("/errors/0/path") != "/evaluations" {
		t.Errorf("one too many: %d %.300s", g.status, g.text)
	}
}

func TestABatchAnswersAFaultyItemWithItsProblem(t *testing.T) {
	r := newRig(t, testPolicies())
	body := `{"subject":{"type":"service","id":"shop"},"action":"ecs.create","context":{"a":1},"evaluations":[
		{"resource":{"type":"ecs.instance","id":"i","properties":{"cpu":2}}},
		{"resource":{"type":"ecs.instance"}},
		{"resource":{"type":"t","id":"i"},"colour":"red"},
		"nonsense",
		{"resource":{"type":"t","id":"i"},"subject":{"type":"user","id":"other"}},
		{"resource":{"type":"t","id":"i"},"tenant":"globex"},
		{"resource":{"type":"t","id":"i"},"subject":{"type":"service","id":"shop","properties":{"roles":["admin"]}}}]}`
	g := r.do(ask{as: "shop", path: "/api/v1/decide/batch", body: body})
	if g.status != 200 || effects(g) != "ALLOW error error error error error error" {
		t.Fatalf("%d %s", g.status, g.text)
	}
	for i, want := range []struct {
		status float64
		path   any
	}{1: {400, "/evaluations/1/resource/id"}, 2: {400, "/evaluations/2/colour"}, 3: {400, "/evaluations/3"}, 4: {403, nil}, 5: {403, nil},
		6: {400, "/evaluations/6/subject/properties/roles"}} {
		if i == 0 {
			continue
		}
		at := fmt.Sprintf("/evaluations/%d", i)
		if g.at(at+"/decision") != false || g.at(at+"/effect") != "DENY" || g.at(at+"/error/status") != want.status || g.at(at+"/error/errors/0/path") != want.path {
			t.Errorf("item %d: %v", i, g.at(at))
		}
	}
}

func TestAFaultyDefaultIsNamedAtItsOwnPlace(t *testing.T) {
	r := newRig(t, testPolicies())
	g := r.do(ask{as: "shop", path: "/api/v1/decide/batch", body: `{"subject":{"type":"service","id":""},"action":"ecs.create","evaluations":[{"resource":{"type":"t","id":"i"}}]}`})
	if g.at("/evaluations/0/error/errors/0/path") != "/subject/id" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestABatchIsRefusedAsAWhole(t *testing.T) {
	r := newRig(t, testPolicies())
	item := `{"subject":{"type":"service","id":"shop"},"action":"a","resource":{"type":"t","id":"i"}}`
	for _, row := range []struct {
		name, as, body, path string
		status               int
		code                 string
	}{
		{"no items", "shop", `{"evaluations":[]}`, "/evaluations", 400, "invalid_request"},
		{"items that are no list", "shop", `{"evaluations":{}}`, "/evaluations", 400, "invalid_request"},
		{"an unknown member", "shop", `{"evaluation":[` + item + `]}`, "/evaluation", 400, "invalid_request"},
		{"an unknown semantic", "shop", `{"evaluations":[` + item + `],"options":{"evaluations_semantic":"any"}}`, "/options/evaluations_semantic", 400, "invalid_request"},
		{"an unknown option", "shop", `{"evaluations":[` + item + `],"options":{"fast":true}}`, "/options/fast", 400, "invalid_request"},
		{"no right for any item", "shop", `{"evaluations":[` + strings.Replace(item, `"shop"`, `"x"`, 1) + `]}`, "", 403, "forbidden"},
		{"no right and nothing readable", "author", `{"evaluations":[1]}`, "", 403, "forbidden"},
		{"a permit", "shop", `{"evaluations":[` + item + `],"permit":{"audience":"x"}}`, "", 501, "permits_unavailable"},
		{"a revision that is not there", "shop", `{"evaluations":[` + item + `],"at_least_revision":"r99.g1"}`, "", 400, "revision_unknown"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := r.do(ask{as: row.as, path: "/api/v1/decide/batch", body: row.body})
			path, _ := g.at("/errors/0/path").(string)
			if g.status != row.status || g.code() != row.code || path != row.path {
				t.Errorf("%d %s", g.status, g.text)
			}
		})
	}
	if n := len(r.record.take()); n != 0 {
		t.Errorf("%d decisions were made", n)
	}
}

func TestAnItemThatCannotBeRecordedIsNoAllow(t *testing.T) {
	r := newRig(t, testPolicies())
	r.record.breakWith(errors.New("disk full"))
	for _, path := range []string{"/api/v1/decide/batch", "/access/v1/evaluations"} {
		body := strings.Replace(batchBody("", 2, 2), `"action":"ecs.create"`, `"action":{"name":"ecs.create"}`, 1)
		g := r.do(ask{as: "shop", path: path, body: body})
		if g.status != http.StatusOK || g.at("/evaluations/0/decision") != false || g.at("/evaluations/1/decision") != false || strings.Contains(g.text, "true") {
			t.Errorf("%s: %d %s", path, g.status, g.text)
		}
	}
}

func TestSemanticsEndOnErrorsAsOnDenials(t *testing.T) {
	failed := answered{err: errors.New("x")}
	if !denyOnFirstDeny.ends(&failed) || permitOnFirstPermit.ends(&failed) || executeAll.ends(&failed) {
		t.Error("an error is a denial")
	}
	if !slices.Contains([]semantic{executeAll, denyOnFirstDeny, permitOnFirstPermit}, "execute_all") {
		t.Error("the default semantic is not one of the three")
	}
}
