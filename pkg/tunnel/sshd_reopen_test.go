// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
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
