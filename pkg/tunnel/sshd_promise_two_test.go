// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Two people expose the same name at nearly the same moment: one of them has it, and the other is told. The newer one
// has it where the proxy has seen who that is.
func TestPromiseTwoAtOnce(t *testing.T) {
	for n := 0; n < rounds(1, 30) && !t.Failed(); n++ {
		t.Run(fmt.Sprint("round ", n+1), twoAtOnce) // each leaves nothing behind
	}
}

func twoAtOnce(t *testing.T) {
	r := newRendered(t)
	together([]int{0, 75, 150, 225, 300, -1, -2, -3}, func(gap int) {
		e := r.free(fmt.Sprint("gap", gap))
		older := e.exposing(t, "old")
		time.Sleep(time.Duration(gap) * time.Millisecond)
		for gap < 0 && !e.hasASlot() { // it is about to share out its slots among its links
			time.Sleep(time.Millisecond)
		}
		newer := e.exposing(t, "new", func(cfg *tunnel.Config) {
			if gap < 0 {
				cfg.Connections = 1 // a second one may mend what went wrong
			}
		})
		e.oneHasIt(t, older, newer, gap < 0)
	})
}

// oneHasIt waits until one of two has all visitors and the other one was replaced, and stays so: the newer one, if must says so.
func (e exposure) oneHasIt(t testing.TB, older, newer *exposing, must bool) {
	t.Helper()
	begin := time.Now()
	since := time.Time{}
	for time.Since(since) < time.Second || since.IsZero() {
		got := e.visitors(16)
		switch {
		case got["new"] == 16 && newer.up(e.many) && older.replaced(), !must && got["old"] == 16 && older.up(e.many) && newer.replaced():
			if since.IsZero() {
				since = time.Now()
			}
		case time.Since(begin) > settleFor+time.Second:
			t.Errorf("%s: visitors are at %s; the older one: %s; the newer one: %s", e.name, counted(got), older, newer)
			return
		default:
			since = time.Time{}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%s: settled after %v", e.name, since.Sub(begin).Round(100*time.Millisecond))
}

// exposing is a tunnel that is being exposed.
type exposing struct {
	tun atomic.Pointer[tunnel.Tunnel]
	err atomic.Pointer[tunnel.Error]
}

func (e exposure) exposing(t testing.TB, says string, change ...func(*tunnel.Config)) *exposing {
	cfg := public(e.described(e.name, who(t, says)))
	for _, c := range change {
		c(&cfg)
	}
	x, ctx := &exposing{}, within(t, 20*time.Second)
	var task sync.WaitGroup
	task.Go(func() {
		tun, err := tunnel.Expose(ctx, cfg)
		if err != nil {
			x.err.Store(tunnel.AsError(err))
			return
		}
		x.tun.Store(tun)
	})
	t.Cleanup(func() {
		if task.Wait(); x.tun.Load() != nil {
			_ = x.tun.Load().Close()
		}
	})
	return x
}

func (x *exposing) up(slots int) bool {
	tun := x.tun.Load()
	return tun != nil && tun.Status().State == tunnel.Up && tun.Status().Slots == slots
}

// replaced is whether it knows; expose() may say it at once.
func (x *exposing) replaced() bool {
	tun, err := x.tun.Load(), x.err.Load()
	return tun != nil && tun.Status().State == tunnel.Replaced || err != nil && err.Permanent && errors.Is(err, tunnel.ErrForward)
}

func (x *exposing) String() string {
	if tun := x.tun.Load(); tun != nil {
		return brief(tun)
	}
	return fmt.Sprintf("expose: %v", x.err.Load())
}

// hasASlot reports whether somebody listens on one.
func (e exposure) hasASlot() bool {
	_, err := os.Stat(filepath.Join(e.proxy.Slots(), e.name+".0.sock"))
	return err == nil
}
