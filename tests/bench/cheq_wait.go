//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

const (
	waiterCount = 10_000
	callCount   = 500         // half of what may wait by one credential
	patience    = time.Minute // that a waiting call asks for, as much as any may
)

// waiters bounds what one of many holds that wait in one process, each for a
// case of its own, by the most of the rounds; and reports how long it takes
// until all are released.
func waiters(ctx context.Context, rounds int) (memory, release gate, err error) {
	var each, took []float64
	for range rounds {
		held, t, err := waitTogether(ctx, waiterCount)
		if err != nil {
			return gate{}, gate{}, err
		}
		each, took = append(each, held), append(took, float64(t)/1e6)
	}
	return bound(8, fmt.Sprintf("KiB of memory of one of %d waiters", waiterCount), slices.Max(each)/1024),
		reported(fmt.Sprintf("ms until %d waiters are released", waiterCount), median(took)), nil
}

// waitTogether lets n wait as a call does, and settles their cases.
func waitTogether(ctx context.Context, n int) (bytesEach float64, took time.Duration, err error) {
	var w cheq.Waiters
	ids, errs := make([]string, n), make([]error, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("cheq-%026d", i)
	}
	before := inUse()
	var joined, ended sync.WaitGroup
	joined.Add(n)
	for i, id := range ids {
		ended.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			errs[i] = w.Wait(ctx, id, func() (bool, error) {
				joined.Done()
				return false, nil
			})
		})
	}
	joined.Wait()
	bytesEach = float64(inUse()-before) / float64(n)
	began := time.Now()
	for _, id := range ids {
		w.Settled(id)
	}
	ended.Wait()
	return bytesEach, time.Since(began), errors.Join(errs...)
}

// inUse is the memory of heap and stacks of this process, without garbage.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// waitingCalls compares what a call that waits for people costs the server with
// what a connection on which nothing happens costs a server of the same library.
func (d *desk) waitingCalls(ctx context.Context) (c comparison, err error) {
	bare, address, err := startBareDecide()
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	if err := d.ask(ctx, 1); err != nil {
		return c, err
	}
	body, err := json.Marshal(sale(d.price))
	if err != nil {
		return c, err
	}
	idle, err := dialAll(address)
	defer closeAll(idle)
	if err != nil {
		return c, err
	}
	waiting, err := dialAll(d.server.listen)
	defer closeAll(waiting)
	if err != nil {
		return c, err
	}
	c = comparison{Name: fmt.Sprintf("server memory of one of %d calls that wait for people", callCount)}
	c.Sides[0].Name, c.Sides[1].Name = "xiezhi serve", "bare fiber, idle connection"
	request := prepare(address, "/api/v1/decide", "", body)
	if c.Sides[1].Bytes, err = grown(bare.pid(), func() error {
		return forAll(idle, func(k *client) error {
			_, err := k.do(request)
			return err
		})
	}); err != nil {
		return c, err
	}
	reviews, err := d.reviews(ctx)
	if err != nil {
		return c, err
	}
	request = prepare(d.server.listen, "/api/v1/decide?wait="+patience.String(), d.server.pep, body)
	if c.Sides[0].Bytes, err = grown(d.server.PID(), func() error {
		if err := forAll(waiting, func(k *client) error { return k.send(request) }); err != nil {
			return err
		}
		return d.awaitReviews(ctx, reviews+callCount)
	}); err != nil {
		return c, err
	}
	if _, err := d.tap(ctx); err != nil {
		return c, err
	}
	if err := forAll(waiting, receiveAllow); err != nil {
		return c, err
	}
	c.Ratio = c.Sides[0].Bytes / c.Sides[1].Bytes
	c.Ratios = []float64{c.Ratio}
	return c, nil
}

func dialAll(address string) (all []*client, err error) {
	for range callCount {
		k, err := dialClient(address)
		if err != nil {
			return all, err
		}
		all = append(all, k)
	}
	return all, nil
}

func forAll(all []*client, do func(*client) error) error {
	for _, k := range all {
		if err := do(k); err != nil {
			return err
		}
	}
	return nil
}

func closeAll(all []*client) {
	for _, k := range all {
		k.close()
	}
}

// receiveAllow expects that who waited is let through.
func receiveAllow(k *client) error {
	body, err := k.receive()
	if err == nil && !bytes.Contains(body, []byte(`"effect":"ALLOW"`)) {
		err = fmt.Errorf("who waited for a yes gets %.300s", body)
	}
	return err
}

// grown is by how many bytes a process grew for each of the calls.
func grown(pid int, make func() error) (float64, error) {
	before, err := resident(pid)
	if err != nil {
		return 0, err
	}
	if err := make(); err != nil {
		return 0, err
	}
	after, err := resident(pid)
	if err == nil && after <= before {
		err = fmt.Errorf("the memory of process %d went from %d to %d bytes", pid, before, after)
	}
	return float64(after-before) / callCount, err
}

// awaitReviews waits until the server has decided so many times that people are
// to be asked.
func (d *desk) awaitReviews(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		got, err := d.reviews(ctx)
		if err != nil || got >= want {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d REVIEWs: %w", got, want, ctx.Err())
		}
	}
}

// reviews is how often the server has decided so.
func (d *desk) reviews(ctx context.Context) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.server.url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+d.server.admin)
	response, err := d.server.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\nxiezhi_decisions_total{effect=\"REVIEW\"} ")
	count, _, found := strings.Cut(rest, "\n")
	if !found {
		return 0, fmt.Errorf("%s: no count of decisions in %.300q", response.Status, text)
	}
	return strconv.Atoi(count)
}
