//go:build unix

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// inProcess compares deciding from a Go value with OPA's prepared query, asked
// the same joint query on the same Rego. Xiezhi's time includes converting the
// maps, matching policies, asking the directory and combining the findings;
// OPA's includes converting the maps. Neither writes a log.
func (b *bench) inProcess(ctx context.Context) error {
	ours, err := newEngine(ctx, b.content)
	if err != nil {
		return err
	}
	asked, of := questions(ours.release.Policies(), b.inputs)
	theirs, err := newOPA(ctx, b.content, asked)
	if err != nil {
		return err
	}
	if err := agree(ctx, ours, theirs, of, b.inputs); err != nil {
		return err
	}
	c, err := contest(ctx, "decide in-process", b.rounds, b.roundTime, [2]side{
		{"xiezhi", func(d time.Duration) (sample, error) {
			return passes(d, len(b.inputs), func() error {
				for i := range b.inputs {
					if _, err := ours.decideMaps(ctx, b.inputs[i].ours); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		{"opa prepared query", func(d time.Duration) (sample, error) {
			return passes(d, len(b.inputs), func() error {
				for i := range b.inputs {
					if _, err := theirs.ask(ctx, of[i], b.inputs[i].peers); err != nil {
						return err
					}
				}
				return nil
			})
		}},
	})
	if err != nil {
		return err
	}
	b.compared(c, atMost(1.15, c))
	return nil
}

// agree makes sure that both sides do the same work: on every input both find
// the same.
func agree(ctx context.Context, ours *engine, theirs *opa, of []int, inputs []input) error {
	for i := range inputs {
		d, err := ours.decideMaps(ctx, inputs[i].ours)
		if err != nil {
			return fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		found, err := findingsOf(&d)
		if err != nil {
			return fmt.Errorf("input %d: xiezhi: %w", i, err)
		}
		answer, err := theirs.ask(ctx, of[i], inputs[i].peers)
		if err != nil {
			return fmt.Errorf("input %d: opa: %w", i, err)
		}
		wanted, err := findingsOfPeer(answer)
		if err != nil {
			return fmt.Errorf("input %d: opa: %w", i, err)
		}
		if !slices.Equal(found, wanted) {
			return fmt.Errorf("input %d: xiezhi and opa disagree\nxiezhi: %v\nopa:    %v\ninput:  %v", i, found, wanted, inputs[i].peers)
		}
	}
	return nil
}

// cedar compares deciding with many Cedar policies loaded, of which about ten
// can apply to any request, with having only those ten loaded: once as
// statements that their scope clauses tell apart, once as files that their
// declared scopes do. All find the same.
func (b *bench) cedar(ctx context.Context) error {
	for _, form := range cedarForms() {
		ten, wanted, err := b.cedarSide(ctx, form, 10)
		if err != nil {
			return err
		}
		for _, n := range b.loaded {
			many, found, err := b.cedarSide(ctx, form, n)
			if err != nil {
				return err
			}
			if !slices.Equal(found, wanted) {
				return fmt.Errorf("%s answers otherwise than 10 loaded", many.name)
			}
			c, err := contest(ctx, fmt.Sprintf("cedar, 10 of %d %s apply", n, form.name), b.rounds, b.roundTime, [2]side{many, ten})
			if err != nil {
				return err
			}
			b.compared(c, atMost(2, c))
		}
	}
	return nil
}

// cedarSide decides with n policies of the form loaded. Answers are the effects
// on all inputs, and how many reasons they had.
func (b *bench) cedarSide(ctx context.Context, form cedarForm, n int) (s side, answers []string, err error) {
	content, err := form.build(n - 10)
	if err != nil {
		return s, nil, err
	}
	e, err := newEngine(ctx, content)
	if err != nil {
		return s, nil, err
	}
	for i := range b.inputs {
		d, err := e.decideMaps(ctx, b.inputs[i].ours)
		if err != nil {
			return s, nil, err
		}
		answers = append(answers, fmt.Sprint(d.Effect, len(d.Reasons)))
	}
	return b.all(fmt.Sprintf("%d loaded", n), func(i int) error {
		_, err := e.decideMaps(ctx, b.inputs[i].ours)
		return err
	}), answers, nil
}
