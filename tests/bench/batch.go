//go:build unix

package main

import (
	"context"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// besideBatches compares what single decisions take beside a stream of batches
// with what they take in calm, in-process: one decision core answers both.
func (b *bench) besideBatches(ctx context.Context) error {
	e, err := newEngine(ctx, b.content)
	if err != nil {
		return err
	}
	if _, err := e.findings(ctx, b.inputs); err != nil { // no input may fail
		return err
	}
	one := func(i int) error {
		_, err := e.pdp.Decide(ctx, b.inputs[i].request, pdp.Caller{Name: "service:bench"})
		return err
	}
	calm := func(d time.Duration) (sample, error) { return singles(d, len(b.inputs), one) }
	at := 0
	c, err := contest(ctx, "single decisions beside batches of 100", b.rounds, b.roundTime, [2]side{
		{"beside batches", func(d time.Duration) (sample, error) {
			return beside(d, calm, func() error {
				for range batchSize {
					if err := one(at % len(b.inputs)); err != nil {
						return err
					}
					at++
				}
				return nil
			})
		}},
		{"calm", calm},
	})
	if err != nil {
		return err
	}
	b.compared(c, p99AtMost(3, c))
	return nil
}
