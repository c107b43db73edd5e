package policytest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Answers stands for every attribute source of a release: what it answers, by
// attribute name. Null means that the source does not answer; no entry, that
// it answers there is none. It must not change while it is in use.
type Answers map[string]authz.Value

// ReadAnswers reads a YAML file of attribute name → answer, and holds it to
// the schema. Errors are [pdp.Faults].
func ReadAnswers(file string, data []byte, schema *pdp.AttributeSchema) (Answers, error) {
	d := readDocument(file, data)
	var answers Answers
	if len(d.faults) == 0 {
		answers = d.answers(d.value, "", sourced(schema))
	}
	if len(d.faults) > 0 {
		return nil, d.faults
	}
	return answers, nil
}

// Attribute implements [pdp.AttributeSource].
func (a Answers) Attribute(_ context.Context, q pdp.AttributeQuery) (authz.Value, bool, error) {
	v, ok := a[q.Name]
	if ok && v.Kind() == authz.KindNull {
		return authz.Value{}, false, errors.New("the source does not answer")
	}
	return v, ok, nil
}

// Local implements [pdp.AttributeSource].
func (a Answers) Local() bool { return true }

// Sources returns a under the name of every source in the schema.
func (a Answers) Sources(schema *pdp.AttributeSchema) map[string]pdp.AttributeSource {
	sources := map[string]pdp.AttributeSource{}
	for _, attribute := range schema.All() {
		sources[attribute.Source] = a
	}
	return sources
}

// answers reads attribute names and answers; check refuses a name.
func (d *document) answers(v authz.Value, at string, check func(name string, answer authz.Value) error) Answers {
	answers := Answers{}
	if !d.object(v, at) {
		return answers
	}
	for i := range v.Len() {
		name := v.Name(i)
		if err := check(name, v.Index(i)); err != nil {
			d.fault(join(at, name), "%v", err)
		}
		answers[name] = v.Index(i)
	}
	return answers
}

// sourced takes the attributes that a source answers.
func sourced(schema *pdp.AttributeSchema) func(string, authz.Value) error {
	return func(name string, _ authz.Value) error {
		a, ok := schema.Get(name)
		switch {
		case !ok:
			return fmt.Errorf("%s does not declare this attribute", pdp.AttributesFile)
		case a.Source == "":
			return errors.New("no source answers this attribute; put it into the request")
		default:
			return nil
		}
	}
}

// supplied takes what the server itself puts into a request to its own
// policies: any property, answered.
func supplied(name string, answer authz.Value) error {
	entity, property, _ := strings.Cut(name, ".")
	switch {
	case entity != "subject" && entity != "resource" || property == "" || strings.Contains(property, "."):
		return errors.New("want subject.<property> or resource.<property>")
	case answer.Kind() == authz.KindNull:
		return errors.New("the server supplies what self policies read; there is no source that could fail")
	default:
		return nil
	}
}

// supply puts the answers into the request's properties.
func (a Answers) supply(req authz.Request) authz.Request {
	for name, answer := range a {
		entity, property, _ := strings.Cut(name, ".")
		properties := &req.Subject.Properties
		if entity == "resource" {
			properties = &req.Resource.Properties
		}
		*properties = properties.With(property, answer)
	}
	return req
}
