// Package regoeval evaluates policies written in Rego: compiled to closures
// (package vm), or on OPA's topdown.
//
// [New] makes a [Compiler]. It turns the *.rego files of a release into a
// [Program], or into [pdp.Faults] that name every place that is wrong. The
// authoring format is docs/policies.md; what this package adds to OPA is that
//
//   - a rule is known by the string literal in its head, declared once in the
//     metadata, so that every finding leads back to a declaration;
//   - a policy sees only the platform and its own tenant: each tenant's
//     modules are compiled with the platform's and with nobody else's, and
//     data holds only the platform's and the request's tenant's tables;
//   - nothing but the request, the tables and the decision's clock reaches an
//     evaluation: built-ins that read anything else are refused at load;
//   - built-in errors are errors: a rule never falls silent because it failed.
//
// # What a policy reads
//
// Request digests cover the context members that policies declare in `reads`,
// and attributes are fetched because `reads` names them, so a read that is not
// declared would be a hole. The compiler therefore follows every reference to
// input in every rule that a policy can reach, libraries included, and
// requires that
//
//   - a member of context is referred to by name and is declared;
//   - an attribute (of attributes.yaml) that something other than the caller
//     supplies is declared, whether it is referred to by name or as a part of
//     all properties;
//   - context as a whole, and input as a whole, are never taken: there is no
//     finite list of what they hold.
//
// Names are followed through local variables (`p := input.subject.properties`)
// and through object.get with constant keys; every other use of a value counts
// as reading all of it. So the analysis may ask for a declaration too many,
// and never for one too few.
//
// # Engines
//
// [Options] choose the [Engine]. The compiled one has a program for each unit:
// the platform's policies, and a tenant's own with what they reach. Topdown
// evaluates the policies that cannot be planned, and settles those that fail
// there; explanations, coverage, unit tests and queries of data are its alone.
// Whoever computed them, the sets of a policy are read by one reader, into an
// [pdp.Outcome] that owns its memory.
//
// # Concurrency
//
// A Program is immutable apart from caches that only save work; Evaluate may
// be called from any number of goroutines.
package regoeval
