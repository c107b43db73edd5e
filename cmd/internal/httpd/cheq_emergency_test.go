package httpd

import (
	"strings"
	"testing"
	"time"
)

// urgent makes the desk's template one whose glass may be broken, and which
// offers sizes.
func (r *rig) urgent() {
	r.t.Helper()
	r.publish(map[string]string{
		"approvals/desk.yaml": deskPolicies()["approvals/desk.yaml"] + `break_glass: fire
offers:
  - {path: /resource/properties/size, values: ["20", "30"]}
`,
		"approvals/fire.yaml": `title: {en: Fire, zh: 紧急}
kind: break_glass
decide_by: 1h
grant_for: {default: 30m, ceiling: 1h}
review_within: 24h
notify: [{channel: webhook, to: ops}]
all_of:
  - {title: {en: Security, zh: 安全}, role: security_admin, approvals: 1}
`,
	})
}

func TestAnEmergencyTakesTwoYesAndALookBack(t *testing.T) {
	r := newDesk(t)
	r.urgent()
	body := strings.Replace(deskCase("user:me", `{"size":12}`), `"reason"`, `"break_glass":"fire","reason"`, 1)
	opened := r.do(ask{as: "pep", path: "/api/v1/cheq", body: body})
	if opened.status != 201 || opened.at("/break_glass") != "fire" || opened.at("/opens/0/template") != "fire" {
		t.Fatalf("%d %s", opened.status, opened.text)
	}
	path, shown := "/api/v1/cheq/"+opened.at("/id").(string), opened.at("/shown").(string)
	once := map[string]string{"Idempotency-Key": "once"}
	if g := r.do(ask{as: "li", path: path + "/approve", body: answer(shown), header: once}); g.status != 409 || g.code() != "confirm" {
		t.Errorf("the first yes: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "wang", path: path + "/review", body: `{"text":"all was well"}`}); g.status != 409 || g.code() != "nothing_to_review" {
		t.Errorf("a look back before: %d %s", g.status, g.text)
	}
	r.ahead.Store(int64(3 * time.Second))
	if g := r.do(ask{as: "li", path: path + "/approve", body: answer(shown), header: once}); g.status != 200 || g.at("/state") != "approved" || g.at("/review_by") == nil {
		t.Errorf("the second: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "pep", path: path + "/extend", body: `{"reason":"more"}`}); g.status != 409 || g.code() != "not_askable" {
		t.Errorf("an extension: %d %s", g.status, g.text)
	}
	for as, code := range map[string]string{"li": "own_review", "me": "forbidden", "pep": "forbidden", "ng": "not_reviewer", "hu": "not_found"} {
		if g := r.do(ask{as: as, path: path + "/review", body: `{"text":"all was well"}`}); g.code() != code {
			t.Errorf("%s looks back: %d %s, want %s", as, g.status, g.text, code)
		}
	}
	if g := r.do(ask{as: "wang", path: path + "/review", body: `{"text":"all was well"}`}); g.status != 200 || g.at("/reviewed/by") != "user:wang" {
		t.Errorf("%d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "wang", path: path}); g.status != 200 || g.at("/card/break_glass") != "fire" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestACaseLeavesOpenWhatItsTemplateOffers(t *testing.T) {
	r := newDesk(t)
	r.urgent()
	wish := func(path string) got {
		return r.do(ask{as: "pep", path: "/api/v1/cheq", body: strings.Replace(deskCase("user:me", `{"size":12}`), `"reason"`, `"open":["`+path+`"],"reason"`, 1)})
	}
	if g := wish("/resource/properties/size"); g.status != 201 || g.at("/newly/1/values/0/value") != "20" || g.at("/newly/1/before") != "REVIEW" || g.at("/newly/1/after") != "ALLOW" {
		t.Errorf("%d %s", g.status, g.text)
	}
	if g := wish("/resource/properties/pin"); g.status != 409 || g.code() != "not_askable" {
		t.Errorf("what is not offered: %d %s", g.status, g.text)
	}
}
