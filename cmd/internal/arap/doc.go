// Package arap signs and verifies what the AuthZEN Access Request and Approval
// Profile hands to a PEP and takes back from it: the binding token of a denial
// that people can be asked about, and the state of an approval.
//
// Both are JWTs (RFC 7519) signed with the installation's key for access
// requests, by the rules of package trust: one algorithm, one spelling of the
// header, typ and audience fixed by what the token is, so that none passes for
// the other or for anything else that is signed here. Neither is a permission:
// what is allowed is decided anew, by the grants that are live.
//
// Nothing is stored. A token that outlives the belief in its key does not
// verify any more.
package arap
