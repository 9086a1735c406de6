// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// When nginx is away no visitor gets here, and the state says so.
func TestNginxAway(t *testing.T) {
	for _, kind := range []string{"prepared", "plain"} {
		t.Run(kind, func(t *testing.T) {
			c, cfg := machine(t, kind, nothing)
			tun := open(t, public(cfg))
			await(t, tun, "its links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
			c.nginx.Stop()
			s := await(t, tun, "that visitors are elsewhere", inState(tunnel.Reconnecting))
			if s.Links != 2 || s.LastError == nil {
				t.Errorf("%s", brief(tun))
			}
		})
	}
}

// So it does when nginx stands still: it does not answer although the link does.
func TestNginxStandsStill(t *testing.T) {
	for _, kind := range []string{"prepared", "plain", "plain, asked over the link"} {
		t.Run(kind, func(t *testing.T) {
			c, cfg := machine(t, strings.TrimSuffix(kind, ", asked over the link"), nothing)
			if strings.HasSuffix(kind, "link") {
				cfg.URL = strings.Replace(cfg.URL, "127.0.0.1", "nosuchname.invalid", 1)
			}
			tun := open(t, public(cfg))
			await(t, tun, "its links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
			c.nginx.Freeze()
			defer c.nginx.Thaw()
			begin := time.Now()
			await(t, tun, "that visitors wait", inState(tunnel.Reconnecting))
			t.Logf("after %v", time.Since(begin).Round(100*time.Millisecond))
			c.nginx.Thaw()
			await(t, tun, "up", inState(tunnel.Up))
			if s := tun.Status(); s.Reconnects > 0 {
				t.Errorf("%s", brief(tun))
			}
		})
	}
}
