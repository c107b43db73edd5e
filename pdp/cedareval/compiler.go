package cedareval

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

const (
	policyExtension = ".cedar"
	schemaExtension = ".cedarschema"

	// SchemaFile is the schema of the platform's and the tenants' policies.
	SchemaFile = "schema" + schemaExtension
	// SelfSchemaFile is the schema of the self policies.
	SelfSchemaFile = "self/" + SchemaFile
)

// Compiler compiles Cedar policies. It is safe for concurrent use.
type Compiler struct{}

// New returns a Compiler.
func New() *Compiler { return &Compiler{} }

var _ pdp.Compiler = (*Compiler)(nil)

// Compile implements [pdp.Compiler]: it takes *.cedar and *.cedarschema.
func (*Compiler) Compile(ctx context.Context, source *pdp.Source) (pdp.Program, error) {
	schemas := map[string]*Schema{} // by file
	var faults pdp.Faults
	for _, f := range source.Content.Files() {
		if !strings.HasSuffix(f.Path, schemaExtension) {
			continue
		}
		if f.Path != SchemaFile && f.Path != SelfSchemaFile {
			faults = append(faults, pdp.Fault{File: f.Path, Message: "nothing reads this schema; there are " + SchemaFile + " and " + SelfSchemaFile})
			continue
		}
		schema, err := ReadSchema(f.Path, f.Data)
		if err == nil {
			err = schema.reserve()
		}
		if err != nil {
			faults = append(faults, schemaFault(f.Path, err))
			continue
		}
		schemas[f.Path] = schema
	}
	p := newProgram(schemas[SchemaFile], schemas[SelfSchemaFile])
	for _, f := range source.Content.Files() {
		if !strings.HasSuffix(f.Path, policyExtension) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		schema := schemas[SchemaFile]
		if strings.HasPrefix(f.Path, "self/") {
			schema = schemas[SelfSchemaFile]
		}
		compiled, wrong := compilePolicy(source, schema, f)
		if len(wrong) > 0 {
			faults = append(faults, wrong...)
			continue
		}
		for _, s := range compiled.statements {
			s.rule.Digest = ruleDigest(f, schema, source.Templates[s.rule.Template], s.rule.ID)
		}
		p.add(compiled)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return p, nil
}

func schemaFault(file string, err error) pdp.Fault {
	line, message := schemaErrorPlace(file, err)
	return pdp.Fault{File: file, Line: line, Message: message}
}

// ruleDigest covers everything that decides what a rule says, save the request
// and tables, which Cedar does not read.
func ruleDigest(file bundles.File, schema *Schema, template bundles.File, rule string) bundles.Digest {
	var schemaText []byte
	if schema != nil {
		schemaText = schema.text
	}
	hash := sha256.New()
	for _, part := range [][]byte{[]byte("cedar rule 1"), []byte(file.Path), file.Data, schemaText, template.Data, []byte(rule)} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:])
		hash.Write(part)
	}
	return bundles.Digest(hash.Sum(nil))
}
