package httpd

import "testing"

const machine = `"subject":{"type":"service","id":"shop"},"action":"ecs.create","resource":{"type":"ecs.instance","id":"i"`

func TestDecideAnswersOnTheWire(t *testing.T) {
	r := newRig(t, testPolicies())
	g := r.do(ask{as: "shop", path: "/api/v1/decide", body: `{` + machine + `,"properties":{"cpu":2}}}`})
	t.Log(g.status, g.text, g.header)
}
