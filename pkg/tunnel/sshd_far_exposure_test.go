// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// However far the proxy is: an app that is open to everybody is not opened where GatewayPorts yes has the network reach the
// slot, or it is said that it could not be told, and not that the account may open no connection.
func TestSlotThatTheNetworkReachesFarAway(t *testing.T) {
	for _, delay := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond} { // each way
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			c := newChain(t, sshdtest.Options{Config: []string{"GatewayPorts yes"}})
			way := relay.Start(t, c.Addr())
			way.Delay(delay)
			cfg := c.config(app(t, "company data"))
			cfg.Server = tunnel.Servers{c.User + "@" + way.Addr()}
			cfg.Raw, cfg.Access = false, tunnel.Access{Public: true}
			tun, err := tunnel.Expose(within(t, 30*time.Second), cfg)
			if err != nil {
				t.Log(err)
				return
			}
			defer func() { _ = tun.Close() }()
			time.Sleep(2 * time.Second)
			s := tun.Status()
			t.Errorf("round trip %v: %s, warning %v; past nginx a visitor gets %q", 2*delay, s.State, s.Warning, c.past(""))
			if row := rowOf(t, tun, "exposure"); strings.Contains(row.Seen, "may open no connection") {
				t.Errorf("%+v", row)
			}
		})
	}
}
