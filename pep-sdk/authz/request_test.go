package authz

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const wholeRequest = `{"tenant":"acme","subject":{"type":"user","id":"li.wei","properties":{"a":1}},
 "action":{"name":"vm.create","properties":{"dry":true}},"resource":{"type":"vm","id":"req-42/web"},"context":{"ip":"::1"}}`

func TestRequestReadsWhatItWrites(t *testing.T) {
	var r, again Request
	if err := json.Unmarshal([]byte(wholeRequest), &r); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if av, rv := again.Value(), r.Value(); !av.Equal(rv) || r.Action.Name != "vm.create" || r.Subject.ID != "li.wei" {
		t.Errorf("%s reads as %+v", text, again)
	}
}

func TestActionMayBeAString(t *testing.T) {
	var r Request
	text := strings.Replace(wholeRequest, `{"name":"vm.create","properties":{"dry":true}}`, `"vm.create"`, 1)
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Action.Name != "vm.create" {
		t.Errorf("%+v, %v", r.Action, err)
	}
}

func TestRequestNamesThePlaceOfEveryFault(t *testing.T) {
	for path, change := range map[string][2]string{
		"/extra":              {`"tenant"`, `"extra":1,"tenant"`},
		"/tenant":             {`"acme"`, `"ACME"`},
		"/subject/typ":        {`"type":"user"`, `"typ":"user"`},
		"/subject/id":         {`"li.wei"`, `7`},
		"/subject/properties": {`{"a":1}`, `null`},
		"/subject":            {`{"type":"user","id":"li.wei","properties":{"a":1}}`, `"user:li.wei"`},
		"/action":             {`{"name":"vm.create","properties":{"dry":true}}`, `null`},
		"/action/name":        {`"vm.create"`, `""`},
		"/action/Name":        {`"name"`, `"Name"`},
		"/resource/type":      {`"type":"vm"`, `"type":"v m"`},
		"/resource/id":        {`req-42/web`, `a\u0000b`},
		"/context":            {`{"ip":"::1"}`, `[]`},
	} {
		text := strings.Replace(wholeRequest, change[0], change[1], 1)
		var r Request
		err := r.UnmarshalJSON([]byte(text))
		var field *FieldError
		if !errors.As(err, &field) || field.Path != path {
			t.Errorf("%s: got %v, want an error there", path, err)
		}
	}
}

func TestMissingMembersAreRefused(t *testing.T) {
	for _, name := range []string{"tenant", "subject", "action", "resource"} {
		v, _ := Parse([]byte(wholeRequest))
		if _, err := RequestOf(v.Without(name)); err == nil {
			t.Errorf("a request without %s passes", name)
		}
	}
	v, _ := Parse([]byte(wholeRequest))
	if _, err := RequestOf(v.Without("context")); err != nil {
		t.Errorf("a request without context: %v", err)
	}
}

func TestTheZeroDecisionDenies(t *testing.T) {
	var d Decision
	if d.Allowed() || d.Effect != Deny {
		t.Error("the zero decision does not deny")
	}
	var e Effect
	for _, text := range []string{"allow", "Allow", "", "PERMIT", "ALLOW "} {
		if e.UnmarshalText([]byte(text)) == nil {
			t.Errorf("effect %q passes", text)
		}
	}
}

func TestRevisionHasOneSpelling(t *testing.T) {
	r, err := ParseRevision("r42.g7")
	if err != nil || r != (Revision{42, 7}) || r.String() != "r42.g7" {
		t.Fatalf("%v, %v", r, err)
	}
	for _, text := range []string{"", "r42", "42.7", "r042.g7", "r+42.g7", "r42.g7 ", "r42.g", "g7.r42", "r99999999999999999999.g1"} {
		if _, err := ParseRevision(text); err == nil {
			t.Errorf("%q passes", text)
		}
	}
	if r.Includes(Revision{42, 8}) || r.Includes(Revision{43, 0}) || !r.Includes(Revision{41, 7}) {
		t.Error("a revision includes what is newer, or not what is older")
	}
}
