// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// far is a prepared proxy to which a round trip takes rtt, by SSH and by HTTP.
func far(t testing.TB, rtt time.Duration) (*prepared, tunnel.Config) {
	t.Helper()
	p := newPrepared(t)
	ssh, web := relay.Start(t, p.Addr()), relay.Start(t, at(p.port))
	ssh.Delay(rtt / 2)
	web.Delay(rtt / 2)
	p.desc.Apps[0].URL = "http://" + web.Addr() + "/"
	p.describe(t)
	return p, p.by(ssh, public(p.described("", app(t, "hello"))))
}

// A link that has just been made is not given up because its proxy is on another continent.
func TestPromiseFarAway(t *testing.T) {
	trips := []time.Duration{260 * time.Millisecond, 300 * time.Millisecond}
	if faults {
		trips = append(trips, 100*time.Millisecond, 200*time.Millisecond, 330*time.Millisecond, 400*time.Millisecond)
	}
	cfgs := map[time.Duration]tunnel.Config{}
	for _, rtt := range trips {
		_, cfgs[rtt] = far(t, rtt)
	}
	together(trips, func(rtt time.Duration) {
		begin := time.Now()
		tun := open(t, cfgs[rtt])
		t.Logf("round trip %v: expose() took %v, checked by %q", rtt, time.Since(begin).Round(10*time.Millisecond), tun.Status().Checked)
		time.Sleep(4 * rtt) // a loss is known within one
		if s := tun.Status(); s.Reconnects > 0 || s.Links == 0 {
			t.Errorf("round trip %v: %s", rtt, brief(tun))
		}
	})
}

// expose() on a prepared proxy takes 14 round trips, 23 if nothing goes back to back; what is between is for a busy machine: on one
// with a load of 20 it took a second longer.
func TestPromiseRoundTrips(t *testing.T) {
	const rtt, most = 500 * time.Millisecond, 19
	_, cfg := far(t, rtt)
	begin := time.Now()
	open(t, cfg)
	trips := float64(time.Since(begin)) / float64(rtt)
	t.Logf("%.1f round trips", trips)
	if trips > most {
		t.Errorf("at most %d are wanted", most)
	}
}

// expose() connects to the public URL while it asks for the slots, which are not to be had before here; the first question
// comes over that connection.
func TestURLIsConnectedToAhead(t *testing.T) {
	p := newPrepared(t)
	slots := filepath.Join(p.root, "slots")
	must(t, os.Chown(slots, 0, 0))
	came, asked := make(chan string, 1), make(chan string, 1)
	first := func(c chan string, from string) {
		select {
		case c <- from:
		default:
		}
	}
	nginx := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: at(p.port)})
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first(asked, r.RemoteAddr)
		nginx.ServeHTTP(w, r)
	}))
	front.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			first(came, c.RemoteAddr().String())
			if err := os.Chown(slots, p.TenantID(), 0); err != nil {
				t.Error(err)
			}
		}
	}
	front.Start()
	t.Cleanup(front.Close)
	p.desc.Apps[0].URL = front.URL + "/"
	p.describe(t)
	cfg := p.described("", app(t, "hello"))
	_ = open(t, cfg).Close()
	_, _ = <-came, <-asked
	tun := open(t, cfg)
	if came, asked := <-came, <-asked; came != asked || tun.Status().Checked != "url" {
		t.Errorf("%s: connected from %s, asked from %s", brief(tun), came, asked)
	}
}

// Downloads that fill a narrow link are not cut by the questions that the tunnel asks over it, nor by what ends stale links. With deep
// buffers on a far way an answer takes seconds.
func TestPromiseASaturatedLink(t *testing.T) {
	p := newPrepared(t)
	p.desc.Apps[0].URL = "http://nosuchname.invalid/" // so it can be asked over the link alone
	p.describe(t)
	r, deep := newRendered(t), newRendered(t) // each slot is asked
	for name, m := range map[string]struct {
		*chain
		cfg   tunnel.Config
		delay time.Duration
		deep  bool
	}{
		"the URL":      {&p.chain, p.described("", endless(t)), 5 * time.Millisecond, false},
		"slots":        {&r.chain, r.described("sales", endless(t)), 5 * time.Millisecond, false},
		"deep buffers": {&deep.chain, deep.described("sales", endless(t)), 150 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			way := relay.Start(t, m.Addr())
			way.Delay(m.delay)
			if m.deep {
				deep.proxy.EndStale()
				site, err := os.ReadFile(deep.proxy.Layout.Site)
				must(t, err)
				site = bytes.ReplaceAll(site, []byte("proxy_read_timeout 10s"), []byte("proxy_read_timeout 2s")) // of those who ask a slot, in place of a minute of this
				must(t, os.WriteFile(deep.proxy.Layout.Site, site, 0o644))
				deep.proxy.Nginx.Reload()
			} else {
				way.Rate(1 << 20)
				m.cfg.Connections = 1
			}
			tun := open(t, m.by(way, public(m.cfg)))
			if m.deep {
				await(t, tun, "its links", whole)
				way.Rate(1 << 20) // these connections were made for a wide way: megabytes of them are held on it
			}
			saturate(t, tun, m.url)
		})
	}
}

// endless is an app of which each download is.
func endless(t *testing.T) string {
	return serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
}

func saturate(t *testing.T, tun *tunnel.Tunnel, url string) {
	if s := tun.Status(); s.Checked == "" {
		t.Fatalf("%+v", s)
	}
	ctx := within(t, time.Duration(rounds(13, 60))*time.Second)
	var tasks sync.WaitGroup
	var read, cut atomic.Int64
	for range 6 {
		tasks.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			resp, err := client.Do(req)
			if err == nil {
				var n int64
				n, err = io.Copy(io.Discard, resp.Body)
				read.Add(n)
				_ = resp.Body.Close()
			}
			if ctx.Err() == nil {
				cut.Add(1)
				t.Errorf("a download is over: %v", err)
			}
		})
	}
	begin := time.Now()
	for s := range tun.Watch(ctx) {
		if s.Reconnects > 0 || s.Links == 0 || s.State != tunnel.Up || cut.Load() > 0 { // visitors are led here, however late
			t.Errorf("after %v: %s", time.Since(begin).Round(time.Second), brief(tun))
			_ = tun.Close()
			break
		}
	}
	tasks.Wait()
	t.Logf("%d MiB were read in %v", read.Load()>>20, time.Since(begin).Round(time.Second))
}
