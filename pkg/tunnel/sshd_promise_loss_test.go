// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// backWithin waits until a tunnel is up again by itself.
func backWithin(t testing.TB, tun *tunnel.Tunnel, d time.Duration) {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for s := range tun.Watch(ctx) {
		if s.State == tunnel.Up || s.State == tunnel.Degraded {
			t.Logf("back after %v", time.Since(begin).Round(10*time.Millisecond))
			return
		}
		if s.State == tunnel.Failed {
			break
		}
	}
	t.Errorf("not back after %v: %s", time.Since(begin).Round(10*time.Millisecond), brief(tun))
}

func nothing(http.ResponseWriter, *http.Request) {}

type machined struct {
	*chain
	cfg tunnel.Config
}

// both are a prepared and a plain proxy, started before anything else: each looks at its end whether something was left.
func both(t testing.TB) (all []machined) {
	for _, kind := range []string{"prepared", "plain"} {
		c, cfg := machine(t, kind, nothing)
		all = append(all, machined{c, cfg})
	}
	return all
}

// A key that has logged in before may be refused for a moment: its list is being written, or the home directory is away.
func TestPromiseAKeyThatIsAwayForAMoment(t *testing.T) {
	type away struct {
		for_ time.Duration
		do   func(file string) error
		c    *chain
		tun  *tunnel.Tunnel
		keys string
	}
	all := []*away{{for_: 1500 * time.Millisecond, do: func(file string) error { return os.WriteFile(file, nil, 0o644) }}, {for_: 5 * time.Second, do: os.Remove}}
	for i, m := range both(t) {
		all[i].c, all[i].tun = m.chain, open(t, m.cfg)
		all[i].keys = m.keysFile(t)
	}
	together(all, func(a *away) {
		text, err := os.ReadFile(a.keys)
		must(t, err)
		must(t, a.do(a.keys))
		a.c.KillLinks()
		time.Sleep(a.for_)
		must(t, os.WriteFile(a.keys, text, 0o644))
		backWithin(t, a.tun, promised(20*time.Second))
	})
}

// A plain proxy has a second link ready: when the first is lost, the port is away for a round trip or two.
func TestPromiseAStandby(t *testing.T) {
	const rtt = 300 * time.Millisecond // of 100 ms a busy machine loses seven
	l := &load{}
	c, cfg := machine(t, "plain", l.ServeHTTP)
	l.url = c.url
	way := relay.Start(t, c.Addr())
	tun := open(t, c.by(way, public(cfg)))
	await(t, tun, "the second one", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
	way.Delay(rtt / 2)
	l.during(t, 550, func() { // 55 were seen, and 338 at a load of 14
		before := tun.Status().Reconnects
		c.KillLink()
		await(t, tun, "the port at the second one, before a login", func(s tunnel.Status) bool { return s.Slots == 1 && s.Links == 1 && s.Reconnects == before })
		await(t, tun, "back", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Reconnects > before })
	})
}

// Many who lose their links at once are back soon, although sshd takes only some of them at a time.
func TestPromiseAStampede(t *testing.T) {
	many, at, bar := 15, "4", 12*time.Second
	if faults {
		many, at, bar = 40, "10", 6*time.Second
	}
	c := newChain(t, sshdtest.Options{Config: []string{"LogLevel ERROR", "MaxStartups " + at}})
	var all []*tunnel.Tunnel
	for range many {
		cfg := c.config(app(t, "x"))
		cfg.Remote, cfg.URL, cfg.Log = c.FreePort(), "http://127.0.0.2:1/", nil // of another machine: nobody knows
		all = append(all, open(t, cfg))
	}
	begin := time.Now()
	c.KillLinks()
	var mu sync.Mutex
	var took []time.Duration
	together(all, func(tun *tunnel.Tunnel) {
		ctx, cancel := context.WithTimeout(t.Context(), bar+time.Duration(rounds(1, 30))*time.Second)
		defer cancel()
		for s := range tun.Watch(ctx) {
			if s.State == tunnel.Up && s.Reconnects > 0 {
				break
			}
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(begin))
	})
	slices.Sort(took)
	t.Logf("of %d, half were back after %v, all after %v", many, took[many/2], took[many-1])
	if p95 := took[many*95/100-1]; p95 > bar {
		t.Errorf("95 %% of them after %v", p95)
	}
}

// A way that was blocked is tried again soon after it is open.
func TestPromiseABlockedWay(t *testing.T) {
	if !faults {
		t.Skip("./build.sh test long")
	}
	type one struct {
		way *relay.Relay
		tun *tunnel.Tunnel
	}
	var all []one
	for _, m := range both(t) {
		way := relay.Start(t, m.Addr())
		all = append(all, one{way, open(t, m.by(way, m.cfg))})
	}
	together(all, func(o one) {
		o.way.Mute()
		o.way.Drop()
		await(t, o.tun, "lost", inState(tunnel.Reconnecting))
		time.Sleep(43 * time.Second)
		o.way.Pass()
		backWithin(t, o.tun, promised(2500*time.Millisecond))
	})
}

// A tunnel whose links were lost without a word does not wait for its own sockets, which nobody answers.
func TestPromiseOurOwnSockets(t *testing.T) {
	c, cfg := machine(t, "prepared", nothing)
	way := relay.Start(t, c.Addr())
	tun := open(t, c.by(way, cfg))
	await(t, tun, "its links", whole)
	time.Sleep(500 * time.Millisecond)
	way.Mute()
	await(t, tun, "lost", inState(tunnel.Reconnecting))
	begin := time.Now()
	await(t, tun, "a link", func(s tunnel.Status) bool { return s.Links > 0 })
	if took := time.Since(begin); took > promised(2500*time.Millisecond) {
		t.Errorf("the first link came after %v", took.Round(10*time.Millisecond))
	}
}

// A proxy that is slow to say whether it is prepared is asked again; it is not a plain one.
func TestPromiseASlowProxy(t *testing.T) {
	c := newChain(t, sshdtest.Options{Config: []string{"Subsystem sftp sleep 60"}})
	tun, err := tunnel.Expose(within(t, 8*time.Second), c.described("sales", app(t, "hello")))
	if err == nil {
		_ = tun.Close()
	}
	if e := tunnel.AsError(err); err == nil || e.Permanent || errors.Is(err, tunnel.ErrConfig) {
		t.Errorf("permanent %v: %v", e.Permanent, err)
	}
}

// Notebooks that were stopped for a while do not take their names from those that were exposed in the meantime. Their links are lost by
// then: sshd ends those that say nothing.
func TestPromiseAStoppedNotebook(t *testing.T) {
	if !faults {
		t.Skip("./build.sh test long")
	}
	r := newRendered(t)
	all := append(r.apps(), r.free("his"), r.free("hers")) // it happens to three of four
	var older []*notebook
	var newer []*tunnel.Tunnel
	for _, e := range all {
		n := newNotebook(t, public(e.described(e.name, who(t, "old"))))
		must(t, syscall.Kill(n.pid, syscall.SIGSTOP))
		older, newer = append(older, n), append(newer, e.expose(t, "new"))
	}
	time.Sleep(time.Minute)
	for _, n := range older {
		must(t, syscall.Kill(n.pid, syscall.SIGCONT))
	}
	together([]int{0, 1, 2, 3}, func(i int) {
		for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
			got, state := all[i].visitors(16), older[i].status().State
			if got["new"] == 16 && state == string(tunnel.Replaced) {
				return
			}
			if time.Since(begin) > settleFor {
				t.Errorf("%s: visitors are at %s; the older one says %q; the newer one: %s", all[i].name, counted(got), state, brief(newer[i]))
				return
			}
		}
	})
}
