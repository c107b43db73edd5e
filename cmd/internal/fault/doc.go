// Package fault marks the moments at which tests end a server as a crash
// would. What is built without the tag "faults" holds none of it.
package fault
