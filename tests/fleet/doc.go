// Package fleet tries many PEPs on one built server through a network that
// fails: a proxy cuts, freezes, delays and half-closes what they are connected
// by, while releases and grants come and go. The PEPs are the SDK with its
// engine, in the test's process; the server is the program itself.
//
// The tests know when each write was answered, and hold every answer of every
// PEP against that. They read nothing of the server but what its API says.
//
// `make test` runs a part of the load with a fixed seed; XIEZHI_TEST_LONG asks
// for all of it with a random one, which is printed. XIEZHI_TEST_SEED sets it.
package fleet
