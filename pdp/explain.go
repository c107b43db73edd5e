package pdp

// Explanation says of every policy of the request's layers what it did.
type Explanation struct {
	RequestDigest string              `json:"request_digest"`
	Policies      []PolicyExplanation `json:"policies"`
}

// PolicyExplanation is one policy's part.
type PolicyExplanation struct {
	Policy     string      `json:"policy"`
	Language   string      `json:"language"`
	Applicable bool        `json:"applicable"`
	Why        string      `json:"why,omitempty"` // it does not apply, or failed
	Rules      []RuleTrace `json:"rules"`
}

func (q *question) explanation() *Explanation {
	e := &Explanation{}
	if digest, err := q.requestDigest(); err == nil {
		e.RequestDigest = digest.String()
	}
	byPolicy := map[*Policy]*Outcome{}
	for i := range q.outcomes {
		byPolicy[q.outcomes[i].Policy] = &q.outcomes[i]
	}
	for _, p := range q.snapshot.Release.policies {
		if p.Layer == LayerSelf || p.Layer == LayerTenant && p.Tenant != q.input.Request.Tenant {
			continue
		}
		part := PolicyExplanation{Policy: p.ID, Language: p.Language, Rules: []RuleTrace{}}
		if o, ok := byPolicy[p]; ok {
			part.explain(o)
		} else {
			part.Why = p.Scope.whyNot(q.input.Request)
			for _, r := range p.Rules {
				part.Rules = append(part.Rules, RuleTrace{Rule: r.ID, Why: "the policy does not apply"})
			}
		}
		e.Policies = append(e.Policies, part)
	}
	for i := range q.outcomes {
		if p := q.outcomes[i].Policy; p.Layer == LayerDynamic {
			part := PolicyExplanation{Policy: p.ID, Language: p.Language}
			part.explain(&q.outcomes[i])
			e.Policies = append(e.Policies, part)
		}
	}
	return e
}

func (e *PolicyExplanation) explain(o *Outcome) {
	e.Applicable = true
	if o.Err != nil {
		e.Why = o.Err.Message
	}
	if o.Traces != nil {
		e.Rules = o.Traces
	}
}
