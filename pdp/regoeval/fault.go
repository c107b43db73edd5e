package regoeval

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// faults collects what is wrong with a candidate.
type faults struct {
	list  pdp.Faults
	known *faults // of before, to which list will be added; may be nil
}

// beside calls f for every element on as many cores as there are, and adds
// what is wrong with each in their order. A panic is a fault.
func beside[E any](elems []E, report *faults, f func(elem E, report *faults)) {
	own := make([]faults, len(elems))
	next := atomic.Int64{}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(elems)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(elems)); i = next.Add(1) - 1 {
				own[i].known = report
				if err := guard(func() error { f(elems[i], &own[i]); return nil }); err != nil {
					own[i].add("", 0, "%v", err)
				}
			}
		})
	}
	workers.Wait()
	for i := range own {
		report.list = append(report.list, own[i].list...)
	}
}

func (f *faults) add(file string, line int, format string, args ...any) {
	f.list = append(f.list, pdp.Fault{File: file, Line: line, Message: fmt.Sprintf(format, args...)})
}

// at adds a fault of a policy at a place in some module, be it the policy's
// own or a library's. The rule is empty where none is meant.
func (f *faults) at(location *ast.Location, policy, rule, format string, args ...any) {
	f.list = append(f.list, pdp.Fault{
		File: location.File, Line: location.Row, Policy: policy, Rule: rule,
		Message: fmt.Sprintf(format, args...),
	})
}

// has reports whether a fault is known for this line, so that OPA's own error
// about the same thing need not be shown.
func (f *faults) has(location *ast.Location) bool {
	return f.known != nil && f.known.has(location) || slices.ContainsFunc(f.list, func(known pdp.Fault) bool {
		return known.File == location.File && known.Line == location.Row
	})
}

// addErrors adds OPA's parse or compile errors.
func (f *faults) addErrors(file string, err error) {
	var list ast.Errors
	if one := (*ast.Error)(nil); errors.As(err, &one) {
		list = ast.Errors{one}
	} else if !errors.As(err, &list) {
		list = ast.Errors{{Message: err.Error()}}
	}
	for _, e := range list {
		message := strings.Join(strings.Fields(e.Message), " ")
		switch {
		case e.Location == nil:
			f.add(file, 0, "%s", message)
		case !f.has(e.Location):
			f.add(cmp.Or(e.Location.File, file), e.Location.Row, "%s", message)
		}
	}
}

// err returns the faults in the order of their places, without repetitions,
// or nil.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b pdp.Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(f.list)
}
