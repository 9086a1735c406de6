// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// A newer expose() of another kernel has to have a plain proxy's port to be checked. If it fails then, the tunnel before
// has the port back, and what was under way there has not noticed.
func TestANewerThatFails(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	_, cfg := machine(t, "plain", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
		_, _ = io.WriteString(w, "older")
	})
	older := open(t, public(cfg))
	end := sync.OnceFunc(func() { close(finish) })
	defer end()
	slow := make(chan error, 1)
	go func() {
		said, err := get(older.Status().URL + "slow")
		if err == nil && said != "older" {
			err = errors.New(said)
		}
		slow <- err
	}()
	<-begun
	bad := public(cfg)
	bad.URL = "http://" + who(t, "elsewhere") + "/"
	failed := make(chan error, 1)
	go func() {
		_, err := tunnel.Expose(within(t, 8*time.Second), bad)
		failed <- err
	}()
	s := await(t, older, "left", inState(tunnel.Reconnecting))
	if s.LastError == nil || s.LastError.Class != tunnel.ErrForward || s.LastError.Permanent {
		t.Errorf("while the newer one is checked: %+v", s)
	}
	if err := <-failed; !errors.Is(err, tunnel.ErrForward) {
		t.Fatalf("the newer one: %v", err)
	}
	begin := time.Now()
	await(t, older, "its return", inState(tunnel.Up))
	t.Logf("it is back %v after the newer one's end", time.Since(begin).Round(10*time.Millisecond))
	wantBody(t, older.Status().URL, "older")
	end()
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if s := older.Status(); s.Reconnects != 0 {
		t.Errorf("%d reconnects", s.Reconnects)
	}
}

// One that is cancelled in that time, too.
func TestANewerThatIsCancelled(t *testing.T) {
	_, cfg := machine(t, "plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "older") })
	older := open(t, public(cfg))
	ctx, cancel := context.WithCancel(t.Context())
	bad := public(cfg)
	bad.URL = "http://" + who(t, "elsewhere") + "/"
	failed := make(chan error, 1)
	go func() {
		_, err := tunnel.Expose(ctx, bad)
		failed <- err
	}()
	await(t, older, "left", inState(tunnel.Reconnecting))
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("the newer one: %v", err)
	}
	await(t, older, "its return", inState(tunnel.Up))
	wantBody(t, older.Status().URL, "older")
}

// Who has left the port can be called back before it is clear whether the newer one keeps it, and closed.
func TestCededIsCalledBackOrClosed(t *testing.T) {
	_, cfg := machine(t, "plain", nothing)
	older := open(t, public(cfg))
	newer := open(t, public(cfg))
	if err := older.Reconnect(); err != nil {
		t.Fatal(err)
	}
	await(t, older, "replaced", inState(tunnel.Replaced)) // the newest expose() wins
	await(t, newer, "up", inState(tunnel.Up))
	bad := public(cfg)
	bad.URL = "http://" + who(t, "elsewhere") + "/"
	go func() { _, _ = tunnel.Expose(within(t, 3*time.Second), bad) }()
	await(t, newer, "left", inState(tunnel.Reconnecting))
	if err := newer.Close(); err != nil {
		t.Error(err)
	}
}
