package httpd

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The document is made of two halves that tests hold together: the paths come
// from the route table, what they carry from openapi.yaml.

//go:embed openapi.yaml
var openapiComponents []byte

type object = map[string]any

// openAPI builds the OpenAPI 3.1 document of the routes.
func openAPI(routes []Route) ([]byte, error) {
	var document object
	if err := yaml.Unmarshal(openapiComponents, &document); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	delete(document, "x-parts") // what its schemas are written from
	components, err := componentsOf(document)
	if err != nil {
		return nil, err
	}
	paths := object{}
	for i := range routes {
		r := &routes[i]
		if err := components.know(r); err != nil {
			return nil, fmt.Errorf("openapi.yaml: route %s %s: %w", r.Method, r.Path, err)
		}
		path := strings.ReplaceAll(r.Path, "...}", "}")
		item, ok := paths[path].(object)
		if !ok {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(r.Method)] = r.document()
	}
	document["paths"] = paths
	return json.Marshal(document)
}

// componentNames are what openapi.yaml declares.
type componentNames struct{ schemas, parameters object }

func componentsOf(document object) (componentNames, error) {
	components, ok := document["components"].(object)
	if !ok {
		return componentNames{}, fmt.Errorf("openapi.yaml: no components")
	}
	schemas, _ := components["schemas"].(object)
	parameters, _ := components["parameters"].(object)
	return componentNames{schemas, parameters}, nil
}

// know refuses a route that names what is not declared.
func (n componentNames) know(r *Route) error {
	for _, schema := range []string{r.Body, r.Answer} {
		if _, ok := n.schemas[schema]; !ok && schema != "" {
			return fmt.Errorf("no schema %s", schema)
		}
	}
	for _, parameter := range slices.Concat(r.Query, r.Headers) {
		if _, ok := n.parameters[parameter]; !ok {
			return fmt.Errorf("no parameter %s", parameter)
		}
	}
	return nil
}

// document is the route's operation object.
func (r *Route) document() object {
	operation := object{
		"operationId": r.Operation, "summary": r.Summary, "security": []object{},
		"responses": r.responses(),
	}
	if !r.Public {
		operation["security"] = []object{{"token": []string{}}}
		operation["x-xiezhi-rights"] = r.Rights
	}
	if parameters := r.parameters(); len(parameters) > 0 {
		operation["parameters"] = parameters
	}
	if r.Body != "" {
		operation["requestBody"] = object{"required": !r.BodyOptional, "content": object{"application/json": schemaRef(r.Body)}}
	}
	return operation
}

func (r *Route) parameters() []object {
	var parameters []object
	for step := range strings.SplitSeq(r.Path, "/") {
		if name, ok := strings.CutPrefix(strings.TrimSuffix(strings.TrimSuffix(step, "}"), "..."), "{"); ok {
			parameters = append(parameters, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}})
		}
	}
	for _, name := range slices.Concat(r.Query, r.Headers) {
		parameters = append(parameters, object{"$ref": "#/components/parameters/" + name})
	}
	return parameters
}

func (r *Route) responses() object {
	success := object{"description": http.StatusText(r.Status)}
	if r.Answer == "" {
		success["content"] = object{"text/plain": object{"schema": object{"type": "string"}}}
	} else {
		success["content"] = object{"application/json": schemaRef(r.Answer)}
	}
	failure := object{"description": "A problem document", "content": object{"application/problem+json": schemaRef("Problem")}}
	if r.AuthZEN {
		failure = object{"description": "An error message", "content": object{"text/plain": object{"schema": object{"type": "string"}}}}
	}
	if r.OPA {
		failure = object{"description": "An error of OPA's API", "content": object{"application/json": schemaRef("OPAError")}}
	}
	responses := object{strconv.Itoa(r.Status): success, "default": failure}
	if r.Joined {
		responses["200"] = success
	}
	if r.Waiting != "" {
		responses["202"] = object{"description": "People must say yes first", "content": object{"application/json": schemaRef(r.Waiting)}}
	}
	if r.Operation == "submitAccessRequest" {
		responses["201"] = success // it has ended already
	}
	if r.Operation == "readiness" {
		responses["503"] = object{"description": "Not ready", "content": object{"application/json": schemaRef(r.Answer)}}
	}
	return responses
}

func schemaRef(name string) object {
	return object{"schema": object{"$ref": "#/components/schemas/" + name}}
}
