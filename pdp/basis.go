package pdp

import (
	"slices"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// Basis is what a compiled release lends the next one ([CompileFrom]). It lives
// as long as the release, or one numbered after it, so that who remembers it by
// a weak pointer keeps no old version in memory. It is immutable.
type Basis struct {
	release   Release
	rest      *bundles.Content // the release's files save its tables
	tables    *Tables
	compilers []Compiler
}

// Basis returns what the next release can be compiled from.
func (r *Release) Basis() *Basis { return r.basis }

// Tables returns the release's tables.
func (b *Basis) Tables() *Tables { return b.tables }

// asBasis makes the finished release lend what it has.
func (r *Release) asBasis(rest *bundles.Content, tables *Tables, compilers []Compiler) *Release {
	r.basis = &Basis{*r, rest, tables, compilers}
	return r
}

// readTables reads the tables of content from those of the basis.
func (b *Basis) readTables(content *bundles.Content) (*Tables, error) {
	if b == nil {
		return readTables(nil, nil, content)
	}
	return readTables(b.tables, b.release.Content, content)
}

// program returns what compiler made of the same policies with these tables, or
// nil where it has to compile.
func (b *Basis) program(same bool, i int, compiler Compiler, tables *Tables) Program {
	if !same || i >= len(b.compilers) || b.compilers[i] != compiler {
		return nil
	}
	if p, ok := b.release.programs[i].(TableProgram); ok {
		return p.WithTables(tables)
	}
	return nil
}

// withTables returns the release with other tables, or nil where a compiler has
// to compile.
func (b *Basis) withTables(tables *Tables, compilers []Compiler) *Release {
	if !slices.Equal(b.compilers, compilers) {
		return nil
	}
	next := b.release
	next.programs = make([]Program, len(compilers))
	for i, compiler := range compilers {
		if next.programs[i] = b.program(true, i, compiler, tables); next.programs[i] == nil {
			return nil
		}
	}
	return &next
}
