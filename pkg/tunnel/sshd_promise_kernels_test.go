// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// marks counts the links that show, on the proxy, that they may take its port.
func (c *chain) marks(t testing.TB) (n int) {
	t.Helper()
	said, err := exec.Command("ps", "-eo", "args=").Output()
	must(t, err)
	for line := range strings.Lines(string(said)) {
		if strings.HasPrefix(line, "sh -c ") && strings.Contains(line, fmt.Sprintf(" taipy-tunnel %d ", c.port)) {
			n++
		}
	}
	return n
}

// showing waits until so many links show it.
func (c *chain) showing(t testing.TB, want int) {
	t.Helper()
	for deadline := time.Now().Add(2 * settleFor); c.marks(t) != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d links show a mark, want %d", c.marks(t), want)
			return
		}
	}
}

// Two kernels take the port of a third one at the same moment. One of them has it, both of the others say that they were
// replaced and stay away, and what was under way in the third goes on, in a link that nobody would end any more.
func TestPromiseTwoNewKernels(t *testing.T) {
	for n := range rounds(1, 10) {
		t.Run(fmt.Sprint("round ", n+1), twoNewKernels) // each leaves nothing behind
	}
}

func twoNewKernels(t *testing.T) {
	l := &load{slow: 2}
	c, cfg := machine(t, "plain", l.ServeHTTP)
	l.url, cfg = c.url, public(cfg)
	first := open(t, cfg)
	await(t, first, "its links", inState(tunnel.Up))
	l.during(t, 150, func() { // 1 to 43 were seen; one that waits until the other is ended, 2.5 s, has 250
		var mu sync.Mutex
		var up []*tunnel.Tunnel
		together([]int{1, 2}, func(int) {
			tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				t.Cleanup(func() { _ = tun.Close() })
				up = append(up, tun)
			} else if !tunnel.AsError(err).Permanent || !errors.Is(err, tunnel.ErrForward) {
				t.Errorf("expose: %v", err)
			}
		})
		await(t, first, "replaced", inState(tunnel.Replaced))
		for len(up) > 1 { // the earlier one learns it when it has the port
			settled(t, up)
			last := len(up) - 1
			if up[last].Status().State == tunnel.Replaced {
				up = up[:last]
			} else {
				up = up[1:]
			}
		}
		if len(up) == 0 {
			t.Fatal("neither has the port")
		}
		await(t, up[0], "both links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
		c.showing(t, 2)
	})
}

// settled waits until one of two tunnels was replaced.
func settled(t testing.TB, two []*tunnel.Tunnel) {
	t.Helper()
	for deadline := time.Now().Add(settleFor); ; time.Sleep(10 * time.Millisecond) {
		n := 0
		for _, tun := range two {
			if tun.Status().State == tunnel.Replaced {
				n++
			}
		}
		if n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s; %s", settleFor, brief(two[0]), brief(two[1]))
		}
	}
}

// A kernel that says nothing, because its machine sleeps, loses the port to the next one all the same, and stays away when
// it is back.
func TestPromiseASilentKernel(t *testing.T) {
	c, cfg := machine(t, "plain", nothing)
	way := relay.Start(t, c.Addr())
	cfg = public(cfg)
	first := open(t, c.by(way, cfg))
	await(t, first, "both links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
	c.showing(t, 2)
	stale := c.Links()
	way.Drop()
	way.Mute()
	begin := time.Now()
	next := open(t, cfg)
	t.Logf("after %v", time.Since(begin).Round(10*time.Millisecond))
	for _, pid := range c.Links() {
		for _, before := range stale {
			if pid == before {
				t.Errorf("a link of the silent one is still there")
			}
		}
	}
	way.Pass()
	await(t, first, "replaced", inState(tunnel.Replaced))
	if s := next.Status(); s.State != tunnel.Up || s.Reconnects > 0 {
		t.Errorf("the newer one: %s", brief(next))
	}
}

// An account that may forward its port and no other is told the same for a port in use as for one that is forbidden.
func TestPromiseAnAccountWithOnePort(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	must(t, free.Close())
	c := newChain(t, sshdtest.Options{Config: []string{fmt.Sprintf("PermitListen 127.0.0.1:%d", port)}})
	c.port, c.url = port, front(t, port)
	first := c.expose(t, app(t, "first"))
	c.expose(t, app(t, "next"))
	await(t, first, "replaced", inState(tunnel.Replaced))
	wantBody(t, c.url, "next")
}

// A tunnel that takes no visitors any more, and waits for what is under way, does not show that it may take the port.
func TestPromiseNoMarkWhileDraining(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	c := newChain(t, sshdtest.Options{})
	tun := c.expose(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
	}))
	await(t, tun, "both links", func(s tunnel.Status) bool { return s.Links == 2 })
	c.showing(t, 2)
	var visitor sync.WaitGroup
	visitor.Go(func() {
		if _, err := get(c.url + "slow"); err != nil {
			t.Errorf("the request under way: %v", err)
		}
	})
	<-begun
	closed := make(chan error)
	go func() { closed <- tun.Shutdown(context.Background()) }()
	c.showing(t, 0)
	close(finish)
	visitor.Wait()
	if err := <-closed; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}
