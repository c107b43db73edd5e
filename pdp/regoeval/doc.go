// Package regoeval evaluates policies written in Rego.
package regoeval
