// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"runtime"
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
