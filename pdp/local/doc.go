// Package local decides in-process: it is the engine that a service hands to
// package pep where it can carry Rego, Cedar and rule documents.
//
//	p, err := pep.New(ctx, pep.Config{…, Engine: local.New(local.Options{})})
//
// It is the decision core of the server without what only a server has: other
// attribute sources than the directory, the counting of uses, and people. Where
// a decision lacks one of these, its Outcome says so.
//
// A [Compiler] may be shared by all engines of a process: what one of them
// holds is not compiled again for another.
package local
