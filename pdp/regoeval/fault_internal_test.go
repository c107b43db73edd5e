package regoeval

import (
	"fmt"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func TestFaultsOfWorkBesideEachOtherComeInOrderAndAPanicIsOne(t *testing.T) {
	report := &faults{}
	report.at(&ast.Location{File: "0.rego", Row: 1}, "", "", "known before")
	elems := make([]int, 100)
	for i := range elems {
		elems[i] = i
	}
	beside(elems, report, func(i int, report *faults) {
		switch {
		case i == 7:
			panic("seven")
		case report.has(&ast.Location{File: fmt.Sprintf("%d.rego", i), Row: 1}):
			return
		}
		report.add(fmt.Sprintf("%d.rego", i), 1, "found")
	})
	if len(report.list) != 100 { // of 0 what was known before, of 7 the panic
		t.Fatalf("%d faults: %v", len(report.list), report.list)
	}
	for i, f := range report.list {
		want, message := fmt.Sprintf("%d.rego", i), "found"
		switch i {
		case 0:
			message = "known before"
		case 7:
			want, message = "", "panic: seven"
		}
		if f.File != want || f.Message != message {
			t.Errorf("fault %d: %s: %s, want %s: %s", i, f.File, f.Message, want, message)
		}
	}
}
