//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cardModules are the guardrails of the design card (C3) and the roles that
// allow beside them. OPA needs a third of the time for them that it needs for
// all shipped policies, which is still more than for the one policy that the
// goals of the decision doors were measured with.
var cardModules = []string{"platform/sizes.rego", "platform/regions.rego", "platform/network.rego", "platform/roles.rego"}

// card repeats, on these policies alone, what is bounded for one decision.
func (b *bench) card(ctx context.Context) (err error) {
	content, err := releaseOf(os.DirFS(b.policies), func(p string) bool {
		return slices.Contains(cardModules, p) || strings.HasPrefix(p, "platform/lib/") && isModule(p)
	})
	if err != nil {
		return err
	}
	few := *b
	few.content, few.of = content, "the card's "
	if err := few.inTheProcess(ctx); err != nil {
		return err
	}
	if err := few.doorOnly(ctx); err != nil {
		return err
	}
	b.results = few.results
	return nil
}

// doorOnly compares the CPU time of a call with that of the bare handler.
func (b *bench) doorOnly(ctx context.Context) (err error) {
	ours, err := startXiezhi(ctx, filepath.Join(b.bin, "xiezhi"), b.content)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	requests := make([][]byte, len(b.inputs))
	for i := range b.inputs {
		body, err := json.Marshal(b.inputs[i].ours)
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		requests[i] = prepare(ours.address, "/api/v1/decide", ours.token, body)
	}
	return b.compareBare(ctx, ours, requests)
}
