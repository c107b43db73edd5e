package local

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"weak"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Compiler compiles releases and restrictions in the three languages. It is
// safe for concurrent use.
type Compiler struct {
	log   *slog.Logger
	rego  *regoeval.Compiler
	cedar *cedareval.Compiler
	cel   *celeval.Compiler

	mu    sync.Mutex
	known map[bundles.Digest]*compilation
	// bases are the newest releases', as long as somebody uses these. A candidate
	// that is gone leaves the active one's.
	bases []weak.Pointer[pdp.Basis]
}

// compilation is one content's, under way or done.
type compilation struct {
	done    chan struct{}
	release weak.Pointer[pdp.Release] // what engines still use; nil after an error
}

// NewCompiler returns a compiler with the zero [RegoOptions].
func NewCompiler() *Compiler { return NewCompilerWith(RegoOptions{}) }

// NewCompilerWith returns a compiler.
func NewCompilerWith(o RegoOptions) *Compiler {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Compiler{log: log, rego: regoeval.NewWith(o), cedar: cedareval.New(), cel: celeval.New(), known: map[bundles.Digest]*compilation{}}
}

// Compile compiles a release, without a number. A wrong one is [pdp.Faults].
// What is as in the release compiled before, while that is in use, is taken
// over from it.
func (c *Compiler) Compile(ctx context.Context, content *bundles.Content) (*pdp.Release, error) {
	release, err := pdp.CompileFrom(ctx, c.basis(), 0, content, c.rego, c.cedar, c.cel)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bases = append(c.bases[max(0, len(c.bases)-maxBases+1):], weak.Make(release.Basis()))
	return release, nil
}

const maxBases = 4

// basis is the newest that is still in use, or nil.
func (c *Compiler) basis() *pdp.Basis {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range slices.Backward(c.bases) {
		if basis := known.Value(); basis != nil {
			return basis
		}
	}
	return nil
}

// shared is Compile once for all who hold or ask for the same content.
func (c *Compiler) shared(ctx context.Context, content *bundles.Content) (*pdp.Release, error) {
	digest := content.Digest()
	for {
		c.mu.Lock()
		k, ok := c.known[digest]
		if !ok {
			k = &compilation{done: make(chan struct{})}
			c.known[digest] = k
			c.mu.Unlock()
			return c.compile(ctx, content, k)
		}
		c.mu.Unlock()
		select {
		case <-k.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if release := k.release.Value(); release != nil {
			return release, nil
		}
		c.forget(digest, k) // nobody uses it any more, or it failed
	}
}

func (c *Compiler) compile(ctx context.Context, content *bundles.Content, k *compilation) (*pdp.Release, error) {
	defer close(k.done)
	release, err := c.Compile(ctx, content)
	if err != nil {
		c.forget(content.Digest(), k)
		return nil, err
	}
	k.release = weak.Make(release)
	c.mu.Lock()
	defer c.mu.Unlock()
	for digest, other := range c.known {
		if other != k && other.settled() && other.release.Value() == nil {
			delete(c.known, digest)
		}
	}
	return release, nil
}

func (c *Compiler) forget(digest bundles.Digest, k *compilation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[digest] == k {
		delete(c.known, digest)
	}
}

func (k *compilation) settled() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// CheckRestriction compiles a restriction's conditions. Its error is an
// [*authz.FieldError] whose path begins at the restriction.
func (c *Compiler) CheckRestriction(r authz.Restriction) error {
	_, err := c.cel.CompileRestriction(r.ID, r.Tenant, r.Rules)
	return err
}

// Restriction compiles a restriction that passed CheckRestriction before. One
// that does not compile any more, after an upgrade say, denies in its tenant
// while it is live: it was made to close, and nobody can tell what.
func (c *Compiler) Restriction(r *authz.Restriction) pdp.Program {
	program, err := c.cel.CompileRestriction(r.ID, r.Tenant, r.Rules)
	if err != nil {
		return newBroken(r, err)
	}
	return program
}
