package regoeval

import (
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestTheStricterAnswerCounts(t *testing.T) {
	policy := &pdp.Policy{ID: "platform/p"}
	deny, review := &pdp.Rule{ID: "d", Kind: pdp.KindDeny}, &pdp.Rule{ID: "v", Kind: pdp.KindReview}
	admits, allow := &pdp.Rule{ID: "m", Kind: pdp.KindReview, Admits: true}, &pdp.Rule{ID: "a", Kind: pdp.KindAllow}
	found := func(rules ...*pdp.Rule) pdp.Outcome {
		o := pdp.Outcome{Policy: policy}
		for _, r := range rules {
			o.Findings = append(o.Findings, pdp.Finding{Rule: r})
		}
		return o
	}
	failed := func(c pdp.Cause) pdp.Outcome {
		return pdp.Outcome{Policy: policy, Err: &pdp.EvaluationError{Cause: c, Message: string(c)}}
	}
	args := func(n int) pdp.Outcome {
		return pdp.Outcome{Policy: policy, Findings: []pdp.Finding{{Rule: deny, Args: authz.MustValue(map[string]any{"n": n})}}}
	}
	with := func(must bool, rate float64, pool string) pdp.Outcome {
		return pdp.Outcome{
			Policy: policy, Obligations: []authz.Obligation{{Rule: "o", ID: "log", Must: must}},
			Limits: []authz.Limit{{Rule: "l", Key: "k", Rate: rate}}, Routes: []authz.Route{{Rule: "p", Pool: pool}},
		}
	}
	for name, c := range map[string]struct {
		compiled, topdown pdp.Outcome
		want, difference  string
	}{
		"nothing":                         {found(), found(), "", ""},
		"the same":                        {found(deny, allow), found(allow, deny), "a d", ""},
		"only compiled denies":            {found(deny), found(), "d", "deny d: 1 only compiled, 0 only topdown"},
		"only topdown denies":             {found(), found(deny), "d", "deny d: 0 only compiled, 1 only topdown"},
		"only compiled asks":              {found(review, allow), found(allow), "a v", "review v: 1 only compiled, 0 only topdown"},
		"only compiled allows":            {found(allow), found(), "", "allow a: 1 only compiled, 0 only topdown"},
		"only topdown allows":             {found(review), found(review, allow), "v", "allow a: 0 only compiled, 1 only topdown"},
		"both admit":                      {found(admits), found(admits), "m", ""},
		"one admits":                      {found(admits), found(), "!policy_error", "review m: 1 only compiled, 0 only topdown"},
		"with other arguments":            {args(1), args(2), "d d", "deny d: 1 only compiled, 1 only topdown"},
		"only compiled fails":             {failed(pdp.CausePolicyError), found(allow), "!policy_error", "compiled: policy_error; topdown: no error"},
		"only topdown fails":              {found(allow), failed(pdp.CausePolicyError), "!policy_error", "compiled: no error; topdown: policy_error"},
		"both fail":                       {failed(pdp.CausePolicyError), failed(pdp.CausePolicyError), "!policy_error", ""},
		"topdown's time ends":             {found(allow), failed(pdp.CauseBudgetSpent), "!budget_spent", ""},
		"the same beside findings":        {with(true, 1, "x"), with(true, 1, "x"), "log:true 1 x", ""},
		"other beside findings: a limit":  {with(true, 2, "x"), with(true, 1, "x"), "log:true 1 2 x", "limits l: 1 only compiled, 1 only topdown"},
		"other beside findings: all else": {with(false, 1, "y"), with(true, 1, "x"), "log:true log:false 1 x y", "obligations o: 1 only compiled, 1 only topdown; route p: 1 only compiled, 1 only topdown"},
	} {
		t.Run(name, func(t *testing.T) {
			o := stricter(&c.compiled, &c.topdown)
			if got := told(o); got != c.want || o.Policy != policy {
				t.Errorf("answered %q, want %q", got, c.want)
			}
			if got := difference(&c.compiled, &c.topdown); got != c.difference {
				t.Errorf("difference %q, want %q", got, c.difference)
			}
		})
	}
}

// told writes an outcome.
func told(o pdp.Outcome) string {
	var all []string
	if o.Err != nil {
		all = append(all, "!"+string(o.Err.Cause))
	}
	for _, f := range o.Findings {
		all = append(all, f.Rule.ID)
	}
	for _, v := range o.Obligations {
		all = append(all, v.ID+map[bool]string{true: ":true", false: ":false"}[v.Must])
	}
	for _, v := range o.Limits {
		all = append(all, string(authz.MustValue(v.Rate).AppendJSON(nil)))
	}
	for _, v := range o.Routes {
		all = append(all, v.Pool)
	}
	return strings.Join(all, " ")
}
