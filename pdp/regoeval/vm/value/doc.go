// Package value holds the values that compiled Rego works on.
//
// A [Value] is three words and is copied freely. What it points to belongs to
// a [Heap], which is used again from evaluation to evaluation, to a request or
// a table as [authz.Value], which is read in place, or to the program whose
// constant it is. Texts are never copied: a value lives as long as what it was
// made of.
//
// Order and equality are OPA's (v1/ast Compare): null < booleans < numbers <
// strings < arrays < objects < sets, numbers by their exact decimal value, so
// that 1 and 1.0 are one. The elements of a set and the keys of an object are
// visited in that order. Two of OPA's oddities are kept: fractions of more than
// 15 digits are equal where their binary64 is, and a set holds 1e400 and 10e399
// as two elements. One is not: to OPA two arrays with the same such numbers in
// another place, when equal, are one element.
//
// Comparing, hashing and converting go down by calls, whose depth is that of
// the value: a request's is bounded, a policy's nests as deep as OPA's does.
// Where values share their parts, hashing, comparing with itself and AST visit
// a part once.
//
// # Concurrency
//
// Values of one Heap belong to one goroutine: reading an object or a set may
// sort it. Values made by [Freeze], [Indexed] and [FromAST] without a Heap, and
// those of requests and tables, may be read by any number of goroutines.
package value
