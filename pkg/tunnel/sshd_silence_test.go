// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// faults has tests take the time that faults take (./build.sh test long).
var faults = os.Getenv("TAIPY_TUNNEL_LONG") != ""

// newPlain is a plain proxy as docs/proxy.md has it, but for pairs of words in place of others there.
func newPlain(t testing.TB, changes ...string) *chain {
	t.Helper()
	leak.Check(t)
	c := &chain{Server: sshdtest.Start(t, sshdtest.Options{})}
	c.port = c.FreePort()
	page, err := os.ReadFile("../../docs/proxy.md")
	must(t, err)
	c.serveSite(t, strings.NewReplacer(changes...).Replace(string(page)), c.FreePort())
	return c
}

// serveSite starts nginx with the site of docs/proxy.md.
func (c *chain) serveSite(t testing.TB, page string, port int) {
	t.Helper()
	c.url = fmt.Sprintf("http://127.0.0.1:%d/", port)
	_, site, _ := strings.Cut(page, "```nginx\n")
	site, _, _ = strings.Cut(site, "```")
	site = strings.NewReplacer("listen 80;", fmt.Sprintf("listen 127.0.0.1:%d;", port), "127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", c.port)).Replace(site)
	c.nginx = nginxtest.Start(t, site, port)
}

// machine is a proxy of either kind, and what has visitors who have the link reach an app through it.
func machine(t testing.TB, kind string, app http.HandlerFunc) (*chain, tunnel.Config) {
	t.Helper()
	if kind == "prepared" {
		r := newRendered(t)
		return &r.chain, r.described("sales", serve(t, app))
	}
	c := newPlain(t)
	cfg := c.config(serve(t, app))
	cfg.Raw, cfg.Access = false, tunnel.Access{}
	return c, cfg
}

// counting is an app that counts how often it ran what each address asks for. What is slow it answers a while after
// the links have gone silent.
type counting struct {
	mu    sync.Mutex
	ran   map[string]int
	begun sync.WaitGroup
	muted chan struct{}
}

// fresh has it count anew, and its slow answers wait for the next silence.
func (c *counting) fresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran, c.muted = map[string]int{}, make(chan struct{})
}

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wait, slow := map[string]time.Duration{"/second": time.Second, "/ten": 10 * time.Second}[r.URL.Path]
	if r.URL.RawQuery == "" {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	c.mu.Lock()
	c.ran[r.URL.RawQuery]++
	first := c.ran[r.URL.RawQuery] == 1
	c.mu.Unlock()
	if r.URL.Path == "/later" {
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
		}
	}
	if !slow {
		return
	}
	if first {
		c.begun.Done()
	}
	<-c.muted
	select {
	case <-time.After(wait):
	case <-r.Context().Done(): // which may be on a plain proxy: nobody asks again
		return
	}
	_, _ = io.WriteString(w, "done "+r.URL.RawQuery)
}

// Links that go silent under requests, as those of which a NAT or a firewall has lost the state: each request runs
// once. On a prepared proxy each is answered, too, when sshd has ended the stale links, after the time in which
// nginx asks the next socket by itself. Sshd takes a minute for that where nothing else ends them; here they are ended as soon as nginx's time is over.
func TestSilentLinksRunNothingTwice(t *testing.T) {
	rounds := 1
	if faults {
		rounds = 5
	}
	for _, kind := range []string{"prepared", "plain"} {
		t.Run(kind, func(t *testing.T) {
			app := &counting{}
			c, cfg := machine(t, kind, app.ServeHTTP)
			want, ready := http.StatusOK, whole
			if kind == "plain" {
				want, ready = http.StatusBadGateway, func(s tunnel.Status) bool { return s.State == tunnel.Up }
			}
			way := relay.Start(t, c.Addr())
			cfg.Server = tunnel.Servers{c.User + "@" + way.Addr()}
			tun := open(t, cfg)
			for round := range rounds {
				await(t, tun, "its links", ready)
				app.silence(t, c, way, tokenOf(tun), want, fmt.Sprintf("%s.%d", kind, round))
			}
		})
	}
}

// silence is one round.
func (a *counting) silence(t *testing.T, c *chain, way *relay.Relay, token string, want int, round string) {
	a.fresh()
	var visitors sync.WaitGroup
	var longest time.Duration
	var mu sync.Mutex
	start := time.Now()
	visit := func(method, path string, n int) {
		a.begun.Add(1)
		id := fmt.Sprintf("%s.%s%s.%d", round, method, path, n)
		visitors.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 150 * time.Second}
			defer client.CloseIdleConnections()
			for _, path := range []string{"", path[1:] + "?" + id} { // the second over connections that were kept
				status, said, err := askAs(client, method, c.url+path, token, map[string]int{"POST": 10}[method])
				if path != "" && (err != nil || status != want || status == http.StatusOK && said != "done "+id) {
					t.Errorf("%s: %d %.200q, %v", id, status, said, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, time.Since(start))
		})
	}
	for n := range 20 {
		visit("GET", "/second", n)
		visit("POST", "/second", n)
	}
	visit("GET", "/ten", 0)
	visit("POST", "/ten", 0)
	a.begun.Wait()
	stale, began := c.Links(), time.Now()
	way.Mute()
	close(a.muted)
	if want == http.StatusOK && !faults {
		time.Sleep(11*time.Second - time.Since(began)) // proxy_next_upstream_timeout, which is nginx's alone to keep
		c.EndLinks(stale)
	}
	visitors.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ran) != 42 {
		t.Errorf("%d ran", len(a.ran))
	}
	for id, n := range a.ran {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	t.Logf("%s: %d requests, the longest took %.1f s", round, len(a.ran), longest.Seconds())
}

// askAs asks as a visitor who has the token, with a body of that size.
func askAs(client *http.Client, method, url, token string, size int, header ...string) (status int, said string, err error) {
	var body io.Reader
	if size > 0 {
		body = strings.NewReader(strings.Repeat("x", size))
	}
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
