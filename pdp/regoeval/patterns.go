package regoeval

import (
	"regexp"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
)

// maxPatterns is how many compiled patterns a program keeps.
const maxPatterns = 1000

// patterns keeps compiled regular expressions and globs between decisions.
//
// It also stands in the way of OPA's own cache, which all tenants would share
// and in which two globs can meet: OPA's key is the pattern, a hyphen and the
// delimiters, so glob.match("a-*", null, …) and glob.match("a", ["*"], …) may
// be taken for each other, and whoever comes first would decide what another
// one's policy matches. Such keys are not kept.
type patterns struct {
	limit int // entries
	mu    sync.RWMutex
	byKey map[ast.String]any
}

func newPatterns(limit int) *patterns {
	return &patterns{limit: limit, byKey: map[ast.String]any{}}
}

// Get implements cache.InterQueryValueCache.
func (p *patterns) Get(key ast.Value) (any, bool) {
	s, ok := key.(ast.String)
	if !ok {
		return nil, false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	v, ok := p.byKey[s]
	return v, ok
}

// Insert implements cache.InterQueryValueCache.
func (p *patterns) Insert(key ast.Value, v any) (dropped int) {
	s, ok := key.(ast.String)
	if !ok {
		return 0
	}
	if _, isRegexp := v.(*regexp.Regexp); !isRegexp && strings.Count(string(s), "-") != 1 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for old := range p.byKey {
		if len(p.byKey) < p.limit {
			break
		}
		delete(p.byKey, old)
		dropped++
	}
	p.byKey[s] = v
	return dropped
}

// Delete implements cache.InterQueryValueCache.
func (p *patterns) Delete(key ast.Value) {
	if s, ok := key.(ast.String); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.byKey, s)
	}
}

// GetCache implements cache.InterQueryValueCache: what OPA would keep under a
// name of its own is computed anew.
func (p *patterns) GetCache(string) cache.InterQueryValueCacheBucket { return nil }

// UpdateConfig implements cache.InterQueryValueCache.
func (p *patterns) UpdateConfig(*cache.Config) {}
