package regoeval

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// documents holds the tables as each tenant sees them: the platform's and its
// own. What a tenant sees is made when it is first asked for.
type documents struct {
	terms    terms
	tables   *pdp.Tables
	platform func() *ast.Term // data.xiezhi.platform, which all tenants share
	nobody   *tenantData      // of a tenant without tables
	tenants  sync.Map         // by tenant: *tenantData
}

// tenantData is `data` without the rules: for topdown, and for the compiled
// engine, which reads the tables where they are.
type tenantData struct {
	document func() *document
	value    func() value.Value
}

func newDocuments(tables *pdp.Tables, t terms) *documents {
	if tables == nil {
		tables = &pdp.Tables{}
	}
	d := &documents{terms: t, tables: tables}
	d.platform = sync.OnceValue(func() *ast.Term { return tablesTerm(t, tables.Platform) })
	d.nobody = d.make("", authz.Value{})
	return d
}

func (d *documents) find(tenant string) *tenantData {
	if known, ok := d.tenants.Load(tenant); ok {
		return known.(*tenantData)
	}
	tables := d.tables.Tenant(tenant)
	if tables.Kind() != authz.KindObject {
		return d.nobody
	}
	made, _ := d.tenants.LoadOrStore(strings.Clone(tenant), d.make(tenant, tables))
	return made.(*tenantData)
}

// make returns what the tenant sees; without a name, none of its tables.
func (d *documents) make(tenant string, tables authz.Value) *tenantData {
	return &tenantData{
		document: sync.OnceValue(func() *document {
			tenants := ast.NewObject()
			if tenant != "" {
				tenants.Insert(ast.StringTerm(tenant), tablesTerm(d.terms, tables))
			}
			return &document{root: ast.NewObject(ast.Item(ast.StringTerm("xiezhi"), ast.ObjectTerm(
				ast.Item(ast.StringTerm("platform"), d.platform()),
				ast.Item(ast.StringTerm("tenants"), ast.NewTerm(tenants)))))}
		}),
		value: sync.OnceValue(func() value.Value {
			var tenants authz.Value
			if tenant != "" {
				tenants = under(tenant, tablesValue(tables))
			} else {
				tenants, _ = authz.ObjectValue()
			}
			return value.Of(under("xiezhi", under("platform", tablesValue(d.tables.Platform)).With("tenants", tenants)))
		}),
	}
}

func tablesTerm(t terms, tables authz.Value) *ast.Term {
	if tables.Kind() != authz.KindObject {
		return ast.InternedEmptyObject
	}
	return ast.ObjectTerm(ast.Item(ast.StringTerm("tables"), t.of(tables)))
}

func tablesValue(tables authz.Value) authz.Value {
	if tables.Kind() != authz.KindObject {
		none, _ := authz.ObjectValue() // cannot repeat a name
		return none
	}
	return under("tables", tables)
}

// under returns an object of one member.
func under(name string, v authz.Value) authz.Value { return authz.Value{}.With(name, v) }

// of returns the document that the tenant's decisions see.
func (d *documents) of(tenant string) *document { return d.find(tenant).document() }

// value returns the same for the compiled engine.
func (d *documents) value(tenant string) value.Value { return d.find(tenant).value() }

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
