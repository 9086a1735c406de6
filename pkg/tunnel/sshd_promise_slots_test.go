// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// A tunnel that is exposed while another has the name, and soon ends: the other one has the visitors back. Soon is before that
// one can have looked twice; on a busy machine it may take several tries.
func TestPromiseANewerThatEnds(t *testing.T) {
	const soon, tries = time.Second, 20 // pkg/slots, lookSoon
	r := newRendered(t)
	together(r.apps(), func(e exposure) {
		var older *tunnel.Tunnel
		for try := 1; ; try++ {
			older = e.expose(t, "old")
			begin := time.Now()
			newer := e.expose(t, "new")
			time.Sleep(soon*3/4 - time.Since(begin)) // it may have been seen
			_ = newer.Close()
			if took := time.Since(begin); took < soon {
				break
			} else if try == tries {
				t.Fatalf("%s: the newer one was there for %v, and never for less than %v", e.name, took, soon)
			}
			_ = older.Close()
		}
		e.settles(t, "old")
		await(t, older, "all its slots", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Slots == e.many })
	})
}

// A newer one whose expose() fails, here for its URL leads elsewhere, leaves the visitors with the older one.
func TestPromiseANewerThatFails(t *testing.T) {
	r := newRendered(t)
	together(r.apps(), func(e exposure) {
		older := e.expose(t, "old")
		bad := public(e.described(e.name, who(t, "new")))
		bad.URL = "http://" + who(t, "elsewhere") + "/"
		if _, err := tunnel.Expose(within(t, 5*time.Second), bad); !errors.Is(err, tunnel.ErrForward) { // the older one has looked several times
			t.Errorf("%v", err)
		}
		e.settles(t, "old")
		await(t, older, "all its slots", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Slots == e.many })
	})
}

// Sockets that an admin, or a clean-up, has removed are there again.
func TestPromiseSocketsThatVanish(t *testing.T) {
	r := newRendered(t)
	var tuns []*tunnel.Tunnel
	for _, e := range r.apps() {
		tuns = append(tuns, e.expose(t, "here"))
	}
	time.Sleep(time.Second) // no slot is about to change hands
	removed := 0
	must(t, filepath.Walk(r.proxy.Slots(), func(path string, info fs.FileInfo, err error) error {
		if err == nil && info.Mode()&fs.ModeSocket != 0 {
			removed++
			err = os.Remove(path)
		}
		return err
	}))
	if removed != 6 {
		t.Fatalf("%d sockets were there", removed)
	}
	together(r.apps(), func(e exposure) { e.settles(t, "here") })
	for _, tun := range tuns {
		await(t, tun, "up", inState(tunnel.Up))
	}
}

// A link of the older tunnel that is lost before it knows that it was replaced takes nobody from the newer one.
func TestPromiseALinkOfTheOlderOne(t *testing.T) {
	after := []time.Duration{500 * time.Millisecond}
	if faults {
		after = nil
		for d := range 10 {
			after = append(after, time.Duration(d)*time.Second)
		}
	}
	for _, after := range after {
		t.Run(after.String(), func(t *testing.T) {
			r := newRendered(t)
			apps := r.apps()
			older, newer, links := make([]*tunnel.Tunnel, 2), make([]*tunnel.Tunnel, 2), make([][]int, 2)
			for i, e := range apps {
				links[i] = r.made(func() { older[i] = e.expose(t, "old") })
			}
			for i, e := range apps {
				newer[i] = e.expose(t, "new")
			}
			time.Sleep(after)
			for i := range apps {
				r.EndLinks(links[i][:1])
			}
			together([]int{0, 1}, func(i int) { apps[i].passes(t, older[i], newer[i]) })
		})
	}
}

// made are the links that came while something was done.
func (c *chain) made(do func()) (links []int) {
	before := c.Links()
	do()
	for _, link := range c.Links() {
		if !slices.Contains(before, link) {
			links = append(links, link)
		}
	}
	slices.Sort(links)
	return links
}

// passes waits until the older one says that it was replaced. Then the newer one has all visitors, and both stay so.
func (e exposure) passes(t testing.TB, older, newer *tunnel.Tunnel) {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), settleFor)
	defer cancel()
	for s := range older.Watch(ctx) {
		if s.State == tunnel.Replaced {
			break
		}
	}
	took := time.Since(begin).Round(100 * time.Millisecond)
	for range rounds(5, 20) {
		if got := e.visitors(16); got["new"] != 16 {
			t.Errorf("%s: after %v visitors are at %s, not at \"new\"", e.name, took, counted(got))
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	say := t.Logf
	if o, n := older.Status(), newer.Status(); o.State != tunnel.Replaced || n.State != tunnel.Up || n.Slots != e.many {
		say = t.Errorf
	}
	say("%s: after %v the older one: %s; the newer one: %s", e.name, took, brief(older), brief(newer))
}

// Two people take the name by turns: the last of them has it, and the others are told.
func TestPromiseByTurns(t *testing.T) {
	for _, kind := range []string{"prepared", "plain"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "prepared" && !faults {
				t.Skip("./build.sh test long; TestPreparedProxyBelongsToTheNewest has two by turns")
			}
			c, cfg := machine(t, kind, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0") })
			var all []*tunnel.Tunnel
			for n := range rounds(3, 6) {
				cfg.Target = app(t, fmt.Sprint(n))
				all = append(all, open(t, public(cfg)))
				time.Sleep(time.Duration(rounds(1, 3)) * time.Second)
			}
			last := len(all) - 1
			for n, tun := range all[:last] {
				await(t, tun, fmt.Sprint(n, " replaced"), inState(tunnel.Replaced))
			}
			for range 20 {
				wantBody(t, c.url, fmt.Sprint(last))
			}
			if s := all[last].Status(); s.State != tunnel.Up {
				t.Error(brief(all[last]))
			}
		})
	}
}

// A program that listens by itself, and a tunnel without a gate, replace an older one as any other does.
func TestPromiseANewerWithoutAGate(t *testing.T) {
	r := newRendered(t)
	together([]string{"sales", "mine"}, func(name string) {
		e := r.apps()[slices.Index([]string{"sales", "mine"}, name)]
		older := e.expose(t, "old")
		cfg := public(e.described(name, who(t, "new")))
		if cfg.Raw = name == "mine"; cfg.Raw {
			e.passes(t, older, open(t, cfg))
			return
		}
		target := cfg.Target
		newer, err := tunnel.Listen(within(t, 20*time.Second), cfg)
		must(t, err)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			to := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: target}) }}
			_ = http.Serve(newer, to)
		}()
		e.passes(t, older, newer)
		_ = newer.Close()
		<-ended
	})
}
