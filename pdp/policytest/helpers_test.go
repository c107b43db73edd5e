package policytest

import (
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
)

type files map[string]string

// with returns the files with some replaced or added.
func (f files) with(more files) files {
	all := files{}
	for path, data := range f {
		all[path] = data
	}
	for path, data := range more {
		all[path] = data
	}
	return all
}

func compile(t testing.TB, f files) *pdp.Release {
	t.Helper()
	var list []bundles.File
	for path, data := range f {
		list = append(list, bundles.File{Path: path, Data: []byte(data)})
	}
	content, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, celeval.New())
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func run(t *testing.T, f files, opts Options) *Report {
	t.Helper()
	return Run(t.Context(), compile(t, f), opts)
}

// told is everything a report says against a release, one line each.
func told(r *Report) string {
	var lines []string
	for _, f := range r.AsFaults() {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

// release is a small release: one policy per layer.
var release = files{
	"attributes.yaml": `attributes:
  subject.roles: {trusted: true, source: directory}
  resource.zone: {trusted: true, source: inventory}
  resource.owner: {trusted: false}
`,
	"platform/sizes.policy.yaml": `id: sizes
name: Sizes
rules:
  - id: engineer
    condition: "'engineer' in subject.properties.roles"
    effect: ALLOW
    message: {en: "An engineer.", zh: "工程师。"}
  - id: too_large
    condition: "resource.properties.cpu > 8"
    effect: DENY
    path: /resource/properties/cpu
    message: {en: "{resource.properties.cpu} is too many.", zh: "{resource.properties.cpu} 太多。"}
    obligations: [{id: report_size, params: {}}]
`,
	"platform/hours.policy.yaml": `id: hours
name: Office hours
scope: {actions: ["ecs.*"]}
rules:
  - id: at_night
    condition: "now.getHours() >= 22"
    effect: REVIEW
    admits: false
    message: {en: "It is night.", zh: "夜间。"}
    obligations: [{id: call_somebody, params: {}}]
  - id: in_the_morning
    condition: "now.getHours() < 12"
    effect: ALLOW
    message: {en: "It is early.", zh: "早上。"}
    limits: [{key: ecs.calls, rate: 1, burst: 2}]
    route: {pool: morning}
`,
	"tenants/acme/zones.policy.yaml": `id: zones
name: Zones
rules:
  - id: closed_zone
    condition: "resource.properties.zone == 'closed'"
    effect: DENY
    message: {en: "The zone is closed.", zh: "该区关闭。"}
`,
}

// request is what most cases share.
const request = `request:
  tenant: globex
  subject: {type: user, id: li.wei}
  action: ecs.instance.create
  resource: {type: ecs.instance, id: i-1, properties: {cpu: 2}}
`
