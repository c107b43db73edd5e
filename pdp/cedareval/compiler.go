package cedareval

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
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
		schema, err := readReserved(f)
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
		schema := schemas[SchemaFile]
		if strings.HasPrefix(f.Path, "self/") {
			schema = schemas[SelfSchemaFile]
		}
		faults = append(faults, p.compile(ctx, source, schema, f)...)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return p, nil
}

// readReserved reads a schema and gives its actions the reserved members.
func readReserved(f bundles.File) (schema *Schema, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cedar-go cannot take this schema: %v", r)
		}
	}()
	if schema, err = ReadSchema(f.Path, f.Data); err != nil {
		return nil, err
	}
	return schema, schema.reserve()
}

// compile adds one file to the program, or says what is wrong with it. It stops
// early when ctx ends.
func (p *program) compile(ctx context.Context, source *pdp.Source, schema *Schema, f bundles.File) (faults pdp.Faults) {
	defer func() {
		if r := recover(); r != nil {
			faults = pdp.Faults{{File: f.Path, Message: fmt.Sprintf("cedar-go cannot take this file: %v", r)}}
		}
	}()
	compiled, faults := compilePolicy(ctx, source, schema, f)
	if compiled == nil || len(faults) > 0 {
		return faults
	}
	digest := policyDigest(f, schema)
	for _, rule := range compiled.Rules {
		rule.Digest = ruleDigest(digest, rule, source.Templates[rule.Template])
	}
	p.add(compiled)
	return nil
}

func schemaFault(file string, err error) pdp.Fault {
	line, message := schemaErrorPlace(file, err)
	return pdp.Fault{File: file, Line: line, Message: message}
}

// policyDigest covers what all rules of a file have in common.
func policyDigest(file bundles.File, schema *Schema) bundles.Digest {
	var schemaText []byte
	if schema != nil {
		schemaText = schema.text
	}
	return digestOf([]byte("cedar policy 1"), []byte(file.Path), file.Data, schemaText)
}

// ruleDigest covers everything that decides what a rule says, save the
// request: Cedar reads no tables.
func ruleDigest(policy bundles.Digest, rule *pdp.Rule, template bundles.File) bundles.Digest {
	return digestOf([]byte("cedar rule 1"), policy[:], []byte(rule.ID), template.Data)
}

// digestOf hashes the parts, each after its length.
func digestOf(parts ...[]byte) bundles.Digest {
	hash := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:])
		hash.Write(part)
	}
	return bundles.Digest(hash.Sum(nil))
}
