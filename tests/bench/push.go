//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Sizes of what is pushed, in bytes on the wire.
const (
	releaseBytes = 50 << 10
	grantBytes   = 512
)

// push measures how a change reaches many PEPs, beside a server that only
// writes the same number of bytes to as many WebSockets.
func (b *bench) push(ctx context.Context) (err error) {
	p := &fleet{bench: b, peps: cmp.Or(b.peps, 10_000)}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := p.start(ctx); err != nil {
		return err
	}
	memory, err := p.memory()
	if err != nil {
		return err
	}
	publish, err := p.contest(ctx, fmt.Sprintf("publish of 50 KiB until the last of %d PEPs has acknowledged", p.peps), releaseBytes, p.publish)
	if err != nil {
		return err
	}
	minted := false
	grant, err := p.contest(ctx, fmt.Sprintf("mint or revoke until the last of %d PEPs enforces", p.peps), grantBytes, func(ctx context.Context) (sample, error) {
		minted = !minted
		if minted {
			return p.mint(ctx)
		}
		return p.revoke(ctx)
	})
	if err != nil {
		return err
	}
	back, err := p.reconnect(ctx)
	if err != nil {
		return err
	}
	b.compared(publish, atMost(3, publish))
	b.compared(grant, atMost(3, grant))
	b.compared(memory, atMost(1.5, memory))
	b.compared(back, atMost(6, back))
	return nil
}

// fleet is the two servers and their swarms.
type fleet struct {
	*bench
	peps   int
	server *pushServer
	bare   *child
	// bareAddress stays the same when the bare server is started again.
	bareAddress string
	ours, peers *child // swarms
	sent        int64  // messages of the bare server since its swarm connected
	release     uint64
	grant       string
	// resident memory of the servers before and after their PEPs connected
	before, after [2]int64
}

// start starts servers and swarms.
func (f *fleet) start(ctx context.Context) (err error) {
	if f.server, err = f.startPushServer(ctx, nil); err != nil {
		return err
	}
	f.release = 1
	// Once before the memory is read, so that what a server needs to publish at all is there.
	if _, err := f.server.publish(ctx, 1); err != nil {
		return err
	}
	f.release++
	return f.connect()
}

// connect starts what stands beside our server, connects all PEPs, and notes
// the servers' memory.
func (f *fleet) connect() (err error) {
	if err := f.startBare("127.0.0.1:0"); err != nil {
		return err
	}
	if f.ours, err = startChild(self("swarm")); err != nil {
		return err
	}
	if f.peers, err = startChild(self("swarm")); err != nil {
		return err
	}
	for i, pid := range []int{f.server.PID(), f.bare.pid()} {
		if f.before[i], err = resident(pid); err != nil {
			return err
		}
	}
	if _, err := f.ours.order(order{Do: "connect", URL: f.server.stream, Token: f.server.pep, Trust: f.server.trust, PEPs: f.peps}); err != nil {
		return err
	}
	if _, err := f.peers.order(order{Do: "connect", URL: "ws://" + f.bareAddress, PEPs: f.peps}); err != nil {
		return err
	}
	if _, err := f.ours.order(order{Do: "await", Release: f.release}); err != nil {
		return err
	}
	for i, pid := range []int{f.server.PID(), f.bare.pid()} {
		if f.after[i], err = resident(pid); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) startBare(listen string) (err error) {
	if f.bare, err = startChild(self("bare", listen)); err != nil {
		return err
	}
	f.bareAddress, err = f.bare.line()
	return err
}

func (f *fleet) stop() error {
	var err error
	for _, c := range []*child{f.ours, f.peers, f.bare} {
		if c != nil {
			err = errors.Join(err, c.stop())
		}
	}
	if f.server != nil {
		err = errors.Join(err, f.server.Stop())
	}
	return err
}

// memory compares what one connected PEP costs the servers.
func (f *fleet) memory() (comparison, error) {
	c := comparison{Name: "server memory of a connected PEP"}
	names := [2]string{"xiezhi serve", "bare WebSocket"}
	var each [2]float64
	for i := range each {
		each[i] = float64(f.after[i]-f.before[i]) / float64(f.peps)
		c.Sides[i] = outcome{Name: names[i], Bytes: each[i]}
	}
	if each[1] <= 0 {
		return c, fmt.Errorf("the bare server's memory went from %d to %d bytes", f.before[1], f.after[1])
	}
	c.Ratio = each[0] / each[1]
	c.Ratios = []float64{c.Ratio}
	return c, nil
}

// contest lets one change reach our PEPs, and as many bytes the bare ones.
func (f *fleet) contest(ctx context.Context, name string, size int, ours func(context.Context) (sample, error)) (comparison, error) {
	return contest(ctx, name, f.rounds, 0, [2]side{
		{"xiezhi serve", func(time.Duration) (sample, error) { return ours(ctx) }},
		{"bare WebSocket, 32 writers", func(time.Duration) (sample, error) { return f.fanOut(size) }},
	})
}

// fanOut is one message of the bare server to all.
func (f *fleet) fanOut(size int) (sample, error) {
	cpu := processTime(f.bare.pid())
	began, err := f.bare.order(fanOut{Size: size})
	if err != nil {
		return sample{}, err
	}
	f.sent++
	ended, err := f.peers.order(order{Do: "await", Message: f.sent})
	return sample{ops: 1, wall: ended.Sub(began), cpu: processTime(f.bare.pid()) - cpu}, err
}

// publish is one release of 50 KiB. It counts from when the release is there,
// since checking it before takes what its policies take.
func (f *fleet) publish(ctx context.Context) (sample, error) {
	cpu := processTime(f.server.PID())
	stored, err := f.server.publish(ctx, releaseBytes)
	if err != nil {
		return sample{}, err
	}
	f.release++
	ended, err := f.ours.order(order{Do: "await", Release: f.release})
	return sample{ops: 1, wall: ended.Sub(stored), cpu: processTime(f.server.PID()) - cpu}, err
}

func (f *fleet) mint(ctx context.Context) (sample, error) {
	return f.change(func() (uint64, error) {
		id, position, err := f.server.mint(ctx)
		f.grant = id
		return position, err
	})
}

func (f *fleet) revoke(ctx context.Context) (sample, error) {
	return f.change(func() (uint64, error) { return f.server.revoke(ctx, f.grant) })
}

// change counts from the call.
func (f *fleet) change(call func() (position uint64, err error)) (sample, error) {
	cpu, began := processTime(f.server.PID()), time.Now()
	position, err := call()
	if err != nil {
		return sample{}, err
	}
	ended, err := f.ours.order(order{Do: "await", Position: position})
	return sample{ops: 1, wall: ended.Sub(began), cpu: processTime(f.server.PID()) - cpu}, err
}

// reconnectRounds is how often the servers are restarted: each time takes seconds.
const reconnectRounds = 5

// reconnect kills the servers and counts from when they listen again until
// the last PEP is back, with a heartbeat that vouches for what it holds.
func (f *fleet) reconnect(ctx context.Context) (comparison, error) {
	return contest(ctx, fmt.Sprintf("%d PEPs back after a restart", f.peps), reconnectRounds, 0, [2]side{
		{"xiezhi serve", func(time.Duration) (sample, error) {
			if err := f.server.restart(ctx); err != nil {
				return sample{}, err
			}
			began := time.Now()
			ended, err := f.ours.order(order{Do: "reconnect", URL: f.server.stream})
			return sample{ops: 1, wall: ended.Sub(began), cpu: processTime(f.server.PID())}, err
		}},
		{"bare WebSocket", func(time.Duration) (sample, error) {
			if err := f.bare.stop(); err != nil {
				return sample{}, err
			}
			if err := f.startBare(f.bareAddress); err != nil {
				return sample{}, err
			}
			f.sent = 0
			began := time.Now()
			ended, err := f.peers.order(order{Do: "reconnect", URL: "ws://" + f.bareAddress})
			return sample{ops: 1, wall: ended.Sub(began), cpu: processTime(f.bare.pid())}, err
		}},
	})
}
