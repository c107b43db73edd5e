package approvals

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// lookups are the reviewers that attribute sources name, for one Update or
// View. No transaction waits for a source: one that wants to know what was not
// looked up ends, and begins again when that is known.
type lookups struct {
	sources map[string]pdp.AttributeSource
	known   map[lookup]*cheq.People // nil: nobody
	wanted  map[lookup]bool
	rounds  int
}

// lookup is one attribute that lists reviewers.
type lookup struct {
	source, attribute, tenant, typ, id string
}

// lookupWithin bounds the wait for the sources, each time a transaction wants
// something of them; maxLookups is how often it may.
const (
	lookupWithin = time.Second
	maxLookups   = 5
)

// errLookup ends a transaction that wants to know of reviewers.
var errLookup = errors.New("reviewers are to be looked up")

func (s *Store) lookups() *lookups { return &lookups{sources: s.config.Sources} }

// people returns who is listed for a case, nil where that is nobody or not
// known.
func (l *lookups) people(c *cheq.Case, by *cheq.Lookup) *cheq.People {
	of := lookup{source: by.Source, attribute: by.Attribute, tenant: c.Tenant}
	switch prefix, _, _ := strings.Cut(by.Attribute, "."); prefix {
	case "resource":
		of.typ, of.id = c.Request.Resource.Type, c.Request.Resource.ID
	case "subject":
		of.typ, of.id = c.Request.Subject.Type, c.Request.Subject.ID
	case "tenant":
		of.typ, of.id = prefix, c.Tenant
	default:
		return nil
	}
	people, known := l.known[of]
	if !known && l.sources[of.source] != nil && l.rounds < maxLookups {
		if l.wanted == nil {
			l.wanted = map[lookup]bool{}
		}
		l.wanted[of] = true
	}
	return people
}

// ask looks up what was wanted. What is not answered in time is nobody.
func (l *lookups) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	if l.known == nil {
		l.known = map[lookup]*cheq.People{}
	}
	for of := range l.wanted {
		all.Go(func() {
			v, ok, err := l.sources[of.source].Attribute(ctx, pdp.AttributeQuery{
				Name: of.attribute, Tenant: of.tenant, Entity: &authz.Entity{Type: of.typ, ID: of.id},
			})
			var people *cheq.People
			if err == nil && ok {
				people = listed(v)
			}
			mu.Lock()
			defer mu.Unlock()
			l.known[of] = people
		})
	}
	all.Wait()
	l.wanted = nil
	l.rounds++
}

// listed reads names as templates write them; a list with anything else in it
// names nobody.
func listed(v authz.Value) *cheq.People {
	if v.Kind() != authz.KindList {
		return nil
	}
	people := &cheq.People{}
	for i := range v.Len() {
		name := v.Index(i)
		if name.Kind() != authz.KindString {
			return nil
		}
		people.Users = append(people.Users, name.Text())
	}
	return people
}
