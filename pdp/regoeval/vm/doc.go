// Package vm runs Rego that was compiled to code for a small machine.
//
// [Plan] lets OPA plan a query (v1/ir) over modules that OPA has compiled, and
// turns every function of the plan into one list of instructions over a frame
// of locals: a block that is broken is a jump to its end. A [Run] is one
// evaluation: it calls the rules it is asked for, each at most once, and ends
// after a number of steps or when its context does.
//
// What a run answers is what topdown answers, or an error: an *Unsupported
// query is never planned, and whoever evaluates policies asks topdown again
// where a run fails, since errors are rare and topdown's have a place in the
// source. A run may fail where topdown would not have looked (topdown's rule
// index skips bodies that a run begins); it never answers something else.
//
// The way in is [Plan], [Program.Begin], [Run.Call] and [Run.End]; the code is
// made in compile.go and statements.go and executed in exec.go.
//
// # Concurrency
//
// A [Program] is immutable. A [Run] belongs to one goroutine.
package vm
