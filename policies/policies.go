// Package policies holds the policies that ship: the guardrails and roles of
// the platform, who may call Xiezhi itself, approval templates, and two
// example tenants with their tables.
//
// The folder is a policy repository like any other; docs/policies.md describes
// its layout. A binary carries it so that a server without a repository of its
// own still starts closed.
package policies

import (
	"embed"
	"io/fs"
)

//go:embed attributes.yaml obligations.yaml platform tenants self approvals tables examples
var files embed.FS

// FS returns the shipped policy repository: every file of this folder but Go
// source.
func FS() fs.FS { return files }
