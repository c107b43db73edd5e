// Package architecture holds the tree to ARCHITECTURE.md: its tests fail where
// a package imports what the table there does not allow it, and where a source
// file breaks one of the habits that a program can check.
package architecture
