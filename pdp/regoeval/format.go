package regoeval

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// Format writes a Rego file as OPA's formatter does. The error of a file that
// does not parse is [pdp.Faults].
func Format(path string, data []byte) (formatted []byte, err error) {
	defer func() { // the formatter is not made for hostile files, and the CLI must not end with a stack trace
		if cause := recover(); cause != nil {
			formatted, err = nil, fmt.Errorf("format %s: %v", path, cause)
		}
	}()
	formatted, err = format.SourceWithOpts(path, data, format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		report := &faults{}
		report.addErrors(path, err)
		return nil, report.err()
	}
	return formatted, nil
}
