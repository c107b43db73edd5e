// Package evaltest is the conformance suite of the evaluators: what a rule
// means must not depend on the language it is written in.
//
// [Run] takes one evaluator through every row. A row gives one policy in each
// language (render.go writes the metadata around the conditions) and, for a
// set of requests, what its rules say. Where a language cannot express a value
// or reads it in its own way, the row says so by name; everything else is
// equal.
package evaltest
