// Package postgres keeps the server's state in PostgreSQL, which any number of
// server nodes may share.
//
// Every Update locks the log's head row before it does anything else. So the
// writers of all nodes form one line, and the order of log positions is the
// order of commit, without gaps. Before that, the writers of one node queue up
// in memory, so that they do not hold the pool's connections while they wait.
// A View is a read-only transaction at repeatable read: one snapshot.
//
// A commit notifies the channel "xiezhi" with the name of the schema; nodes
// that listen are woken. The notification says nothing but "look": a node that
// missed one reads the log at its next poll. Listening needs a connection of
// its own to the server, so a pooler must pool whole sessions.
//
// All tables live in the connection's current schema; the search_path of the
// connection string chooses another one. Every text column compares by bytes.
// After a crash of the server, of a node or of the network between them, what
// was committed is there and an Update that was not is not.
package postgres
