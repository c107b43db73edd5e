package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// How long the listener waits before it connects again, and how long it hears
// nothing before it asks whether the connection is still alive.
const (
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 10 * time.Second
	silence        = 30 * time.Second
)

// Wake implements [pap.Store], across all nodes of the database. The first call
// starts the listener.
func (s *Store) Wake(ctx context.Context) <-chan struct{} {
	c := s.hub.Listen(ctx)
	s.listening.Do(func() { s.listeners.Go(s.listen) })
	return c
}

// listen keeps a connection that listens until the store is closed.
func (s *Store) listen() {
	wait := reconnectFirst
	for {
		heard, err := s.listenOnce(s.closing)
		if s.closing.Err() != nil {
			return
		}
		s.log.Warn("listening to the database failed; changes of other nodes are found by polling meanwhile", "error", err, "again_in", wait)
		if heard {
			wait = reconnectFirst
		}
		select {
		case <-time.After(wait):
		case <-s.closing.Done():
			return
		}
		wait = min(2*wait, reconnectMost)
	}
}

// listenOnce rings for every notification until the connection breaks, and
// once when it stands, for those that came before. It reports whether it stood.
func (s *Store) listenOnce(ctx context.Context) (stood bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, "LISTEN xiezhi"); err != nil {
		return false, err
	}
	for {
		s.hub.Ring()
		if err := s.nextNotification(ctx, conn); err != nil {
			return true, err
		}
	}
}

// nextNotification waits for one that concerns this schema. A connection that
// is silent for long is pinged: a peer that vanished says nothing either.
func (s *Store) nextNotification(ctx context.Context, conn *pgx.Conn) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, silence)
		notification, err := conn.WaitForNotification(waiting)
		quiet := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil && notification.Payload == s.schema:
			return nil
		case err == nil: // another schema of the same database
		case !quiet:
			return err
		default:
			answering, cancel := context.WithTimeout(ctx, silence)
			err := conn.Ping(answering)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}
