//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// overHTTP compares `/api/v1/decide`, with authentication, with `opa run
// --server`, without, asked the same joint query on the same Rego over 64
// keep-alive connections, decision logs on in both: single calls, and batches
// with single calls; its CPU time with that of a handler that only parses; and
// one batch call with as many calls on one connection.
func (b *bench) overHTTP(ctx context.Context) (err error) {
	reference, err := newEngine(ctx, b.content)
	if err != nil {
		return err
	}
	asked, of := questions(reference.release.Policies(), b.inputs)
	ours, err := startXiezhi(ctx, filepath.Join(b.bin, "xiezhi"), b.content)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	theirs, err := startOPA(ctx, filepath.Join(b.bin, "opa"), b.content, asked)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.Stop()) }()

	toOurs, toTheirs := make([][]byte, len(b.inputs)), make([][]byte, len(b.inputs))
	for i := range b.inputs {
		body, err := json.Marshal(b.inputs[i].ours)
		if err != nil {
			return err
		}
		toOurs[i] = prepare(ours.address, "/api/v1/decide", ours.token, body)
		if body, err = json.Marshal(map[string]any{"input": b.inputs[i].peers}); err != nil {
			return err
		}
		toTheirs[i] = prepare(theirs.address, "/v1/data/bench/"+asked[of[i]].name+"/findings?strict-builtin-errors=true", "", body)
	}
	if err := b.agreeOverHTTP(ctx, reference, &ours.server, toOurs, theirs, toTheirs); err != nil {
		return err
	}
	if err := b.compareServers(ctx, &ours.server, toOurs, theirs, toTheirs); err != nil {
		return err
	}
	if err := b.compareBare(ctx, ours, toOurs); err != nil {
		return err
	}
	if err := b.compareBatches(ctx, ours, theirs, toTheirs); err != nil {
		return err
	}
	return b.compareBatch(ctx, ours, toOurs)
}

func (b *bench) compareServers(ctx context.Context, ours *server, toOurs [][]byte, theirs *server, toTheirs [][]byte) error {
	var sides [2]side
	for i, s := range []struct {
		name     string
		server   *server
		requests [][]byte
	}{{"xiezhi", ours, toOurs}, {"opa run --server", theirs, toTheirs}} {
		l, err := newLoad(s.server.address, s.server.cpu, connections, s.requests)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer l.close()
		sides[i] = side{s.name, l.run}
	}
	c, err := contest(ctx, fmt.Sprintf("decide over HTTP, %d connections", connections), b.rounds, b.roundTime, sides)
	if err != nil {
		return err
	}
	b.compared(c, atLeast(3.5, c).aiming(5))
	return nil
}

// compareBare compares the CPU time of a request, with authentication and audit,
// with that of a fiber handler that parses the same with the same decoder and
// answers a constant. Both are what the system counts for the processes.
func (b *bench) compareBare(ctx context.Context, ours *xiezhi, requests [][]byte) (err error) {
	bare, address, err := startBareDecide()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	toOurs, err := newLoad(ours.address, ours.cpu, connections, requests)
	if err != nil {
		return err
	}
	defer toOurs.close()
	toBare, err := newLoad(address, func() time.Duration { return processTime(bare.pid()) }, connections, requests)
	if err != nil {
		return err
	}
	defer toBare.close()
	c, err := contest(ctx, b.of+"decide over HTTP beside a handler that only parses", b.rounds, b.roundTime, [2]side{
		{"xiezhi", toOurs.run}, {"bare fiber", toBare.run},
	})
	if err != nil {
		return err
	}
	b.compared(c, cpuAtMost(2.5, c).aiming(1.6))
	return nil
}

// batchSize is how many inputs one batch holds; it divides inputCount.
const batchSize = 100

// batches are the inputs as batch calls.
func (b *bench) batches(x *xiezhi) ([][]byte, error) {
	var all [][]byte
	for chunk := range slices.Chunk(b.inputs, batchSize) {
		items := make([]any, len(chunk))
		for i := range chunk {
			items[i] = chunk[i].ours
		}
		body, err := json.Marshal(map[string]any{"evaluations": items})
		if err != nil {
			return nil, err
		}
		all = append(all, prepare(x.address, "/api/v1/decide/batch", x.token, body))
	}
	return all, nil
}

// compareBatches counts decisions: those of batches against those of OPA's
// single calls, since it has no batch; both over 64 connections.
func (b *bench) compareBatches(ctx context.Context, ours *xiezhi, theirs *server, singles [][]byte) error {
	batches, err := b.batches(ours)
	if err != nil {
		return err
	}
	many, err := newLoad(ours.address, ours.cpu, connections, batches)
	if err != nil {
		return err
	}
	defer many.close()
	one, err := newLoad(theirs.address, theirs.cpu, connections, singles)
	if err != nil {
		return err
	}
	defer one.close()
	c, err := contest(ctx, fmt.Sprintf("decisions in batches of %d, %d connections", batchSize, connections), b.rounds, b.roundTime, [2]side{
		{"xiezhi", func(d time.Duration) (sample, error) {
			s, err := many.run(d)
			s.ops, s.p99 = s.ops*batchSize, 0 // it is not that of a decision
			return s, err
		}},
		{"opa run --server, single calls", one.run},
	})
	if err != nil {
		return err
	}
	b.compared(c, atLeast(10, c).aiming(18))
	return nil
}

// compareBatch sends the inputs a hundred at a time, on one connection.
func (b *bench) compareBatch(ctx context.Context, x *xiezhi, singles [][]byte) error {
	batches, err := b.batches(x)
	if err != nil {
		return err
	}
	one, err := dialClient(x.address)
	if err != nil {
		return err
	}
	defer one.close()
	send := func(requests [][]byte) func(time.Duration) (sample, error) {
		return func(d time.Duration) (sample, error) {
			before := x.cpu()
			s, err := passes(d, len(b.inputs), func() error {
				for _, r := range requests {
					if _, err := one.do(r); err != nil {
						return err
					}
				}
				return nil
			})
			s.cpu = x.cpu() - before // the server's, not that of this process
			return s, err
		}
	}
	c, err := contest(ctx, fmt.Sprintf("one batch of %d over HTTP", batchSize), b.rounds, b.roundTime, [2]side{
		{"one call", send(batches)},
		{fmt.Sprintf("%d calls in sequence", batchSize), send(singles)},
	})
	if err != nil {
		return err
	}
	b.compared(c, atMost(0.6, c))
	return nil
}

// agreeOverHTTP makes sure that both servers find on every input what the
// library does.
func (b *bench) agreeOverHTTP(ctx context.Context, reference *engine, ours *server, toOurs [][]byte, theirs *server, toTheirs [][]byte) error {
	a, err := dialClient(ours.address)
	if err != nil {
		return err
	}
	defer a.close()
	o, err := dialClient(theirs.address)
	if err != nil {
		return err
	}
	defer o.close()
	for i := range b.inputs {
		decision, err := reference.decideMaps(ctx, b.inputs[i].ours)
		if err != nil {
			return err
		}
		wanted, err := findingsOf(&decision)
		if err != nil {
			return err
		}
		body, err := a.do(toOurs[i])
		if err != nil {
			return fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		var answer struct {
			Effect  authz.Effect
			Reasons []authz.Reason
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		found, err := findingsOf(&authz.Decision{Reasons: answer.Reasons})
		if err != nil {
			return fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		if answer.Effect != decision.Effect || !slices.Equal(found, wanted) {
			return fmt.Errorf("input %d: the server answers %s %v, the library %s %v", i, answer.Effect, found, decision.Effect, wanted)
		}
		if body, err = o.do(toTheirs[i]); err != nil {
			return fmt.Errorf("input %d: opa: %w", i, err)
		}
		var result struct{ Result any }
		if err := json.Unmarshal(body, &result); err != nil {
			return fmt.Errorf("input %d: opa: %w", i, err)
		}
		if found, err = findingsOfPeer(result.Result); err != nil {
			return fmt.Errorf("input %d: opa: %w: %s", i, err, strings.TrimSpace(string(body)))
		}
		if !slices.Equal(found, wanted) {
			return fmt.Errorf("input %d: opa's server answers %v, the library %v", i, found, wanted)
		}
	}
	return nil
}
