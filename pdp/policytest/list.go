package policytest

import (
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Case is one test case as others may ask it, of another decision point say.
type Case struct {
	File    string
	Line    int
	Name    string
	Policy  string    // whose answers the case is about; empty: all
	Layer   pdp.Layer // of the folder it lies in; of LayerSelf it is asked of the self policies
	Now     time.Time
	Answers Answers
	Request authz.Request
}

// Cases lists the test cases of a release in order of file and line. Faults
// are of those that cannot be read.
func Cases(release *pdp.Release) ([]Case, pdp.Faults) {
	var all []Case
	var faults pdp.Faults
	for _, file := range release.Content.Files() {
		if !pdp.IsCases(file.Path) {
			continue
		}
		cases, wrong := readCases(release, file)
		faults = append(faults, wrong...)
		for i := range cases {
			c := &cases[i]
			all = append(all, Case{c.file, c.line, c.name, c.policy, c.layer, c.now, c.answers, c.request})
		}
	}
	return all, faults
}
