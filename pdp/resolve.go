package pdp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// DirectorySource is the source name that the snapshot's own directory answers.
const DirectorySource = "directory"

// errNoSource means that an attribute's source is not configured here.
var errNoSource = errors.New("not configured here")

// resolve asks the sources for the attributes that applicable policies declare
// they read, and for no others. It leaves the request with the answers merged
// in as resolved, and returns what failed by attribute name.
func (p *PDP) resolve(ctx context.Context, q *question) (failed map[string]error) {
	s, req := q.snapshot, &q.original
	q.resolved = *req
	fail := func(name string, err error) {
		if failed == nil {
			failed = map[string]error{}
		}
		failed[name] = err
	}
	var remote []Attribute
	for _, a := range s.Release.attributes.sorted {
		if a.Source == "" || !q.matched.read(a.Name) {
			continue
		}
		source := p.source(s, a)
		switch {
		case source == nil:
			fail(a.Name, fmt.Errorf("source %q: %w", a.Source, errNoSource))
		case !source.Local():
			remote = append(remote, a)
		default:
			v, ok, err := source.Attribute(ctx, query(a, req))
			if err != nil {
				fail(a.Name, err)
			} else if ok {
				q.setAttribute(a, v)
			}
		}
	}
	if len(remote) == 0 {
		return failed
	}
	for i, answer := range p.fetch(ctx, s, remote, req) {
		if answer.err != nil {
			fail(remote[i].Name, answer.err)
		} else if answer.ok {
			q.setAttribute(remote[i], answer.value)
		}
	}
	return failed
}

type answer struct {
	value authz.Value
	ok    bool
	err   error
}

// fetch asks remote sources at once. A source that does not honour ctx is left
// behind: its answer is dropped when it comes.
func (p *PDP) fetch(ctx context.Context, s *Snapshot, attributes []Attribute, req *authz.Request) []answer {
	asked := *req // what is left behind may read it at any time
	ctx, cancel := context.WithTimeout(ctx, attributeTimeout)
	defer cancel()
	var mu sync.Mutex
	answers := make([]answer, len(attributes))
	arrived := make(chan struct{}, len(attributes))
	for i := range answers {
		answers[i].err = fmt.Errorf("source %q did not answer in time", attributes[i].Source)
	}
	for i, a := range attributes {
		source := p.source(s, a)
		go func() {
			v, ok, err := source.Attribute(ctx, query(a, &asked))
			mu.Lock()
			answers[i] = answer{v, ok, err}
			mu.Unlock()
			arrived <- struct{}{}
		}()
	}
	for range attributes {
		select {
		case <-arrived:
		case <-ctx.Done():
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(answers)
}

func (p *PDP) source(s *Snapshot, a Attribute) AttributeSource {
	if a.Source == DirectorySource {
		return s.Directory
	}
	return p.config.Sources[a.Source]
}

func query(a Attribute, req *authz.Request) AttributeQuery {
	entity, _ := a.property()
	q := AttributeQuery{Name: a.Name, Tenant: req.Tenant, Entity: &req.Subject}
	if entity == "resource" {
		q.Entity = &req.Resource
	}
	return q
}

func (m matched) read(attribute string) bool {
	for p := range m.policies {
		if slices.Contains(p.Reads, attribute) {
			return true
		}
	}
	return false
}

// setAttribute merges a source's answer into the request.
func (q *question) setAttribute(a Attribute, v authz.Value) {
	entity, property := a.property()
	properties := &q.resolved.Subject.Properties
	if entity == "resource" {
		properties = &q.resolved.Resource.Properties
	}
	*properties = q.lent.overlay.with(*properties, property, v)
}
