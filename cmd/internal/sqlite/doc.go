// Package sqlite keeps the server's state in one folder: the store that needs
// no other server.
//
// The folder holds xiezhi.db (everything else) and, since they come by
// the thousand and would otherwise make every other writer wait, decisions.db
// (decision records) and peps.db (what is known of PEPs, and what was signed
// for them). All are in WAL mode and synced at each commit, so what was committed survives a power cut, and after a crash
// the next Open finds exactly the committed transactions.
//
// Each file has one writing connection, whose transactions begin by taking
// SQLite's write lock, and a pool of reading ones, each of whose transactions
// sees one snapshot. Any number of processes may open the folder: the lock and
// the snapshots hold across them. Only one of them may be a server
// ([Options.Exclusive]); the others are `xiezhi admin` at work beside it. A
// hint from [Store.Wake] reaches the process that committed and no other,
// hence a server also polls.
package sqlite
