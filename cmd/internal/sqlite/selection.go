package sqlite

import (
	"cmp"
	"slices"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// The columns of text that both tables of records have, but for the body.
const (
	columnID = iota
	columnKind
	columnTenant
	columnActor
	columnSubject
	columnAction
	columnResource
	columnEffect
	columnRevision
)

var (
	textColumns = [...]string{"id", "kind", "tenant", "actor", "subject", "action", "resource", "effect", "revision"}
	// markedColumns are those that a filter can ask for.
	markedColumns = [...]int{columnKind, columnTenant, columnActor, columnSubject, columnAction, columnEffect}
)

func textsOf(r *authz.AuditRecord) [len(textColumns)]string {
	return [...]string{r.ID, string(r.Kind), r.Tenant, r.Actor, r.Subject, r.Action, r.Resource, r.Effect, r.Revision}
}

// selection is which records a query asks for, in which order.
type selection struct {
	equal      []condition // all of them
	after      string      // the oldest first, with ids above this one,
	newest     bool        // or the newest first,
	before     string      // with ids below this one, if there is one
	since, to  int64       // times in microseconds, the second one exclusive
	bySince    bool
	byTo       bool
	limit      int
	collection []authz.AuditRecord // found so far, at most limit, in order
}

// condition asks for a column's text.
type condition struct {
	column int
	text   string
}

// selectionOf is the newest records that a filter matches.
func selectionOf(f pap.AuditFilter, limit int) (*selection, error) {
	s := &selection{newest: true, before: f.Before, limit: max(limit, 0), bySince: !f.From.IsZero(), byTo: !f.To.IsZero(), since: f.From.UnixMicro(), to: f.To.UnixMicro()}
	if f.Tenant == pap.Platform {
		s.equal = append(s.equal, condition{columnTenant, ""})
	}
	if f.Tenant == pap.Platform || f.Tenant == pap.AnyTenant {
		f.Tenant = ""
	}
	for _, c := range []condition{
		{columnTenant, f.Tenant}, {columnSubject, f.Subject}, {columnActor, f.Actor}, {columnAction, f.Action},
		{columnEffect, f.Effect}, {columnKind, string(f.Kind)},
	} {
		if err := pap.CheckText(c.text); err != nil {
			return nil, err
		}
		if c.text != "" {
			s.equal = append(s.equal, c)
		}
	}
	return s, pap.CheckText(f.Before)
}

// ofRows asks for the first records of a table that has a row for each.
func (s *selection) ofRows() (query string, args []any) {
	query = "SELECT " + auditColumns + " FROM audit WHERE true"
	and := func(condition string, arg any) { query, args = query+" AND "+condition+" ?", append(args, arg) }
	for _, c := range s.equal {
		and(textColumns[c.column]+" =", c.text)
	}
	if s.bySince {
		and("at >=", s.since)
	}
	if s.byTo {
		and("at <", s.to)
	}
	switch {
	case !s.newest:
		and("id >", s.after)
		return query + " ORDER BY id LIMIT ?", args
	case s.before != "":
		and("id <", s.before)
	}
	return query + " ORDER BY id DESC LIMIT ?", args
}

// ofBlocks asks for the blocks that may have such records, in order.
func (s *selection) ofBlocks() (query string, args []any) {
	query = "SELECT number, first, last, names FROM blocks WHERE true"
	and := func(condition string, arg any) { query, args = query+" AND "+condition+" ?", append(args, arg) }
	if s.bySince {
		and("latest >=", s.since)
	}
	if s.byTo {
		and("earliest <", s.to)
	}
	switch {
	case !s.newest:
		and("first >=", bucket(s.after))
		and("last >", s.after)
		return query + " ORDER BY first", args
	case s.before != "":
		and("last <", afterBucket(s.before))
		and("first <", s.before)
	}
	return query + " ORDER BY last DESC", args
}

// matches reports whether a record of a block is asked for.
func (s *selection) matches(r *rawRecord) bool {
	id := r.texts[columnID]
	if s.bySince && r.at < s.since || s.byTo && r.at >= s.to ||
		!s.newest && string(id) <= s.after || s.before != "" && string(id) >= s.before {
		return false
	}
	for _, c := range s.equal {
		if string(r.texts[c.column]) != c.text {
			return false
		}
	}
	return true
}

// mayBeIn reports whether a block may have records that match, by its names.
func (s *selection) mayBeIn(names []byte) bool {
	for _, c := range s.equal {
		if !marked(names, markOf(c.column, c.text)) {
			return false
		}
	}
	return true
}

// add collects records and keeps the first of all.
func (s *selection) add(more ...authz.AuditRecord) {
	s.collection = append(s.collection, more...)
	slices.SortStableFunc(s.collection, func(a, b authz.AuditRecord) int {
		if s.newest {
			return cmp.Compare(b.ID, a.ID)
		}
		return cmp.Compare(a.ID, b.ID)
	})
	if len(s.collection) > s.limit {
		clear(s.collection[s.limit:])
		s.collection = s.collection[:s.limit]
	}
}

// complete reports whether nothing of this block, and of those behind it in
// order, comes before what was found.
func (s *selection) complete(b *block) bool {
	if len(s.collection) < s.limit {
		return false
	}
	worst := s.collection[s.limit-1].ID
	if s.newest {
		return worst > b.last
	}
	return worst < b.first
}
