// Package policytest runs a release's test cases (`*_cases.yaml`) and says what
// no case reaches.
//
// A case is one request and what must come of it. It is answered by a
// [pdp.PDP] of its own on the release under test, so it takes the path that a
// decision takes: matching, attributes, evaluation, combining. What differs
// is stated in the case: the clock, and what trusted sources answer.
//
// A file is read as strictly as a request: what is unknown, given twice or of
// another type is a fault with its line. A tenant's cases ask for that tenant
// only, so that writing one shows nothing of another tenant's policies.
//
// Coverage counts, per rule, the cases in which it spoke, and lists the rules
// and branches that no case and no Rego unit test reached.
package policytest
