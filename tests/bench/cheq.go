//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/xiezhi-project/xiezhi/tests/sim/feishu"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// cheq measures how soon many PEPs enforce what a person answers in Feishu, and
// the end of it, beside a server that only writes the same number of bytes to
// as many WebSockets; and what those cost who wait for the answer.
func (b *bench) cheq(ctx context.Context) (err error) {
	d := &desk{fleet: &fleet{bench: b, peps: cmp.Or(b.peps, 1000)}, shown: map[string]bool{}}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.ask(ctx, b.rounds+2); err != nil { // the contest's, one that does not count, one for its size
		return err
	}
	granted, err := d.sizeOf(ctx, d.tap)
	if err != nil {
		return err
	}
	ended, err := d.sizeOf(ctx, d.revokeCase)
	if err != nil {
		return err
	}
	tap, err := d.contest(ctx, fmt.Sprintf("tap in Feishu until the last of %d PEPs enforces (%d bytes)", d.peps, granted), granted, d.tap)
	if err != nil {
		return err
	}
	revoke, err := d.contest(ctx, fmt.Sprintf("revocation of a case until the last of %d PEPs enforces (%d bytes)", d.peps, ended), ended, d.revokeCase)
	if err != nil {
		return err
	}
	calls, err := d.waitingCalls(ctx)
	if err != nil {
		return err
	}
	memory, release, err := waiters(ctx, b.rounds)
	if err != nil {
		return err
	}
	b.compared(tap, atMost(3, tap))
	b.compared(revoke, atMost(3, revoke))
	b.compared(calls, reported(calls.Name, calls.Ratio), memory, release)
	return nil
}

// desk is a server whose cases are answered in a simulated Feishu.
type desk struct {
	*fleet
	dir      string
	company  *feishu.Sim
	door     *world.Server // where the company listens
	shown    map[string]bool
	price    int
	pending  []shownCase
	approved []shownCase
	position uint64 // of the log
}

// shownCase is a case and the card that shows it.
type shownCase struct{ id, card string }

func (d *desk) stop() error {
	err := d.fleet.stop()
	if d.company != nil {
		err = errors.Join(err, d.company.Close())
	}
	if d.door != nil {
		err = errors.Join(err, d.door.Close())
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// start starts the company, the server and the swarms.
func (d *desk) start(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "cheq-bench-"); err != nil {
		return err
	}
	d.company = feishu.New(feishu.Config{Unlimited: true})
	if d.door, err = world.Listen("127.0.0.1:0", d.company); err != nil {
		return err
	}
	config, err := d.writeConfig()
	if err != nil {
		return err
	}
	if d.server, err = d.startPushServer(ctx, asking, "--config", config); err != nil {
		return err
	}
	if err := d.employ(ctx); err != nil {
		return err
	}
	return d.connect()
}

// ask opens cases, and returns when each is shown.
func (d *desk) ask(ctx context.Context, cases int) error {
	for range cases {
		d.price++
		var decision struct {
			Effect   string `json:"effect"`
			Approval struct {
				ID string `json:"id"`
			} `json:"approval"`
		}
		if _, err := d.server.callAs(ctx, d.server.pep, http.MethodPost, "/api/v1/decide", nil, sale(d.price), &decision); err != nil {
			return err
		}
		if decision.Approval.ID == "" {
			return fmt.Errorf("%s, and nobody is asked", decision.Effect)
		}
		card, err := d.nextCard(ctx)
		if err != nil {
			return fmt.Errorf("case %s: no card: %w", decision.Approval.ID, err)
		}
		d.pending = append(d.pending, shownCase{decision.Approval.ID, card})
	}
	return nil
}

// nextCard waits for a card that was not there before.
func (d *desk) nextCard(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	card, err := d.company.AwaitMessage(ctx, func(m feishu.Message) bool { return !d.shown[m.ID] })
	d.shown[card.ID] = true
	return card.ID, err
}

// tap approves the next case. It counts from the tap: the sealed callback, the
// vote and the grant are in it.
func (d *desk) tap(ctx context.Context) (sample, error) {
	next := d.pending[0]
	d.pending, d.approved = d.pending[1:], append(d.approved, next)
	return d.change(func() (uint64, error) {
		seen, err := d.company.Tap(ctx, feishu.Tap{User: approver, Message: next.card, Button: "approve", Form: map[string]any{"reason": "a benchmark"}})
		if err == nil && (seen.Toast == nil || seen.Toast.Type != "success") {
			err = fmt.Errorf("case %s: the person sees %q, %+v", next.id, seen.Error, seen.Toast)
		}
		return d.grantAt(), err
	})
}

// revokeCase ends what the next case opened. It counts from the call.
func (d *desk) revokeCase(ctx context.Context) (sample, error) {
	next := d.approved[0]
	d.approved = d.approved[1:]
	return d.change(func() (uint64, error) {
		revision, err := d.server.call(ctx, http.MethodPost, "/api/v1/cheq/"+next.id+"/revoke?wait=0s", nil, map[string]any{"reason": "a benchmark"}, nil)
		at := d.grantAt()
		if err == nil && revision.Position != at {
			err = fmt.Errorf("the grant is at %d of the log and not at %d: something else was written", revision.Position, at)
		}
		return at, err
	})
}

// grantAt is where the log tells of a grant that was made or ended just now; the
// case stands behind it. Answers to taps don't say it, those to revocations do.
func (d *desk) grantAt() uint64 {
	d.position += 2
	return d.position - 1
}

// sizeOf makes a change once and returns how many bytes of the log it sends to
// each PEP.
func (d *desk) sizeOf(ctx context.Context, change func(context.Context) (sample, error)) (int, error) {
	if _, err := change(ctx); err != nil {
		return 0, err
	}
	var answer done
	err := d.ours.ask(order{Do: "await"}, &answer)
	if err == nil && answer.Log == 0 {
		err = errors.New("the PEPs saw nothing of the log")
	}
	return answer.Log, err
}

// sale is what is asked of people; each price is a case of its own.
func sale(price int) map[string]any {
	return map[string]any{
		"tenant": tenant, "subject": map[string]any{"type": "user", "id": "li.wei"}, "action": "shop.sell",
		"resource": map[string]any{"type": "shop.item", "id": "i-1", "properties": map[string]any{"price": price}},
	}
}
