package stream

import "sync"

// lane says how urgent it is. What a connection lacks of the log and the keys
// goes ahead of every release and heartbeat of every other connection.
type lane uint8

const (
	laneFast lane = 1 << iota
	laneSlow
	// What a poll asks for itself; no queue.
	lanePoll  // all but the heartbeat
	laneGreet // the heartbeat
)

// queue holds the connections that may lack something, each once in a lane. A
// connection that a writer has is in none: what is marked meanwhile is kept.
type queue struct {
	mu     sync.Mutex
	some   *sync.Cond
	fast   fifo
	slow   fifo
	busy   int
	idle   chan struct{} // closed when nothing is left, if somebody waits
	closed bool
}

// place is a connection's part of the queue, guarded by its lock.
type place struct {
	queued lane // lanes that it is in
	again  lane // marked while a writer has it
	busy   bool
}

func (q *queue) init() { q.some = sync.NewCond(&q.mu) }

// mark puts connections into a lane.
func (q *queue) mark(conns []*conn, l lane) {
	if len(conns) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range conns {
		q.put(c, l)
	}
}

func (q *queue) put(c *conn, l lane) {
	if c.wake != nil { // its poll computes for itself
		select {
		case c.wake <- struct{}{}:
		default:
		}
		return
	}
	if c.place.busy {
		c.place.again |= l
		return
	}
	if l&^c.place.queued == 0 || q.closed {
		return
	}
	c.place.queued |= l
	if l == laneFast {
		q.fast.push(c)
	} else {
		q.slow.push(c)
	}
	q.some.Signal()
}

// take waits for a connection. The caller calls done with it.
func (q *queue) take() (*conn, lane, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.closed {
			return nil, 0, false
		}
		c, l := q.fast.pop(), laneFast
		if c == nil {
			c, l = q.slow.pop(), laneSlow
		}
		if c == nil {
			q.some.Wait()
			continue
		}
		c.place.queued &^= l
		if c.place.busy {
			c.place.again |= l
			continue
		}
		c.place.busy = true
		q.busy++
		return c, l, true
	}
}

func (q *queue) done(c *conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.place.busy = false
	again := c.place.again
	c.place.again = 0
	for _, l := range []lane{laneFast, laneSlow} {
		if again&l != 0 {
			q.put(c, l)
		}
	}
	q.busy--
	if q.idle != nil && q.busy == 0 && q.fast.len() == 0 && q.slow.len() == 0 {
		close(q.idle)
		q.idle = nil
	}
}

// drained returns a channel that is closed when nothing is left to do. It is
// asked for once.
func (q *queue) drained() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	idle := make(chan struct{})
	if q.busy == 0 && q.fast.len() == 0 && q.slow.len() == 0 {
		close(idle)
	} else {
		q.idle = idle
	}
	return idle
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}

// fifo is a queue that reuses its storage.
type fifo struct {
	conns []*conn
	first int
}

func (f *fifo) len() int { return len(f.conns) - f.first }

func (f *fifo) push(c *conn) {
	if f.first > 1024 && f.first > len(f.conns)/2 {
		n := copy(f.conns, f.conns[f.first:])
		clear(f.conns[n:])
		f.conns, f.first = f.conns[:n], 0
	}
	f.conns = append(f.conns, c)
}

func (f *fifo) pop() *conn {
	if f.len() == 0 {
		return nil
	}
	c := f.conns[f.first]
	f.conns[f.first] = nil
	f.first++
	if f.len() == 0 {
		f.conns, f.first = f.conns[:0], 0
	}
	return c
}
