// Package celeval decides by rule documents (`*.policy.json`, `*.policy.yaml`,
// `*.policy.yml`): lists of rules whose conditions are CEL expressions. It also
// compiles the conditions of restrictions.
//
// # What a condition sees
//
//	tenant             string
//	subject, resource  maps with type, id and properties
//	action             the action's name, a string
//	action_properties  map
//	context            map
//	tables             map: the tables of the request's tenant, by name
//	now                timestamp: the clock of the decision, in UTC
//
// Absent properties and an absent context are empty maps, so has() answers for
// each of their members. An integer of the request (2, 2.0, 2e0) is an int,
// another number a double, null is null. Strings compare as bytes. Naming a
// member that is not there is an error, and an error denies.
//
// Beside the standard library there are cel-go's network library (ip, cidr,
// isIP, containsIP, …), its math library, and of its strings library charAt,
// lowerAscii, upperAscii, split, substring and trim. A member whose name is no
// identifier is written in backquotes, has(resource.properties.`cost-centre`),
// or as an index, 'itsm:owner' in resource.properties.tags.
// The pattern of matches is a literal. What could cost more than its
// arguments are long is refused at compile.
//
// # What a policy reads
//
// The reads of a rule document are those that its conditions and messages
// contain, and those it declares. So that they are all there to be seen,
// context, subject, resource and the properties of both may only be used
// member by member, with names written out, and no variable of a macro may
// bear the name of an input.
//
// # Bounds
//
// The size, nesting and number of nodes of a condition are bounded at compile;
// its cost, by cel-go's model, at evaluation. A context that ends interrupts
// loops. No input makes Compile or Evaluate panic.
package celeval
