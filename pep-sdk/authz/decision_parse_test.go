package authz

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func fullDecision() Decision {
	permit := "jws"
	return Decision{
		ID: "01K", Effect: Allow, Revision: Revision{42, 7}, Stale: true,
		Reasons: []Reason{
			{Policy: "platform/network", Rule: "public", Effect: Review, Message: "m", MessageZH: "中", Path: "/resource", Severity: "high", Grant: "g-1"},
			{Rule: RuleEvaluationError, Effect: Deny, Message: "m", Cause: "c", Location: "f:1", FailedRule: "r"},
		},
		Obligations: []Obligation{{Policy: "p", Rule: "r", ID: "encrypt", Must: true, Params: MustValue(map[string]any{"bits": 256})}, {ID: "notify"}},
		Limits:      []Limit{{Policy: "p", Rule: "r", Key: "k", Rate: 0.5, Burst: 3, Window: "1m", Quota: &Quota{Max: 9, Reset: "day"}, Cost: 2}, {Key: "other"}},
		Route:       &Route{Policy: "p", Rule: "r", Pool: "hz", Standby: "sh"},
		Approval:    &Approval{ID: "cheq-1", Status: "PENDING", ExpiresAt: time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC)},
		Permit:      &permit,
	}
}

func TestParseDecisionReadsWhatIsWritten(t *testing.T) {
	for _, d := range []Decision{fullDecision(), {ID: "01K", Effect: Deny}, {ID: "01K", Effect: Review}} {
		got, err := ParseDecision(d.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Obligations {
			if params := d.Obligations[i].Params; got.Obligations[i].Params.Equal(params) {
				got.Obligations[i].Params = params // a value that is equal lies elsewhere
			}
		}
		if !reflect.DeepEqual(got, d) {
			t.Errorf("got  %+v\nwant %+v", got, d)
		}
	}
}

func TestParseDecisionRefusesWhatItDoesNotKnow(t *testing.T) {
	d := fullDecision()
	good := string(d.AppendJSON(nil))
	for name, change := range map[string][2]string{
		"unknown member":            {`"stale"`, `"unless":1,"stale"`},
		"member twice":              {`"stale":true`, `"stale":true,"stale":false`},
		"unknown effect":            {`"effect":"ALLOW"`, `"effect":"MAYBE"`},
		"effect in small letters":   {`"effect":"ALLOW"`, `"effect":"allow"`},
		"decision that contradicts": {`"decision":true`, `"decision":false`},
		"no effect":                 {`"effect":"ALLOW",`, ``},
		"no obligations":            {`"obligations"`, `"advice"`},
		"obligations null":          {`"limits":[`, `"limits":null,"x":[`},
		"unknown in an obligation":  {`"must":true`, `"must":true,"when":1`},
		"must as text":              {`"must":true`, `"must":"true"`},
		"unknown in a limit":        {`"burst":3`, `"burst":3,"per":"x"`},
		"a cost as a fraction":      {`"cost":2`, `"cost":2.5`},
		"unknown in a quota":        {`"max":9`, `"max":9,"min":1`},
		"unknown in a route":        {`"pool":"hz"`, `"pool":"hz","weight":1`},
		"unknown in a reason":       {`"rule":"public"`, `"rule":"public","x":"y"`},
		"unknown in an approval":    {`"status":"PENDING"`, `"status":"PENDING","x":"y"`},
		"time of an approval":       {`2026-11-22T`, `yesterday `},
		"revision":                  {`r42.g7`, `r42`},
		"more after it":             {`"permit":"jws"}`, `"permit":"jws"}{}`},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%s changes nothing", name)
		}
		d, err := ParseDecision([]byte(text))
		var field *FieldError
		if !errors.As(err, &field) || d.Allowed() || d.ID != "" {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func FuzzParseDecision(f *testing.F) {
	d := fullDecision()
	f.Add(d.AppendJSON(nil))
	f.Add([]byte(`{"decision_id":"1","effect":"DENY","decision":false,"revision":"r1.g1","obligations":[],"limits":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDecision(data)
		if err != nil {
			if d.Allowed() {
				t.Error("an error that allows")
			}
			return
		}
		again, err := ParseDecision(d.AppendJSON(nil))
		if err != nil || again.Effect != d.Effect || len(again.Obligations) != len(d.Obligations) || len(again.Limits) != len(d.Limits) {
			t.Errorf("%+v\n%+v\n%v", d, again, err)
		}
	})
}
