// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// What is under way when the link dies ends with an error on both sides, soon; the tunnel comes
// back on the same port.
func TestRequestsInFlightEndWithTheLink(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	arrived, gone := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		<-r.Context().Done() // which net/http ends when the connection ends
		close(gone)
	})
	tun := c.expose(t, serve(t, mux.ServeHTTP))
	visitor := c.visitor(t)
	_, _ = io.WriteString(visitor, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
	<-arrived
	c.KillLinks()
	if got, err := io.ReadAll(visitor); err == nil && strings.HasSuffix(string(got), "0\r\n\r\n") {
		t.Errorf("the visitor was told of a complete answer: %q", got)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the app was not told that its visitor is gone")
	}
	s := await(t, tun, "a new link", func(s tunnel.Status) bool { return s.Reconnects > 0 && s.State == tunnel.Up }) // or both
	if s.Remote != c.port || !c.HoldsPort(c.port) {
		t.Errorf("came back on another port: %+v", s)
	}
	wantBody(t, c.url, "hello")
}

// A link that says nothing more is noticed: the promise is two seconds, the ceiling leaves a busy
// machine room.
func TestBlackHoleIsNoticed(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.expose(t, app(t, "hello"))
	c.showing(t, 2) // or no other link can end it
	c.StopLinks()
	begin := time.Now()
	s := await(t, tun, "the loss", func(s tunnel.Status) bool { return s.State == tunnel.Reconnecting })
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("noticed after %v", took)
	}
	if !errors.Is(s.LastError, tunnel.ErrUnreachable) {
		t.Errorf("last error %v", s.LastError)
	}
	t.Logf("noticed after %v", time.Since(begin).Round(time.Millisecond))
	await(t, tun, "a new link", inState(tunnel.Up)) // which has ended the stopped process that held the port
	wantBody(t, c.url, "hello")
}

func TestServerThatRestartsIsFoundAgain(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.expose(t, app(t, "hello"))
	c.Stop()
	s := await(t, tun, "a refused attempt", func(s tunnel.Status) bool {
		return s.State == tunnel.Reconnecting && s.LastError != nil && s.LastError.Op == "connect"
	})
	if s.RetryAt.IsZero() || s.Links != 0 || s.Slots != 0 {
		t.Errorf("status %+v", s)
	}
	c.Restart()
	await(t, tun, "a new link", inState(tunnel.Up))
	wantBody(t, c.url, "hello")
}

func TestConnectionsFollowTheTarget(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.expose(t, "")
	if s := tun.Status(); s.State != tunnel.Waiting || s.Checked != "url" || s.LastError != nil {
		t.Errorf("with no app: %+v", s)
	}
	if _, err := get(c.url); err == nil {
		t.Error("with no app: an answer")
	}
	set := func(addr string) {
		t.Helper()
		if err := tun.SetTarget(addr); err != nil {
			t.Fatal(err)
		}
	}
	set(app(t, "first"))
	await(t, tun, "the first app", inState(tunnel.Up))
	wantBody(t, c.url, "first")
	second := app(t, "second")
	set(second)
	wantBody(t, c.url, "second")
	if s := tun.Status(); s.Target != second {
		t.Errorf("target %q, want %q", s.Target, second)
	}
	if err := tun.SetTarget("nonsense"); !errors.Is(err, tunnel.ErrConfig) {
		t.Errorf("SetTarget of nonsense: %v", err)
	}
	set("")
	await(t, tun, "no app", inState(tunnel.Waiting))
	set(second)
	await(t, tun, "the app again", inState(tunnel.Up))
}

// A visitor who comes while the app's cell is run again waits for the new one, instead of seeing
// an error.
func TestVisitorWaitsForTheNewApp(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	old := fmt.Sprintf("127.0.0.1:%d", c.FreePort())
	tun := c.expose(t, old)
	s := await(t, tun, "that nobody answers", inState(tunnel.Waiting))
	if !errors.Is(s.LastError, tunnel.ErrApp) || !strings.Contains(s.LastError.Error(), old) {
		t.Errorf("last error %v", s.LastError)
	}
	visitor := c.visitor(t)
	_, _ = io.WriteString(visitor, "GET / HTTP/1.0\r\n\r\n")
	await(t, tun, "the visitor", func(tunnel.Status) bool { return tun.Status().Visitors > 0 })
	if err := tun.SetTarget(app(t, "new")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(visitor); err != nil || !strings.HasSuffix(string(got), "new") {
		t.Errorf("the visitor read %q, %v", got, err)
	}
	await(t, tun, "the new app", inState(tunnel.Up))
}

// Calls from everywhere, at once: the race detector looks, and nothing is left.
func TestCallsFromEverywhere(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	target := app(t, "hello")
	tun := c.expose(t, target)
	end := time.Now().Add(2 * time.Second)
	var tasks sync.WaitGroup
	repeat := func(f func()) {
		tasks.Go(func() {
			for time.Now().Before(end) {
				f()
			}
		})
	}
	for range 2 {
		repeat(func() { _ = tun.Reconnect(); _ = tun.Status() })
		repeat(func() { _ = tun.SetTarget(target); _ = tun.SetTarget("") })
		repeat(func() { _, _ = get(c.url) })
		repeat(func() {
			for range tun.Watch(within(t, 10*time.Millisecond)) {
			}
		})
	}
	repeat(func() { c.KillLinks(); time.Sleep(20 * time.Millisecond) })
	tasks.Wait()

	if err := tun.SetTarget(target); err != nil {
		t.Fatal(err)
	}
	_ = tun.Reconnect()
	await(t, tun, "peace", inState(tunnel.Up))
	wantBody(t, c.url, "hello")
	for range 4 {
		tasks.Go(func() { _ = tun.Reconnect() })
		tasks.Go(func() { _ = tun.SetTarget(target) })
		tasks.Go(func() { _ = tun.Close() })
	}
	tasks.Wait()
	if s := tun.Status(); s.State != tunnel.StateClosed || s.Links != 0 || s.Slots != 0 {
		t.Errorf("status %+v", s)
	}
	if strings.Contains(c.log.String(), "internal error") {
		t.Errorf("log: %s", c.log.String())
	}
}
