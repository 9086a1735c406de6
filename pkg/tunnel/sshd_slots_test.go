// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Each slot of a tunnel can be asked by itself at the check port, and says who is newer, with the proxy's time.
func TestEachSlotSaysWhoIsThere(t *testing.T) {
	r := newRendered(t)
	target := app(t, "hello")
	for name, c := range map[string]struct {
		at    string
		slots int
	}{
		"sales": {"127.0.0.1/sales", 4},
		"board": {"board.invalid", 4},
		"mine":  {"mine--" + r.User + ".apps.invalid", 2},
	} {
		ask := func(n int, me probe.Exposed) probe.Finding {
			return probe.URL(t.Context(), probe.Question{URL: fmt.Sprintf("http://%s%s/slots/%d", c.at, gate.Path, n), Ask: "ask", Reply: "reply", Exposed: me, Once: true,
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", r.proxy.Check()))
				}})
		}
		tun := r.exposed(t, name, target)
		await(t, tun, "its slots", func(s tunnel.Status) bool { return s.Slots == c.slots })
		for n := range c.slots + 1 {
			want := map[bool][2]probe.Kind{true: {probe.Newer, probe.Older}, false: {probe.Elsewhere, probe.Elsewhere}}[n < c.slots]
			older, newer := ask(n, probe.Exposed{At: 1, ID: "A"}), ask(n, probe.Exposed{At: 1 << 60, ID: "A"})
			for older.Kind == probe.Another { // it is about to learn the time
				older, newer = ask(n, probe.Exposed{At: 1, ID: "A"}), ask(n, probe.Exposed{At: 1 << 60, ID: "A"})
			}
			if older.Kind != want[0] || newer.Kind != want[1] {
				t.Errorf("%s: slot %d: %+v, %+v", name, n, older, newer)
			}
			if off := time.Since(older.Time); off.Abs() > time.Minute {
				t.Errorf("%s: slot %d: it is %v", name, n, older.Time)
			}
		}
		must(t, tun.Close())
		if f := ask(0, probe.Exposed{}); f.Kind != probe.Nobody || f.Time.IsZero() {
			t.Errorf("%s: nobody is there: %+v", name, f)
		}
	}
}
