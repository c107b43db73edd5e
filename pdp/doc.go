// Package pdp decides: it finds the policies that apply to a request, lets
// their evaluators speak, and combines the findings into one decision.
//
// Main path: [PDP.Decide] takes the active [Snapshot] once, so a decision ends
// on the release it began with; it matches policy scopes, resolves the trusted
// attributes that applicable policies declare, evaluates them under a budget,
// combines (combine.go holds the numbered rules of docs/semantics.md), counts the uses
// of counted grants, and records.
//
// Invariants. Anything that goes wrong closes: a policy that applies and fails
// is the DENY finding evaluation_error; an attribute source that does not
// answer fails the policies that read it and no others; a record that cannot
// be written under strict durability is an error, and the zero Decision denies.
// Evaluation never stops at the first DENY: an answer names every reason.
//
// A PDP holds nothing that must survive a crash. It is safe for concurrent use;
// activation is one atomic swap and takes no lock that a decision waits for.
package pdp
