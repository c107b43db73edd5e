// Package cheq asks people. A case holds what somebody wants to do, the rules
// that a yes would open, and who may answer by which template; votes settle it
// once, and an approval mints a grant that ends by itself.
//
// What always holds:
//
//   - A case ends once: [Case.End] is the only way out of [Pending], and its
//     table the only one that says where to.
//   - Nobody answers for oneself: the requester, who acts for it or has it act,
//     and who wrote the rule count in no group.
//   - One person fills one place: where two groups must say yes, two people
//     do ([Template.Tally]).
//   - Nothing is opened by time: a case that nobody decides expires, which
//     opens nothing.
//
// The package knows no database, no chat platform and no policy language; its
// callers hand it what it asks for.
package cheq
