// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"net"
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

// Where nothing answers the look is over after a second, and nothing goes on after it.
func TestSilenceCostsASecond(t *testing.T) {
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
