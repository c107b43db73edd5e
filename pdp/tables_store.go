package pdp

import (
	"hash/maphash"
	"iter"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Tables are per-tenant and platform data: data.xiezhi.tenants.<t>.tables.<name>
// and data.xiezhi.platform.tables.<name>. They are immutable and read without a
// lock. Tables that came of others share with them all that did not change.
type Tables struct {
	Platform authz.Value // object: table name → content
	seed     maphash.Seed
	shards   *[tableShards]map[string]authz.Value // tenant → object: table name → content; nil: no tenants
	count    int
	read     int // bytes of text that were read to make them of others
}

// tableShards is in how many maps the tenants are kept: a change copies those
// that it is in.
const tableShards = 1024

func (t *Tables) shard(tenant string) int { return int(maphash.String(t.seed, tenant) % tableShards) }

// Tenant returns a tenant's tables as an object, null where it has none.
func (t *Tables) Tenant(tenant string) authz.Value {
	if t == nil || t.shards == nil {
		return authz.Value{}
	}
	return t.shards[t.shard(tenant)][tenant]
}

// Len is how many tenants have tables.
func (t *Tables) Len() int { return t.count }

// All yields each tenant's tables, in no order.
func (t *Tables) All() iter.Seq2[string, authz.Value] {
	return func(yield func(string, authz.Value) bool) {
		if t.shards == nil {
			return
		}
		for i := range t.shards {
			for tenant, tables := range t.shards[i] {
				if !yield(tenant, tables) {
					return
				}
			}
		}
	}
}

// tableWriter makes tables out of others. It copies the maps that it writes to.
type tableWriter struct {
	tables *Tables
	own    [tableShards]bool
	share  *sharer
}

// newTableWriter expects so many bytes of text.
func newTableWriter(before *Tables, bytes int) *tableWriter {
	w := &tableWriter{share: newSharer(bytes), tables: &Tables{Platform: before.Platform, seed: before.seed, count: before.count, read: bytes, shards: new([tableShards]map[string]authz.Value)}}
	if before.shards == nil {
		w.tables.seed = maphash.MakeSeed()
	} else {
		*w.tables.shards = *before.shards
	}
	return w
}

func (w *tableWriter) done() *Tables { return w.tables }

// set makes content the part of the table that is the tenant's, or the platform's.
func (w *tableWriter) set(part, table string, content authz.Value) {
	if part == platformFile {
		w.tables.Platform = w.tables.Platform.With(table, content)
		return
	}
	i := w.tables.shard(part)
	own := w.writable(i)
	before, had := own[part]
	if !had {
		w.tables.count++
	}
	own[part] = before.With(table, content)
}

// remove takes away a table, or a part of it.
func (w *tableWriter) remove(f tableFile) {
	if f.part == "" || f.part == platformFile {
		if w.tables.Platform = w.tables.Platform.Without(f.table); w.tables.Platform.Len() == 0 {
			w.tables.Platform = authz.Value{}
		}
	}
	if f.part == "" {
		for tenant := range w.tables.All() {
			w.removeFrom(tenant, f.table)
		}
	} else if f.part != platformFile {
		w.removeFrom(f.part, f.table)
	}
}

func (w *tableWriter) removeFrom(tenant, table string) {
	i := w.tables.shard(tenant)
	tables, known := w.tables.shards[i][tenant]
	if _, has := tables.Get(table); !known || !has {
		return
	}
	own := w.writable(i)
	if own[tenant] = tables.Without(table); own[tenant].Len() == 0 {
		delete(own, tenant)
		w.tables.count--
	}
}

// writable returns a map that is this writer's own.
func (w *tableWriter) writable(i int) map[string]authz.Value {
	if !w.own[i] {
		shared := w.tables.shards[i]
		fresh := make(map[string]authz.Value, len(shared)+1)
		for tenant, tables := range shared {
			fresh[tenant] = tables
		}
		w.tables.shards[i], w.own[i] = fresh, true
	}
	return w.tables.shards[i]
}
