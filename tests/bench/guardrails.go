//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/open-policy-agent/opa/v1/util"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// guardrails compares what all shipped policies cost in-process, and those that
// Cedar can say with cedar-go and with Go by hand.
func (b *bench) guardrails(ctx context.Context) error {
	if err := b.inTheProcess(ctx); err != nil {
		return err
	}
	return b.compareSayable(ctx, os.DirFS(b.policies))
}

// inTheProcess compares what the policies cost in-process, with all reasons,
// with OPA's v1/sdk and with its prepared query from JSON, and bounds the
// allocations and the tail of one decision. Nobody writes a log.
func (b *bench) inTheProcess(ctx context.Context) (err error) {
	ours, err := newEngine(ctx, b.content)
	if err != nil {
		return err
	}
	asked, of := questions(ours.release.Policies(), b.inputs)
	wanted, err := ours.findings(ctx, b.inputs)
	if err != nil {
		return err
	}
	peer, err := startSDK(filepath.Join(b.bin, "opa-sdk"), b.content, asked, of, b.inputs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()
	if err := peer.agree(wanted); err != nil {
		return err
	}
	if err := b.fromValues(ctx, ours, peer); err != nil {
		return err
	}
	prepared, err := newOPA(ctx, b.content, asked)
	if err != nil {
		return err
	}
	if err := agree(ctx, ours, prepared, of, b.inputs); err != nil {
		return err
	}
	if err := b.fromJSON(ctx, ours, prepared, of); err != nil {
		return err
	}
	return b.allocations(ctx, ours)
}

// fromValues gives both sides Go values. The request is xiezhi's own type; the
// maps have to be converted first, as the SDK converts its maps.
func (b *bench) fromValues(ctx context.Context, ours *engine, peer *sdkPeer) error {
	fromRequest := func(i int) error {
		_, err := ours.pdp.Decide(ctx, b.inputs[i].request, pdp.Caller{Name: "service:bench"})
		return err
	}
	fromMaps := func(i int) error {
		_, err := ours.decideMaps(ctx, b.inputs[i].ours)
		return err
	}
	for _, from := range []struct {
		name string
		one  func(i int) error
	}{{"guardrails from an authz.Request", fromRequest}, {"guardrails from Go maps", fromMaps}} {
		c, err := contest(ctx, b.of+from.name, b.rounds, b.roundTime, [2]side{b.all("xiezhi", from.one), peer.side(false)})
		if err != nil {
			return err
		}
		b.compared(c, atLeast(10, c).aiming(20))
	}
	c, err := contest(ctx, b.of+"guardrails, each decision timed", b.rounds, b.roundTime, [2]side{
		{"xiezhi", func(d time.Duration) (sample, error) { return singles(d, len(b.inputs), fromRequest) }},
		peer.side(true),
	})
	if err != nil {
		return err
	}
	b.compared(c,
		bound(4, b.of+"guardrails: p99 / p50 of xiezhi", c.Sides[0].Tail).aiming(2),
		reported(b.of+"guardrails: p99 / p50 of opa v1/sdk", c.Sides[1].Tail))
	return nil
}

// all is a side that does one for each input.
func (b *bench) all(name string, one func(i int) error) side {
	return sideOf(name, len(b.inputs), one)
}

func sideOf(name string, n int, one func(i int) error) side {
	return side{name, func(d time.Duration) (sample, error) {
		return passes(d, n, func() error {
			for i := range n {
				if err := one(i); err != nil {
					return err
				}
			}
			return nil
		})
	}}
}

// fromJSON gives both sides the bytes of a request and takes the bytes of an
// answer.
func (b *bench) fromJSON(ctx context.Context, ours *engine, theirs *opa, of []int) error {
	toOurs, toTheirs := make([][]byte, len(b.inputs)), make([][]byte, len(b.inputs))
	for i := range b.inputs {
		var err, err2 error
		toOurs[i], err = json.Marshal(b.inputs[i].ours)
		toTheirs[i], err2 = json.Marshal(b.inputs[i].peers)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
	}
	var out []byte
	c, err := contest(ctx, b.of+"guardrails, JSON to JSON", b.rounds, b.roundTime, [2]side{
		b.all("xiezhi", func(i int) error {
			d, err := ours.decideJSON(ctx, toOurs[i])
			out = d.AppendJSON(out[:0])
			return err
		}),
		b.all("opa prepared query", func(i int) error {
			var request map[string]any
			if err := util.UnmarshalJSON(toTheirs[i], &request); err != nil {
				return err
			}
			answer, err := theirs.ask(ctx, of[i], request)
			if err != nil {
				return err
			}
			_, err = json.Marshal(answer)
			return err
		}),
	})
	if err != nil {
		return err
	}
	b.compared(c, atLeast(10, c).aiming(20))
	return nil
}

// decideJSON answers the request that the text holds.
func (e *engine) decideJSON(ctx context.Context, text []byte) (authz.Decision, error) {
	v, err := authz.Parse(text)
	if err != nil {
		return authz.Decision{}, err
	}
	req, err := authz.RequestOf(v)
	if err != nil {
		return authz.Decision{}, err
	}
	return e.pdp.Decide(ctx, req, pdp.Caller{Name: "service:bench"})
}

// allocations counts them for one decision from an authz.Request: on all
// inputs, and on those that are allowed.
func (b *bench) allocations(ctx context.Context, ours *engine) error {
	var allowed []authz.Request
	all := make([]authz.Request, len(b.inputs))
	for i := range b.inputs {
		all[i] = b.inputs[i].request
		d, err := ours.pdp.Decide(ctx, all[i], pdp.Caller{Name: "service:bench"})
		if err != nil {
			return err
		}
		if d.Allowed() {
			allowed = append(allowed, all[i])
		}
	}
	for _, g := range []struct {
		name     string
		requests []authz.Request
		limit    float64
	}{{"guardrails: allocations a decision", all, 10}, {"guardrails: allocations an ALLOW", allowed, 4}} {
		count, err := allocations(len(g.requests), func() error {
			for i := range g.requests {
				if _, err := ours.pdp.Decide(ctx, g.requests[i], pdp.Caller{Name: "service:bench"}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		b.results.Gates = append(b.results.Gates, bound(g.limit, b.of+g.name, count))
	}
	return nil
}

// findings is what every input gives.
func (e *engine) findings(ctx context.Context, inputs []input) ([][]finding, error) {
	all := make([][]finding, len(inputs))
	for i := range inputs {
		d, err := e.decideMaps(ctx, inputs[i].ours)
		if err == nil {
			all[i], err = findingsOf(&d)
		}
		if err != nil {
			return nil, fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
	}
	return all, nil
}
