// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
)

// plainAt is a tunnel to a plain proxy, that nothing serves.
func plainAt(host string, port int) *Tunnel {
	cfg := Config{Server: Servers{"me@" + host}, Remote: port}
	return newTunnel(resolved{Config: cfg, server: &destination.Destination{Host: host}, plainGiven: true}, nil)
}

// Where nothing answers the look is over after its time, and nothing goes on after it.
func TestSilenceEndsTheLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := plainAt("127.0.0.1", 8080)
		defer tun.end()
		began := time.Now()
		silent := func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if found := tun.lookPast(t.Context(), silent); found != untold {
			t.Errorf("%v", found)
		}
		tun.tasks.Wait()
		if took := time.Since(began); took != exposureWait {
			t.Errorf("it took %v", took)
		}
	})
}

// A warning stands until what it tells of is over. One of another kind takes none away, and where nothing could be told of
// the port, what was seen before stands.
func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := plainAt("127.0.0.1", 8080)
		defer tun.end()
		d := newVisitorGate(tun)
		tun.useGate(d)
		for i, step := range []struct {
			do   func()
			says string
		}{
			{func() { d.websocket(false) }, "websockets"},
			{func() { tun.sup.exposure(exposed) }, "port 8080"},
			{func() { tun.sup.exposure(untold) }, "port 8080"},
			{func() { tun.sup.exposure(enclosed) }, "websockets"},
			{d.anotherApp, ""},
			{func() { d.websocket(true) }, ""},
			{func() { d.websocket(false) }, ""}, // for reasons of its own
			{d.anotherApp, ""},
			{func() { d.websocket(false) }, "websockets"},
			{func() { d.websocket(true) }, ""},
		} {
			step.do()
			switch w := tun.Status().Warning; {
			case w == nil && step.says != "", w != nil && (step.says == "" || !strings.Contains(w.Error(), step.says)):
				t.Errorf("step %d: %v, want %q", i, w, step.says)
			}
		}
		if tun.sup.exposed.Load() {
			t.Error("it is exposed")
		}
		other := plainAt("127.0.0.1", 8080)
		defer other.end()
		other.sup.exposure(untold)
		<-other.sup.lookedPast // who waits for the first look does not wait for ever
	})
}
