package world_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

func TestAStoppedClockMovesOnDemand(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := world.StoppedClock(start)
	fired := make(chan string, 3)
	clock.AfterFunc(time.Second, func() { fired <- "second" })
	stop := clock.AfterFunc(time.Second, func() { fired <- "stopped" })
	clock.AfterFunc(time.Hour, func() { fired <- "hour" })
	if !stop() || stop() {
		t.Error("a timer is taken back once")
	}
	clock.Advance(time.Second)
	if got := <-fired; got != "second" || !clock.Now().Equal(start.Add(time.Second)) {
		t.Errorf("%s fired at %v", got, clock.Now())
	}
	clock.Advance(time.Hour)
	if got := <-fired; got != "hour" {
		t.Errorf("%s fired", got)
	}
	ctx, cancel := clock.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	clock.Advance(time.Minute)
	<-ctx.Done()
	if context.Cause(ctx) != world.ErrTimeout {
		t.Errorf("cause %v", context.Cause(ctx))
	}
}

func TestFaultsMeetTheRequestsTheyName(t *testing.T) {
	clock := world.StoppedClock(time.Time{})
	faults := world.NewFaults(clock)
	var served atomic.Int32
	server := httptest.NewServer(faults.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		_, _ = io.Copy(w, r.Body)
	})))
	defer server.Close()
	post := func(path string) (int, string) {
		response, err := http.Post(server.URL+path, "text/plain", strings.NewReader("body"))
		if err != nil {
			return 0, ""
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(text)
	}
	faults.Add(world.Fault{Method: "GET", Status: 500})
	faults.Add(world.Fault{Path: "/a", Status: 503, Body: "down", Times: 2})
	for i, want := range []int{503, 503, 200} {
		if got, _ := post("/a"); got != want {
			t.Errorf("request %d: %d, want %d", i, got, want)
		}
	}
	if status, text := post("/b"); status != 200 || text != "body" {
		t.Errorf("/b: %d %q", status, text)
	}
	faults.Add(world.Fault{Path: "/b", Lose: true})
	if status, _ := post("/b"); status != 0 || served.Load() != 3 {
		t.Errorf("lost: status %d, %d served", status, served.Load())
	}
	faults.Clear()
	faults.Add(world.Fault{Cut: true})
	if status, _ := post("/b"); status != 0 || served.Load() != 3 {
		t.Errorf("cut: status %d, %d served", status, served.Load())
	}
}

func TestAServerComesBackToItsAddress(t *testing.T) {
	server, err := world.Listen("127.0.0.1:0", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) error {
		response, err := client.Get(server.URL() + path)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	url := server.URL()
	for range 2 {
		if err := get("/"); err != nil {
			t.Fatal(err)
		}
		server.Down()
		if err := get("/"); err == nil {
			t.Error("a server that is down answered")
		}
		if err := server.Up(); err != nil || server.URL() != url {
			t.Fatal(err, server.URL())
		}
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
}
