// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"testing"

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
