// Package storetest is the suite that makes the databases equal: SQLite and
// PostgreSQL pass it unchanged, so what holds for one holds for the other.
//
// A driver's test package calls [Main] from TestMain and [Run] from a test.
// [PostgresSchema] makes an empty place in a real PostgreSQL.
package storetest
