// Package gitsource publishes policies from a git repository: it fetches one
// branch into a bare repository of its own, reads the head commit's tree from
// the objects (there is no worktree that could be changed under it), and
// publishes it as a release that names the commit and its author (C6).
//
// It never publishes what does not descend from the last commit it published,
// what is not signed where signatures are asked for, and what the source's
// subject in the directory has no right to change. Whatever is refused leaves
// the active release as it is, and is said in the status, the log, the metrics
// and, where configured, at the git host.
//
// Everything it must remember is in the releases: after a crash, on an empty
// disk, or beside other nodes on the same database, the next poll finds the
// last published commit in the newest release of this source.
package gitsource
