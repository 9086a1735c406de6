// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// rendered is a prepared proxy whose sshd and nginx read what proxyhost renders.
type rendered struct {
	chain
	proxy *proxytest.Proxy
	http  int
}

// newRendered has two declared apps, "sales" by path and "board" by host, and free names, unless change says otherwise.
func newRendered(t testing.TB, change ...func(*proxyhost.Host)) *rendered {
	t.Helper()
	p := proxytest.Start(t, proxytest.Options{Change: func(h *proxyhost.Host) {
		for _, c := range change {
			c(h)
		}
	}})
	return &rendered{chain: chain{Server: p.Server, port: p.HTTP, url: p.URL("sales"), nginx: p.Nginx}, proxy: p, http: p.HTTP}
}

func (r *rendered) exposed(t testing.TB, name, target string) *tunnel.Tunnel {
	t.Helper()
	return open(t, r.described(name, target))
}

// visit asks for a path of a host.
func (r *rendered) visit(t testing.TB, method, host, path, token string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", r.http, path), body)
	must(t, err)
	req.Host = host
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(text)
}

// mirror answers with what it was asked.
func mirror(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	_, _ = fmt.Fprintf(w, "%s %s %d prefix=%s for=%s user=%s host=%s", r.Method, r.RequestURI, n, r.Header.Get("X-Forwarded-Prefix"),
		r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-User"), r.Host)
}

// By path, by host and by a name of one's own, through the configuration that admins get.
func TestRenderedProxy(t *testing.T) {
	r := newRendered(t)
	target := serve(t, mirror)
	forged := []string{"X-Forwarded-For", "192.0.2.66", "X-Forwarded-User", "boss", "X-Forwarded-Prefix", "/x", "X-Forwarded-Email", "boss@example.com"}
	for _, c := range []struct{ name, host, prefix, checked string }{
		{"sales", fmt.Sprintf("127.0.0.1:%d", r.http), "/sales", "url"},
		{"board", "board.invalid", "", "link"},
		{"mine", "mine--" + r.User + ".apps.invalid", "", "link"},
	} {
		tun := r.exposed(t, c.name, target)
		s := await(t, tun, "two links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
		if s.Checked != c.checked || s.Warning != nil {
			t.Errorf("%s: checked by %q, %v", c.name, s.Checked, s.Warning)
		}
		token := tokenOf(tun)
		resp, got := r.visit(t, "GET", c.host, c.prefix+"/a%2Fb?c=d", token, nil, forged...)
		if want := fmt.Sprintf("GET /a%%2Fb?c=d 0 prefix=%s for=127.0.0.1 user= host=%s", c.prefix, c.host); got != want || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %s %q, want %q", c.name, resp.Status, got, want)
		}
		for _, size := range []int{5, 3 << 20} {
			resp, got = r.visit(t, "POST", c.host, c.prefix+"/up?q", token, bytes.NewReader(make([]byte, size)))
			if want := fmt.Sprintf("POST /up?q %d ", size); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s %q, want %q", c.name, resp.Status, got, want)
			}
		}
		if resp, _ = r.visit(t, "GET", c.host, c.prefix+"/", "", nil); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: without the token %s", c.name, resp.Status)
		}
		if resp, _ = r.visit(t, "HEAD", c.host, c.prefix+"/.well-known/taipy-tunnel", "", nil); resp.StatusCode != http.StatusNotFound || resp.Header.Get("X-Taipy-Tunnel-Since") != "" {
			t.Errorf("%s: a visitor is told since when: %s %v", c.name, resp.Status, resp.Header)
		}
		_ = tun.Close()
		for _, method := range []string{"GET", "POST"} {
			resp, got = r.visit(t, method, c.host, c.prefix+"/", token, nil)
			if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got, "The app is away") || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: when closed, %s: %s %q", c.name, method, resp.Status, got)
			}
		}
	}
	if resp, _ := r.visit(t, "GET", "127.0.0.1", "/sales?x", "", nil); resp.StatusCode != http.StatusMovedPermanently || resp.Header.Get("Location") != "/sales/?x" {
		t.Errorf("without the slash: %s %s", resp.Status, resp.Header.Get("Location"))
	}
	log, err := os.ReadFile(r.proxy.Layout.Log + "/taipy-tunnel.access.log")
	must(t, err)
	if bytes.Contains(log, []byte("c=d")) || bytes.Contains(log, []byte("?")) || !bytes.Contains(log, []byte("/sales/a%2Fb")) {
		t.Errorf("the log has queries, or no paths:\n%s", log)
	}
}

// Taipy's pages speak by websockets.
func TestRenderedProxyUpgrades(t *testing.T) {
	r := newRendered(t)
	target := serve(t, echo(t))
	for _, c := range []struct{ name, host, path string }{{"sales", "127.0.0.1", "/sales/"}, {"mine", "mine--" + r.User + ".apps.invalid", "/"}} {
		tun := r.exposed(t, c.name, target)
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.http))
		must(t, err)
		must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", c.path, c.host, tokenOf(tun))
		must(t, err)
		reader := bufio.NewReader(conn)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %v, %v", c.name, resp, err)
		}
		converse(t, conn, reader)
		_ = conn.Close()
	}
}

// A link that dies takes no request with it, and none runs twice: by a declared name and by a free one. The next link dies
// when the one in its place has slots, and nothing is under way any more that was when this one did: no request meets two deaths.
func TestRenderedProxyLosesNoRequest(t *testing.T) {
	r := newRendered(t)
	for _, c := range []struct {
		name, url string
		slots     int
	}{{"sales", r.url, 4}, {"mine", fmt.Sprintf("http://mine--%s.apps.invalid:%d/", r.User, r.http), 2}} {
		t.Run(c.name, func(t *testing.T) { r.killUnderLoad(t, c.name, c.url, c.slots) })
	}
}

func (r *rendered) killUnderLoad(t *testing.T, name, url string, slots int) {
	var runs sync.Map
	var twice, asked atomic.Int64
	tun := r.exposed(t, name, serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, again := runs.LoadOrStore(string(body), true); again && r.Method == http.MethodPost {
			twice.Add(1)
		}
		time.Sleep(5 * time.Millisecond) // some are under way at any time
		_, _ = w.Write(body)
	}))
	both := func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 && s.Slots == slots }
	await(t, tun, "two links", both)
	time.Sleep(begun.Alone + 3*time.Second) // until it knows that no other tunnel begins what nginx sends again
	p := &prepared{chain: chain{url: url}}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { // whatever the name
		return (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", r.http))
	}
	token, ended := tokenOf(tun), make(chan struct{})
	var tasks sync.WaitGroup
	var underWay sync.RWMutex
	for v := range 4 {
		tasks.Go(func() {
			client := &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				default:
				}
				asked.Add(1)
				underWay.RLock()
				if err := p.ask(client, token, n%2 == 0, fmt.Sprintf("%d.%d", v, n)); err != nil {
					t.Errorf("request %d of visitor %d: %v", n, v, err)
				}
				underWay.RUnlock()
			}
		})
	}
	for range 6 {
		before := tun.Status().Reconnects
		if !r.KillLink() {
			t.Fatal("no link to kill")
		}
		await(t, tun, "its return", func(s tunnel.Status) bool { return both(s) && s.Reconnects > before })
		for limit := within(t, 20*time.Second); !r.AllListen(); time.Sleep(10 * time.Millisecond) {
			must(t, limit.Err())
		}
		underWay.Lock()
		//lint:ignore SA2001 all are answered
		underWay.Unlock()
	}
	close(ended)
	tasks.Wait()
	if twice.Load() > 0 || asked.Load() < 100 {
		t.Errorf("of %d requests %d ran twice", asked.Load(), twice.Load())
	}
	t.Logf("%d requests", asked.Load())
}

// sshd queues 128 connections for each socket (its listen(2)): four of them, and nginx tries the next.
func TestRenderedProxyTakesACrowd(t *testing.T) {
	const crowd = 1000
	r := newRendered(t)
	tun := r.exposed(t, "sales", serve(t, echo(t)))
	await(t, tun, "two links", whole)
	token := tokenOf(tun)
	var tasks sync.WaitGroup
	var refused atomic.Int64
	conns := make([]net.Conn, crowd)
	for i := range crowd {
		tasks.Go(func() {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.http))
			if err != nil {
				refused.Add(1)
				return
			}
			conns[i] = conn
			_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
			_, _ = fmt.Fprintf(conn, "GET /sales/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", token)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				refused.Add(1)
			}
		})
	}
	tasks.Wait()
	for _, conn := range conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
	if refused.Load() != 0 {
		t.Errorf("%d of %d were refused", refused.Load(), crowd)
	}
}
