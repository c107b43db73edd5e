package pdp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ObligationsFile is where a release declares obligations whose parameters
// have an order.
const ObligationsFile = "obligations.yaml"

// obligationSchema says how two statements of one obligation combine: per
// parameter "max" or "min", or not at all.
type obligationSchema struct {
	orders map[string]map[string]string // obligation id → parameter → order
}

func readObligations(content *bundles.Content) (*obligationSchema, error) {
	schema := &obligationSchema{orders: map[string]map[string]string{}}
	data, err := content.File(ObligationsFile)
	if err != nil {
		return schema, nil //nolint:nilerr // a release without the file orders nothing
	}
	var file struct {
		Obligations map[string]struct {
			Description string `yaml:"description"`
			Params      map[string]struct {
				Order       string `yaml:"order"`
				Description string `yaml:"description"`
			} `yaml:"params"`
		} `yaml:"obligations"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, Faults{{File: ObligationsFile, Message: err.Error()}}
	}
	for id, o := range file.Obligations {
		orders := map[string]string{}
		for param, p := range o.Params {
			if p.Order != "" && p.Order != "max" && p.Order != "min" {
				return nil, Faults{{File: ObligationsFile, Message: fmt.Sprintf("obligation %s: parameter %s: order %q: want max or min", id, param, p.Order)}}
			}
			orders[param] = p.Order
		}
		schema.orders[id] = orders
	}
	return schema, nil
}

// unite sorts the obligations, makes one of those with the same id, and
// returns the ids whose parameters cannot be united.
func (s *obligationSchema) unite(list *[]authz.Obligation) (conflicts []string) {
	if len(*list) == 0 {
		return nil
	}
	all := *list
	slices.SortFunc(all, func(a, b authz.Obligation) int {
		if c := cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Policy, b.Policy), strings.Compare(a.Rule, b.Rule)); c != 0 {
			return c
		}
		return strings.Compare(string(a.Params.AppendJSON(nil)), string(b.Params.AppendJSON(nil)))
	})
	united := all[:0] // never longer than what was read
	for _, o := range all {
		if o.Params.Kind() == authz.KindNull {
			o.Params, _ = authz.ObjectValue() // no members, no error
		}
		last := len(united) - 1
		if last < 0 || united[last].ID != o.ID {
			united = append(united, o)
			continue
		}
		params, ok := s.uniteParams(o.ID, united[last].Params, o.Params)
		if !ok && !slices.Contains(conflicts, o.ID) {
			conflicts = append(conflicts, o.ID)
		}
		united[last].Params = params
		united[last].Must = united[last].Must || o.Must
	}
	clear(all[len(united):])
	*list = united
	return conflicts
}

func (s *obligationSchema) uniteParams(id string, a, b authz.Value) (authz.Value, bool) {
	if a.Equal(b) {
		return a, true
	}
	orders := s.orders[id]
	united := a
	for i := range b.Len() {
		name, vb := b.Name(i), b.Index(i)
		va, both := a.Get(name)
		switch order := orders[name]; {
		case both && va.Equal(vb):
		case order == "" || both && (!isNumber(va) || !isNumber(vb)):
			return a, false
		case !both, order == "max" && vb.Float() > va.Float(), order == "min" && vb.Float() < va.Float():
			united = united.With(name, vb)
		}
	}
	for i := range a.Len() {
		if _, both := b.Get(a.Name(i)); !both && orders[a.Name(i)] == "" {
			return a, false
		}
	}
	return united, true
}

func isNumber(v authz.Value) bool { return v.Kind() == authz.KindInt || v.Kind() == authz.KindFloat }
