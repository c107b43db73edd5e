// Package load tries the built program under load, through crashes, stops and
// full disks, and with several nodes on one database. The tests know of the
// server what its documentation says, and import nothing of it.
//
// `make test` runs a tenth of the load; XIEZHI_TEST_LONG asks for all of it.
// What is random comes from a seed that is printed; XIEZHI_TEST_SEED sets it.
package load
