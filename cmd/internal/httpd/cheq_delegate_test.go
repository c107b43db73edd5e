package httpd

import (
	"net/http"
	"testing"
)

func TestAReviewerHandsItsPlaceOn(t *testing.T) {
	r := newDesk(t)
	path, shown := r.open()
	for _, row := range []struct {
		as, body string
		want     int
	}{
		{"ng", `{"to":"user:wang"}`, http.StatusForbidden}, // who has no place
		{"hu", `{"to":"user:ng"}`, http.StatusNotFound},    // of another tenant
		{"li", `{"to":"user:me"}`, http.StatusConflict},    // the requester
		{"li", `{"to":"wang"}`, http.StatusBadRequest},
		{"li", `{"to":"user:ng","until":"tomorrow"}`, http.StatusBadRequest},
		{"li", `{"to":"user:ng","reason":"on leave"}`, http.StatusOK},
		{"li", `{"to":"user:wang"}`, http.StatusForbidden}, // it has none any more
	} {
		if g := r.do(ask{as: row.as, path: path + "/delegate", body: row.body}); g.status != row.want {
			t.Errorf("%s %s: %d, want %d: %s", row.as, row.body, g.status, row.want, g.text)
		}
	}
	if g := r.do(ask{as: "li", path: path + "/approve", body: answer(shown)}); g.status != http.StatusForbidden {
		t.Errorf("who handed its place on: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "ng", path: path + "/approve", body: answer(shown)}); g.status != http.StatusOK || g.at("/votes/0/voter") != "user:ng" {
		t.Errorf("who has it: %d %s", g.status, g.text)
	}
}
