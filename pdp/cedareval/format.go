package cedareval

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go/x/exp/schema"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// Format returns a *.cedar or *.cedarschema file in its usual form. cedar-go's
// printer drops comments, and with them the policy metadata; so Format settles
// only white space: no trailing blanks, no blank lines at either end or more
// than one in a row, one newline at the end. A file that does not parse is
// returned as [pdp.Faults].
func Format(path string, data []byte) ([]byte, error) {
	if faults := parseFaults(path, data); len(faults) > 0 {
		return nil, faults
	}
	var out bytes.Buffer
	blank := true // drops blank lines at the start
	for line := range strings.SplitSeq(string(data), "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line != "" {
			out.WriteString(line + "\n")
		} else if !blank {
			out.WriteString("\n")
		}
		blank = line == ""
	}
	return append(bytes.TrimRight(out.Bytes(), "\n"), '\n'), nil
}

func parseFaults(path string, data []byte) pdp.Faults {
	if !utf8.Valid(data) {
		return pdp.Faults{{File: path, Message: "not valid UTF-8"}}
	}
	switch {
	case strings.HasSuffix(path, schemaExtension):
		err := checkNesting(string(data))
		if err == nil {
			var parsed schema.Schema
			parsed.SetFilename(path)
			err = parsed.UnmarshalCedar(data)
		}
		if err != nil {
			return pdp.Faults{schemaFault(path, err)}
		}
		return nil
	case strings.HasSuffix(path, policyExtension):
		return statementFaults(path, string(data))
	default:
		return pdp.Faults{{File: path, Message: fmt.Sprintf("want a %s or %s file", policyExtension, schemaExtension)}}
	}
}

func statementFaults(path, text string) pdp.Faults {
	c := &compilation{policy: &policy{Policy: &pdp.Policy{File: path}}}
	shape, err := outlineFile(text)
	if err != nil {
		c.faultAt(1, "", err)
		return c.faults
	}
	for i := range shape.statements {
		if _, err := parseStatement(text, &shape.statements[i]); err != nil {
			c.faultAt(shape.statements[i].line, "", err)
		}
	}
	return c.faults
}
