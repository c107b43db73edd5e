package cedareval

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// TestEntitiesAreReadByTheSchema has examples that cedar-go alone permits and
// that must be denied.
func TestEntitiesAreReadByTheSchema(t *testing.T) {
	examples, err := filepath.Glob("testdata/reading/*/schema.cedarschema")
	if err != nil || len(examples) == 0 {
		t.Fatal("no examples", err)
	}
	for _, path := range examples {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			file := func(name string) []byte {
				data, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				return data
			}
			schema, err := ReadSchema(path, file("schema.cedarschema"))
			if err != nil {
				t.Fatal(err)
			}
			entities, err := ReadEntities(schema, file("entities.json"))
			if err != nil {
				t.Fatal(err)
			}
			statements := parseAll(t, dir, string(file("policies.cedar")))
			var requests []struct {
				Description, Principal, Action, Resource string
				Context                                  json.RawMessage
				Decision, Alone                          cedar.Decision
			}
			if err := json.Unmarshal(file("requests.json"), &requests); err != nil {
				t.Fatal(err)
			}
			for _, r := range requests {
				t.Run(r.Description, func(t *testing.T) {
					req := cedar.Request{Principal: entityUID(t, r.Principal), Action: entityUID(t, r.Action), Resource: entityUID(t, r.Resource)}
					if got := alone(t, req, r.Context, file("policies.cedar"), file("entities.json")); got != r.Alone {
						t.Errorf("cedar-go alone: %v, want %v", got, r.Alone)
					}
					if req.Context, err = ReadContext(schema, req.Action, r.Context); err != nil {
						t.Fatal(err)
					}
					if got, _, failed := statements.authorize(t, &environment{entities: entities, request: req}); got != r.Decision || len(failed) > 0 {
						t.Errorf("%v, errors %v; want %v", got, failed, r.Decision)
					}
				})
			}
		})
	}
}

func entityUID(t *testing.T, text string) types.EntityUID {
	t.Helper()
	var uid types.EntityUID
	if err := uid.UnmarshalCedar([]byte(text)); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return uid
}

// alone is cedar-go without the schema. What it cannot read at all, such as a
// JSON number with a fraction, it sees as an empty context.
func alone(t *testing.T, req cedar.Request, context, policies, entities []byte) cedar.Decision {
	t.Helper()
	var known types.EntityMap
	if err := json.Unmarshal(entities, &known); err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(context, &req.Context) != nil {
		req.Context = types.Record{}
	}
	set, err := cedar.NewPolicySetFromBytes("", policies)
	if err != nil {
		t.Fatal(err)
	}
	decision, _ := cedar.Authorize(set, known, req)
	return decision
}

func TestEntitiesThatDoNotConformAreErrors(t *testing.T) {
	schema, err := ReadSchema("s", []byte(`
entity Team enum ["red", "blue"];
entity Member in [Group] = { age: Long, address?: ipaddr };
entity Group in [Root];
entity Root;
action all;
action see in [all] appliesTo { principal: Member, resource: Group };`))
	if err != nil {
		t.Fatal(err)
	}
	const good = `{"uid":{"type":"Member","id":"a"},"attrs":{"age":3},"parents":[{"type":"Group","id":"g"},{"type":"Root","id":"r"}]}`
	entities, err := ReadEntities(schema, []byte("["+good+`,{"uid":{"type":"Team","id":"red"},"attrs":{},"parents":[]}]`))
	if err != nil {
		t.Fatal(err)
	}
	if see := entities[types.NewEntityUID("Action", "see")]; !see.Parents.Contains(types.NewEntityUID("Action", "all")) {
		t.Error("the action is not in its group")
	}
	for text, want := range map[string]string{
		`{}`:                          "list of objects",
		`[{"uid":{"type":"Me`:         "list of objects",
		`[{}]`:                        "entity 0 of the list: uid",
		"[" + good + "," + good + "]": "given twice",
		`[{"uid":{"type":"Nobody","id":"a"},"attrs":{},"parents":[]}]`:                                  `entity 0 of the list: Nobody::"a"`,
		`[{"uid":{"type":"Team","id":"green"},"attrs":{},"parents":[]}]`:                                "not one of the values",
		`[{"uid":{"type":"Member","id":"a"},"attrs":{},"parents":[]}]`:                                  "age",
		`[{"uid":{"type":"Member","id":"a"},"attrs":{"age":"3"},"parents":[]}]`:                         "age",
		`[{"uid":{"type":"Member","id":"a"},"attrs":{"age":3,"x":1},"parents":[]}]`:                     `"x"`,
		`[{"uid":{"type":"Member","id":"a"},"attrs":{"age":3,"address":"nowhere"},"parents":[]}]`:       "address",
		`[{"uid":{"type":"Member","id":"a"},"attrs":{"age":3},"parents":[{"type":"Team","id":"red"}]}]`: "does not let it be in",
		`[{"uid":{"type":"Member","id":"a"},"attrs":{"age":3}}]`:                                        "parents",
		`[{"uid":{"type":"Action","id":"see"},"attrs":{},"parents":[{"type":"Action","id":"other"}]}]`:  "does not let it be in",
		`[{"uid":{"type":"Action","id":"unknown"},"attrs":{},"parents":[]}]`:                            "unknown",
	} {
		if _, err := ReadEntities(schema, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{`{"x":1}`: "/context/x", `[]`: "/context", `{"a":1,"a":1}`: "twice"} {
		if _, err := ReadContext(schema, types.NewEntityUID("Action", "see"), []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("context %s: %v, want %s", text, err, want)
		}
	}
}
