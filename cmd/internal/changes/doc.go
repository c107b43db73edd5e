// Package changes puts publications to people. The self policies say which
// ones (action release.change); the case shows what differs, how the tests
// came out and how many recorded decisions would be others. What was approved
// is published by whichever node sees it first, and what became of it is noted
// on the case's timeline.
//
// What waits is in the store, as a [pap.Proposal]; a crash at any point loses a
// note at most until the next sweep.
package changes
