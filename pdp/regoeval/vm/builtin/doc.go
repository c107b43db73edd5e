// Package builtin has Rego's built-in functions over [value.Value].
//
// The hot ones are written for that form; every other one is OPA's own, with
// its arguments and its result converted ([Lookup] says which it is). A
// function gives the result, or the error, that OPA's gives: the error's code
// and text are OPA's too.
//
// # Concurrency
//
// Functions may be called by any number of goroutines, each with a [Call] of
// its own.
package builtin
