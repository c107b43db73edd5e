//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// authZEN is a client of the AuthZEN Authorization API 1.0, written from the
// standard: it knows the configuration document, the two evaluation endpoints
// and a bearer token, and nothing of this server.
type authZEN struct {
	configuration struct {
		Identifier  string `json:"policy_decision_point"`
		Evaluation  string `json:"access_evaluation_endpoint"`
		Evaluations string `json:"access_evaluations_endpoint"`
	}
	token string
}

type authZENEntity struct {
	Type       string         `json:"type,omitempty"`
	ID         string         `json:"id,omitempty"`
	Properties map[string]any `json:"properties,omitempty"`
}

type authZENAction struct {
	Name       string         `json:"name"`
	Properties map[string]any `json:"properties,omitempty"`
}

type authZENRequest struct {
	Subject     *authZENEntity    `json:"subject,omitempty"`
	Action      *authZENAction    `json:"action,omitempty"`
	Resource    *authZENEntity    `json:"resource,omitempty"`
	Context     map[string]any    `json:"context,omitempty"`
	Evaluations *[]authZENRequest `json:"evaluations,omitempty"`
	Options     map[string]any    `json:"options,omitempty"`
}

type authZENDecision struct {
	Decision *bool          `json:"decision"`
	Context  map[string]any `json:"context"`
}

type authZENAnswer struct {
	authZENDecision
	Evaluations []authZENDecision `json:"evaluations"`
}

// discover reads the configuration of a policy decision point.
func discover(ctx context.Context, identifier, token string) (*authZEN, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, identifier+"/.well-known/authzen-configuration", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	c := &authZEN{token: token}
	if err := json.NewDecoder(resp.Body).Decode(&c.configuration); err != nil {
		return nil, err
	}
	if c.configuration.Identifier != identifier {
		return nil, fmt.Errorf("it says that it is %q", c.configuration.Identifier)
	}
	return c, nil
}

// ask sends a request and reads the answer. An answer that is no decision comes
// back as its status and text.
func (c *authZEN) ask(ctx context.Context, endpoint string, request any) (answer authZENAnswer, status int, text string, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer, 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return answer, 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("X-Request-ID", "an-id-of-the-client")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer, 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer, 0, "", err
	}
	if id := resp.Header.Get("X-Request-ID"); id != "an-id-of-the-client" {
		return answer, 0, "", fmt.Errorf("X-Request-ID came back as %q", id)
	}
	if resp.StatusCode == http.StatusOK {
		if mediaType := resp.Header.Get("Content-Type"); mediaType != "application/json" {
			return answer, 0, "", fmt.Errorf("the answer is %s", mediaType)
		}
		err = json.Unmarshal(data, &answer)
	}
	return answer, resp.StatusCode, string(data), err
}

// The fixture of the standard's certification scenario: alice and bob, record-1
// and record-2.
func certification(t *testing.T) (*server, *authZEN) {
	t.Helper()
	s := start(t, files{"tenants/records/records.cedar": `// @policy({"title":{"en":"Records","zh":"记录"},"scope":{"resource_types":["record"]},"reads":["context.time_of_day"]})

@id("readers")
@title("Both read the first record")
@title_zh("可读首条记录")
@message("It may be read.")
@message_zh("可读。")
@severity("low")
permit (principal, action == Action::"read", resource == record::"record-1")
when { principal == user::"alice" || principal == user::"bob" };

@id("alice_writes")
@title("Alice writes the first record")
@title_zh("alice 可写首条记录")
@message("Alice may write it.")
@message_zh("alice 可写。")
@severity("low")
permit (principal == user::"alice", action == Action::"write", resource == record::"record-1");

@id("administrators_write")
@title("Who is said to be an administrator writes")
@title_zh("管理员可写")
@message("Administrators may write it.")
@message_zh("管理员可写。")
@severity("low")
permit (principal, action == Action::"write", resource)
when { principal has role && principal.role == "admin" };

@id("archived")
@title("What is archived is not written")
@title_zh("归档不可写")
@message("It is archived.")
@message_zh("已归档。")
@severity("high")
forbid (principal, action == Action::"write", resource)
when { resource has status && resource.status == "archived" }
unless { principal has role && principal.role == "admin" };

@id("at_night")
@title("Nothing is written at night")
@title_zh("夜间不可写")
@message("It is night.")
@message_zh("夜间。")
@severity("low")
forbid (principal, action == Action::"write", resource)
when { context has time_of_day && context.time_of_day == "night" };
`})
	s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/tenants", body: encode(object{"id": "records", "name": "Records"})})
	c, err := discover(t.Context(), s.url, s.tokens[s.member("records", "service:gate", "pep")])
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func user(id string) *authZENEntity                 { return &authZENEntity{Type: "user", ID: id} }
func record(id string) *authZENEntity               { return &authZENEntity{Type: "record", ID: id} }
func action(name string) *authZENAction             { return &authZENAction{Name: name} }
func items(all ...authZENRequest) *[]authZENRequest { return &all }

func TestAuthZENAnswersOneEvaluation(t *testing.T) {
	t.Parallel()
	_, c := certification(t)
	for _, row := range []struct {
		name    string
		request authZENRequest
		want    bool
	}{
		{"alice reads", authZENRequest{Subject: user("alice"), Action: action("read"), Resource: record("record-1")}, true},
		{"bob reads", authZENRequest{Subject: user("bob"), Action: action("read"), Resource: record("record-1")}, true},
		{"alice writes", authZENRequest{Subject: user("alice"), Action: action("write"), Resource: record("record-1")}, true},
		{"bob does not write", authZENRequest{Subject: user("bob"), Action: action("write"), Resource: record("record-1")}, false},
		{"nobody reads the other", authZENRequest{Subject: user("alice"), Action: action("read"), Resource: record("record-2")}, false},
		{"a stranger", authZENRequest{Subject: user("carol"), Action: action("read"), Resource: record("record-1")}, false},
		{"an action that nobody knows", authZENRequest{Subject: user("alice"), Action: action("burn"), Resource: record("record-1")}, false},
		{"with properties of the subject", authZENRequest{Subject: &authZENEntity{Type: "user", ID: "bob", Properties: map[string]any{"role": "admin"}}, Action: action("write"), Resource: record("record-1")}, true},
		{"with properties of the resource", authZENRequest{Subject: user("alice"), Action: action("write"), Resource: &authZENEntity{Type: "record", ID: "record-1", Properties: map[string]any{"status": "archived"}}}, false},
		{"with a context", authZENRequest{Subject: user("alice"), Action: action("write"), Resource: record("record-1"), Context: map[string]any{"time_of_day": "night"}}, false},
		{"with a context that matters to nobody", authZENRequest{Subject: user("alice"), Action: action("read"), Resource: record("record-1"), Context: map[string]any{"time_of_day": "night"}}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			for name, ask := range map[string]func() (authZENAnswer, int, string, error){
				"evaluation": func() (authZENAnswer, int, string, error) {
					return c.ask(t.Context(), c.configuration.Evaluation, row.request)
				},
				// Without evaluations, or with none, the other endpoint does the same.
				"evaluations": func() (authZENAnswer, int, string, error) {
					return c.ask(t.Context(), c.configuration.Evaluations, row.request)
				},
				"no evaluations": func() (authZENAnswer, int, string, error) {
					empty := row.request
					empty.Evaluations = &[]authZENRequest{}
					return c.ask(t.Context(), c.configuration.Evaluations, empty)
				},
			} {
				answer, status, text, err := ask()
				if err != nil || status != http.StatusOK || answer.Decision == nil || answer.Evaluations != nil {
					t.Fatalf("%s: %d %s (%v)", name, status, text, err)
				}
				if *answer.Decision != row.want {
					t.Errorf("%s: %s", name, text)
				}
			}
		})
	}
}

func TestAuthZENRefusesWhatTheStandardCallsMalformed(t *testing.T) {
	t.Parallel()
	s, c := certification(t)
	complete := `"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}`
	for name, row := range map[string]struct {
		body   string
		status int
	}{
		"unknown members are ignored": {`{` + complete + `,"unknown":{"a":1}}`, 200},
		"no subject":                  {`{"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`, 400},
		"no action":                   {`{"subject":{"type":"user","id":"alice"},"resource":{"type":"record","id":"record-1"}}`, 400},
		"no resource":                 {`{"subject":{"type":"user","id":"alice"},"action":{"name":"read"}}`, 400},
		"a subject without type":      {strings.Replace(`{`+complete+`}`, `"type":"user",`, ``, 1), 400},
		"a subject without id":        {strings.Replace(`{`+complete+`}`, `,"id":"alice"`, ``, 1), 400},
		"an action without name":      {strings.Replace(`{`+complete+`}`, `"name":"read"`, ``, 1), 400},
		"a resource without id":       {strings.Replace(`{`+complete+`}`, `,"id":"record-1"`, ``, 1), 400},
		"a name that is no string":    {strings.Replace(`{`+complete+`}`, `"read"`, `7`, 1), 400},
		"not an object":               {`[]`, 400},
		"not JSON":                    {`{"subject":`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			for _, endpoint := range []string{c.configuration.Evaluation, c.configuration.Evaluations} {
				a := s.in(t).do(call{as: "records/service:gate *", path: strings.TrimPrefix(endpoint, s.url), body: row.body})
				if a.status != row.status || row.status == 200 && a.at("/decision") != true {
					t.Errorf("%s: %d %s", endpoint, a.status, a.text)
				}
			}
		})
	}
	stranger := &authZEN{configuration: c.configuration, token: "xz_pat_nobody_" + strings.Repeat("x", 43)}
	if _, status, text, err := stranger.ask(t.Context(), c.configuration.Evaluation, authZENRequest{Subject: user("alice"), Action: action("read"), Resource: record("record-1")}); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d %s (%v)", status, text, err)
	}
}

func TestAuthZENAnswersManyEvaluations(t *testing.T) {
	t.Parallel()
	_, c := certification(t)
	// Of alice's, the first and the third are permitted.
	four := items(
		authZENRequest{Action: action("read")},
		authZENRequest{Action: action("read"), Resource: record("record-2")},
		authZENRequest{Action: action("write")},
		authZENRequest{Action: action("burn")},
	)
	ask := func(request authZENRequest) []bool {
		t.Helper()
		answer, status, text, err := c.ask(t.Context(), c.configuration.Evaluations, request)
		if err != nil || status != http.StatusOK || answer.Decision != nil {
			t.Fatalf("%d %s (%v)", status, text, err)
		}
		var decisions []bool
		for _, d := range answer.Evaluations {
			if d.Decision == nil {
				t.Fatalf("an item without decision: %s", text)
			}
			decisions = append(decisions, *d.Decision)
		}
		return decisions
	}
	alices := func(all *[]authZENRequest, semantic string) authZENRequest {
		r := authZENRequest{Subject: user("alice"), Resource: record("record-1"), Evaluations: all}
		if semantic != "" {
			r.Options = map[string]any{"evaluations_semantic": semantic, "another_option": true}
		}
		return r
	}
	denied := items(authZENRequest{Action: action("burn")}, authZENRequest{Action: action("read"), Resource: record("record-2")})
	permitted := items(authZENRequest{Action: action("read")}, authZENRequest{Action: action("write")})
	for _, row := range []struct {
		name    string
		request authZENRequest
		want    []bool
	}{
		{"execute_all is the default", alices(four, ""), []bool{true, false, true, false}},
		{"execute_all", alices(four, "execute_all"), []bool{true, false, true, false}},
		{"deny_on_first_deny ends with the first deny", alices(four, "deny_on_first_deny"), []bool{true, false}},
		{"deny_on_first_deny without a deny", alices(permitted, "deny_on_first_deny"), []bool{true, true}},
		{"permit_on_first_permit ends with the first permit", alices(four, "permit_on_first_permit"), []bool{true}},
		{"permit_on_first_permit goes past denies", alices(items((*four)[1], (*four)[3], (*four)[2], (*four)[0]), "permit_on_first_permit"), []bool{false, false, true}},
		{"permit_on_first_permit without a permit", alices(denied, "permit_on_first_permit"), []bool{false, false}},
		{"an item overrides each default", authZENRequest{
			Subject: user("bob"), Action: action("write"), Resource: record("record-1"), Context: map[string]any{"time_of_day": "day"},
			Evaluations: items(authZENRequest{}, authZENRequest{Subject: user("alice")}, authZENRequest{Action: action("read")}, authZENRequest{Subject: user("alice"), Context: map[string]any{"time_of_day": "night"}}),
		}, []bool{false, true, true, false}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := ask(row.request); !reflect.DeepEqual(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}

	// An item that cannot be asked is denied with its error, and the others
	// are answered; where a deny ends it all, it does.
	broken := items(authZENRequest{Action: action("read")}, authZENRequest{Action: action("read"), Resource: &authZENEntity{Type: "", ID: "x"}, Subject: &authZENEntity{Type: "spaced out"}}, authZENRequest{Action: action("write")})
	answer, _, text, err := c.ask(t.Context(), c.configuration.Evaluations, alices(broken, ""))
	if err != nil || len(answer.Evaluations) != 3 || !*answer.Evaluations[0].Decision || *answer.Evaluations[1].Decision || !*answer.Evaluations[2].Decision {
		t.Fatalf("%s (%v)", text, err)
	}
	problem, _ := answer.Evaluations[1].Context["error"].(map[string]any)
	if problem["status"] != float64(400) || problem["message"] == "" {
		t.Errorf("the broken item's error: %s", text)
	}
	if got := ask(alices(broken, "deny_on_first_deny")); !reflect.DeepEqual(got, []bool{true, false}) {
		t.Errorf("deny_on_first_deny at a broken item: %v", got)
	}
	if _, status, text, err := c.ask(t.Context(), c.configuration.Evaluations, alices(four, "permit_all")); err != nil || status != http.StatusBadRequest {
		t.Errorf("a semantic that nobody knows: %d %s (%v)", status, text, err)
	}
}
