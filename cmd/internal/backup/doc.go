// Package backup writes everything a store holds into one file and reads it
// back into an empty store of either database; so it also moves a server from
// SQLite to PostgreSQL.
//
// The file is gzipped JSON lines: a header with the format's version, one
// entry a line, and a trailer with the number of lines before it and their
// SHA-256. Releases, documents, the log, uses of grants, cases with
// where they are shown, audit and decision records keep their numbers,
// positions, ids and times. Left out are the stored answers of mutating calls,
// which live for a day, identity codes, which live for minutes, and contents
// that no release names.
//
// The sum finds damage, not forgery: whoever can write the file can write the
// sum. It holds hashes of credentials and personal data; keep it as the
// database itself.
package backup
