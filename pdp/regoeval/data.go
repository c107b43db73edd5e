package regoeval

import (
	"context"
	"strconv"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// documents holds the tables as each tenant sees them: the platform's and its
// own. The platform's part is one value that all of them share; a tenant's is
// converted when it is first asked for.
type documents struct {
	terms    terms
	platform *ast.Term // data.xiezhi.platform
	nobody   *document // of a tenant without tables
	tenants  map[string]*tenantTables
}

type tenantTables struct {
	tables authz.Value
	once   sync.Once
	view   *document
}

func newDocuments(tables *pdp.Tables, t terms) *documents {
	if tables == nil {
		tables = &pdp.Tables{}
	}
	d := &documents{terms: t, platform: tablesTerm(t, tables.Platform), tenants: make(map[string]*tenantTables, len(tables.Tenants))}
	d.nobody = d.view(ast.InternedEmptyObject)
	for tenant, own := range tables.Tenants {
		d.tenants[tenant] = &tenantTables{tables: own}
	}
	return d
}

func tablesTerm(t terms, tables authz.Value) *ast.Term {
	if tables.Kind() != authz.KindObject {
		return ast.InternedEmptyObject
	}
	return ast.ObjectTerm(ast.Item(ast.StringTerm("tables"), t.of(tables)))
}

func (d *documents) view(tenants *ast.Term) *document {
	return &document{root: ast.NewObject(ast.Item(ast.StringTerm("xiezhi"), ast.ObjectTerm(
		ast.Item(ast.StringTerm("platform"), d.platform),
		ast.Item(ast.StringTerm("tenants"), tenants))))}
}

// of returns the document that the tenant's decisions see.
func (d *documents) of(tenant string) *document {
	own := d.tenants[tenant]
	if own == nil {
		return d.nobody
	}
	own.once.Do(func() {
		own.view = d.view(ast.ObjectTerm(ast.Item(ast.StringTerm(tenant), tablesTerm(d.terms, own.tables))))
	})
	return own.view
}

// document is `data` without the rules. It serves topdown as its store and,
// since nothing needs converting, as its cache of the store at once.
type document struct {
	storage.TriggersNotSupported
	storage.PolicyNotSupported
	root ast.Object
}

// Get implements topdown.BaseCache.
func (d *document) Get(ref ast.Ref) ast.Value {
	v, err := d.root.Find(ref[1:])
	if err != nil {
		return nil // topdown goes on to Read, which says the same
	}
	return v
}

// Put implements topdown.BaseCache; there is nothing to keep.
func (d *document) Put(ast.Ref, ast.Value) {}

// Read implements storage.Store.
func (d *document) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	var node ast.Value = d.root
	for _, name := range path {
		var next *ast.Term
		switch v := node.(type) {
		case ast.Object:
			next = v.Get(ast.StringTerm(name))
		case *ast.Array:
			if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < v.Len() {
				next = v.Elem(i)
			}
		}
		if next == nil {
			return nil, &storage.Error{Code: storage.NotFoundErr}
		}
		node = next.Value
	}
	return node, nil
}

// NewTransaction implements storage.Store; the document never changes.
func (d *document) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return reading{}, nil
}

type reading struct{}

func (reading) ID() uint64 { return 0 }

// Write implements storage.Store by refusing.
func (d *document) Write(context.Context, storage.Transaction, storage.PatchOp, storage.Path, any) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

// Truncate implements storage.Store by refusing.
func (d *document) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

// Commit implements storage.Store.
func (d *document) Commit(context.Context, storage.Transaction) error { return nil }

// Abort implements storage.Store.
func (d *document) Abort(context.Context, storage.Transaction) {}
