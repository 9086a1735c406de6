// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Links that were lost without a word keep the port of a plain proxy at their sshd: the tunnel that is opened in the place of theirs ends them.
func TestReopenAfterASilentLoss(t *testing.T) {
	c, cfg := machine(t, "plain", nothing)
	way := relay.Start(t, c.Addr())
	cfg = c.by(way, public(cfg))
	tun := open(t, cfg)
	await(t, tun, "its links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
	way.Mute()
	cfg.Agent = "none" // differs, and means the same
	next, err := tun.Reopen(within(t, 20*time.Second), cfg)
	must(t, err)
	t.Cleanup(func() { _ = next.Close() })
	wantBody(t, c.url, "")
}

// A tunnel in whose place another was opened is gone from memory, however often that is done.
func TestReopenKeepsNothingOfTheTunnelBefore(t *testing.T) {
	const times = 3
	_, cfg := machine(t, "plain", nothing)
	tun, err := tunnel.Expose(within(t, 20*time.Second), public(cfg))
	must(t, err)
	t.Cleanup(func() { _ = tun.Close() }) // the last
	var gone atomic.Int64
	for range times {
		runtime.AddCleanup(tun, func(int) { gone.Add(1) }, 0)
		next, err := tun.Reopen(within(t, 20*time.Second), public(cfg))
		must(t, err)
		await(t, tun, "closed", inState(tunnel.StateClosed))
		tun = next
	}
	for deadline := time.Now().Add(10 * time.Second); gone.Load() < times && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		runtime.GC()
	}
	if n := gone.Load(); n != times {
		t.Errorf("of %d tunnels %d are gone", times, n)
	}
}

// What is under way ends as it would have, also where the place of its tunnel has passed on twice.
func TestReopenTwiceCutsNothing(t *testing.T) {
	begun, finish, got := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	c, cfg := machine(t, "plain", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			close(begun)
			<-finish
		}
	})
	tun := open(t, public(cfg))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	go func() {
		status, _, err := askAs(client, http.MethodPost, c.url, "", 0)
		if status != http.StatusOK && err == nil {
			err = errors.New(http.StatusText(status))
		}
		got <- err
	}()
	<-begun
	for _, agent := range []string{"none", ""} { // differs, and means the same
		cfg.Agent = agent
		next, err := tun.Reopen(within(t, 20*time.Second), public(cfg))
		must(t, err)
		t.Cleanup(func() { _ = next.Close() })
		tun = next
	}
	select {
	case err := <-got:
		t.Errorf("the request ended early: %v", err)
		close(finish)
	case <-time.After(time.Second): // by then each of those before has left its slot
		close(finish)
		must(t, <-got)
	}
}

// An address that nobody can open does not replace one that visitors use, unless its owner says that nobody is to look.
func TestReopenAtAnAddressThatNobodyOpens(t *testing.T) {
	c, cfg := machine(t, "plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	tun := open(t, public(cfg))
	wrong := public(cfg)
	wrong.URL = fmt.Sprintf("http://127.0.0.1:%d/", c.FreePort())
	if _, err := tun.Reopen(within(t, 20*time.Second), wrong); !errors.Is(err, tunnel.ErrForward) || !strings.Contains(err.Error(), wrong.URL+" cannot be opened") {
		t.Errorf("%v", err)
	}
	await(t, tun, "what was before", inState(tunnel.Up))
	wantBody(t, c.url, "hello")
	wrong.Check = tunnel.CheckOff
	next, err := tun.Reopen(within(t, 20*time.Second), wrong)
	must(t, err)
	t.Cleanup(func() { _ = next.Close() })
	if s := next.Status(); s.URL != wrong.URL {
		t.Errorf("%s", s.URL)
	}
}
