// Package e2e tries the built program as its users have it: the binary, its
// output, its files and its public wire. The tests import nothing of the
// server; what they know of it is what its documentation says.
//
// Each test starts a server of its own, on a free port and with folders of its
// own, and ends only that one.
package e2e
