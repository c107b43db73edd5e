package policytest

import (
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// Test cases come from tenants and are run by the server that publishes them.
func FuzzCasesAreReadOrRefused(f *testing.F) {
	f.Add([]byte(one("    expect: {effect: ALLOW, reasons: [engineer]}\n")))
	f.Add([]byte(one("    set: {/resource/properties/cpu: 9, /action/properties: {}}\n    expect: {paths: {too_large: [/a]}, route: null}\n")))
	f.Add([]byte("request: &a {tenant: acme}\ncases: [*a]\n"))
	f.Add([]byte("policy: !!binary x\nnow: 2026-01-01\ncases: [{}]\n"))
	f.Add([]byte("a: 1\n---\nb: 2\n"))
	f.Add([]byte("? [a]\n: b\n"))
	release := compile(f, release)
	f.Fuzz(func(t *testing.T, data []byte) {
		cases, faults := readCases(release, bundles.File{Path: "tenants/acme/x_cases.yaml", Data: data})
		if len(cases) == 0 && len(faults) == 0 {
			t.Error("neither cases nor faults")
		}
		for _, fault := range faults {
			if fault.File == "" || fault.Message == "" || fault.Line < 0 {
				t.Errorf("a fault without a place: %+v", fault)
			}
		}
		for _, c := range cases {
			if c.request.Tenant != "acme" || c.name == "" || c.line == 0 {
				t.Errorf("case %q in line %d asks for tenant %q", c.name, c.line, c.request.Tenant)
			}
			if err := c.request.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
