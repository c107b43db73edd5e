// Package cedareval evaluates policies written in Cedar.
//
// A policy is one *.cedar file; each of its permit and forbid statements is
// one rule. permit allows, forbid denies or, with @effect("review"), asks for
// review. Cedar's own way of combining statements is not used: every statement
// whose scope and conditions hold is a finding, and the decision core combines
// them with those of the other languages. Cedar skips a statement that fails;
// here its policy is an evaluation error, which denies.
//
// # The request as Cedar sees it
//
//   - The subject is principal, an entity of its type and id; the resource is
//     resource; dots in a type become "::". A type that is then no Cedar path
//     (a hyphen, a reserved word, a colon of its own) makes every policy an
//     evaluation error, and so does a type that ends in Action, and the subject
//     type "role": both would pass for what only Xiezhi may say.
//   - The action is Action::"<name>". It has no attributes; action properties
//     are not mapped.
//   - Properties are the entity's attributes. Cedar tags are not used:
//     a statement that asks for a tag does not compile.
//   - context has the request's members, tenant (a string) and now (a
//     datetime). A request that supplies either of these two itself makes every
//     policy an evaluation error.
//   - The strings of the subject's roles property are an attribute like any
//     other and also parents: principal in role::"engineer".
//   - Integers are Long, fractions of at most four places decimal, lists sets
//     (order and duplicates are lost), objects records.
//
// Where subject and resource are one entity, principal.x reads the subject's
// properties and resource.x the resource's. A policy that reads both sides of
// an attribute on which they differ is an evaluation error.
//
// # What Cedar cannot express
//
// A null, a longer fraction, under a schema a value that its type refuses, and
// lists beyond some five hundred elements (the squares of their lengths are
// bounded in sum, since a hostile set costs its square), are gaps. A gap is never quietly left out where somebody looks:
// before evaluation, each applicable policy that mentions the gap's path is an
// evaluation error. A policy mentions
//
//   - each attribute path that it accesses or tests with has, and every path
//     on the way to it;
//   - everything below a path whose value it uses otherwise: compares, calls,
//     puts in a set or record, or passes out of an if;
//   - roles, where it asks whether something is in a role;
//   - under a schema, where a path may hold an entity that is the subject or
//     the resource itself, that entity's attribute as well.
//
// A policy that does not mention the path sees the request without it. An
// attribute that is absent altogether is Cedar's to judge: reading it is an
// error, has is false.
//
// # Schemas
//
// schema.cedarschema serves the platform and the tenants,
// self/schema.cedarschema the self policies; both are optional. Where there is
// one, every statement is validated against it, strictly, and values are read
// by it as Cedar's reference implementation does: {"type","id"} is an entity
// and "10.0.0.1" an ipaddr where the type says so, with or without __entity
// and __extn, and actions have the groups that the schema gives them. An
// integer serves where a decimal is declared. Every action's context has
// tenant and now without being told. Of a type or action that the schema does
// not know, attributes are read without it, save those that the schema
// anywhere declares as an entity or an extension value: these are gaps.
//
// # Explanations and coverage
//
// Both go through the statements once more, one condition at a time; they are
// not for the decision path. A branch is one outcome of one when or unless, as
// its expression has it, or the body of a statement without conditions, reached
// when the scope holds. A condition that an earlier one keeps from being asked
// is not covered.
//
// # Cost
//
// The statements of the platform, of self and of each tenant are indexed by
// the three clauses of their scope, so that evaluation meets exactly those
// whose scope holds. Conditions on strings, integers and booleans, and on who is
// in what, read the request where it is. For those that ask more, or where these
// meet an error, the request is converted once per evaluation, and only the
// attributes that some statement mentions.
//
// A file whose statements all name their actions is scoped to these actions
// without saying so in its metadata.
package cedareval
