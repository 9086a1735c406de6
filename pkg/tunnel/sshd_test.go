// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// chain is a proxy machine: a real sshd, and a reverse proxy in the place of nginx.
type chain struct {
	*sshdtest.Server
	port  int    // the slot's
	url   string // of the reverse proxy
	log   proxytest.Log
	nginx *nginxtest.Server // nil: another reverse proxy
}

// newChain starts one; what is left of it or of its tunnels when the test ends is an error.
func newChain(t testing.TB, o sshdtest.Options) *chain {
	t.Helper()
	leak.Check(t)
	c := &chain{Server: sshdtest.Start(t, o)}
	c.port = c.FreePort()
	c.url = front(t, c.port)
	return c
}

// config is of a tunnel that carries bytes for everybody: what these tests are about is the way.
func (c *chain) config(target string) tunnel.Config {
	return tunnel.Config{Raw: true, Access: tunnel.Access{Public: true},
		Server: tunnel.Servers{fmt.Sprintf("%s@%s", c.User, c.Addr())}, Key: c.KeyFile,
		HostKey: c.Fingerprint(), Remote: c.port, URL: c.url, Target: target, Log: slog.New(slog.NewJSONHandler(&c.log,
			&slog.HandlerOptions{Level: slog.LevelDebug}))}
}

// answersAtItsPort waits until a tunnel has asked at its port, past nginx, and answered. from is how long the log was before that tunnel.
func (c *chain) answersAtItsPort(t testing.TB, from int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(c.log.String()[from:], "it answers at the port"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it was not seen to answer")
		}
	}
}

// expose opens a tunnel that is closed with the test.
func (c *chain) expose(t testing.TB, target string) *tunnel.Tunnel {
	t.Helper()
	return open(t, c.config(target))
}

// open opens a tunnel that is closed with the test.
func open(t testing.TB, cfg tunnel.Config) *tunnel.Tunnel {
	t.Helper()
	tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatalf("Expose: %v", err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	return tun
}

// front is a reverse proxy to a port of 127.0.0.1, as nginx is on a proxy machine.
func front(t testing.TB, port int) string {
	t.Helper()
	to := &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL + "/"
}

// app starts a web application that answers its name, and returns its "host:port".
func app(t testing.TB, name string) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
}

func serve(t testing.TB, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// get returns the body that a visitor is shown.
func get(url string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

func wantBody(t testing.TB, url, want string) {
	t.Helper()
	if got, err := get(url); err != nil || got != want {
		t.Fatalf("GET %s: %q, %v; want %q", url, got, err, want)
	}
}

// eventually is wantBody for an answer that takes up to 10 s to come.
func eventually(t testing.TB, url, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if got, err := get(url); err == nil && got == want {
			return
		}
	}
	wantBody(t, url, want)
}

// await returns the first status that pleases, within 20 s.
func await(t testing.TB, tun *tunnel.Tunnel, what string, pleases func(tunnel.Status) bool) tunnel.Status {
	t.Helper()
	return awaitFor(t, 20*time.Second, tun, what, pleases)
}

// awaitFor is await for what may take longer.
func awaitFor(t testing.TB, limit time.Duration, tun *tunnel.Tunnel, what string, pleases func(tunnel.Status) bool) tunnel.Status {
	t.Helper()
	for s := range tun.Watch(within(t, limit)) {
		if pleases(s) {
			return s
		}
	}
	t.Fatalf("not seen within %v: %s; status %+v", limit, what, tun.Status())
	return tunnel.Status{}
}

func inState(want tunnel.State) func(tunnel.Status) bool {
	return func(s tunnel.Status) bool { return s.State == want }
}

func TestExpose(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.expose(t, app(t, "hello"))
	s := tun.Status()
	if s.State != tunnel.Up || s.Checked != "url" || s.Links < 1 || s.Slots != 1 || s.LastError != nil {
		t.Errorf("status %+v", s)
	}
	wantBody(t, c.url, "hello")
	if !c.HoldsPort(c.port) {
		t.Error("sshd does not hold the slot")
	}
	if s := tun.Status(); s.Bytes == 0 {
		t.Error("no bytes were counted")
	}
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	if _, err := get(c.url); err == nil {
		t.Error("the URL leads to the app after Close")
	}
}

// A visitor who is there in the instant in which the port is bound is served: connections may
// come before the answer to the request for the port. x/crypto's own Listen loses 4 of 200.
func TestVisitorsInTheInstantOfBindingAreServed(t *testing.T) {
	const abreast = 4
	starts := rounds(100, 200)
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"LogLevel ERROR"}})
	target := app(t, "hello")
	var tasks sync.WaitGroup
	jobs := make(chan int)
	for range abreast {
		tasks.Go(func() {
			for n := range jobs {
				if err := oneStart(t, s, target); err != nil {
					t.Errorf("start %d: %v", n, err)
				}
			}
		})
	}
	begin := time.Now()
	for n := range starts {
		jobs <- n
	}
	close(jobs)
	tasks.Wait()
	t.Logf("%d starts in %v", starts, time.Since(begin).Round(time.Millisecond))
}

func oneStart(t *testing.T, s *sshdtest.Server, target string) error {
	c := &chain{Server: s, port: s.FreePort()}
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port))}))
	defer proxy.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c.url = proxy.URL
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	visit := make(chan error, 1)
	go func() { visit <- visitAtOnce(ctx, c.port) }()
	tun, err := tunnel.Expose(ctx, c.config(target))
	if err != nil {
		cancel()
		<-visit
		return fmt.Errorf("expose: %w", err)
	}
	err = <-visit
	return errors.Join(err, tun.Close())
}

// visitAtOnce dials until there is somebody, and then has one connection only.
func visitAtOnce(ctx context.Context, port int) error {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(50 * time.Microsecond) // leaves room for those who are to bind it
			continue
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			return fmt.Errorf("visitor: %w", err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !bytes.HasSuffix(answer, []byte("hello")) {
			return fmt.Errorf("visitor: read %q, %v", answer, err)
		}
		return nil
	}
	return ctx.Err()
}

func TestAHundredReconnectsLeaveNothing(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.expose(t, app(t, "hello"))
	await(t, tun, "the standby", func(s tunnel.Status) bool { return s.Links == 2 })
	begin := time.Now()
	for n := 1; n <= 50; n++ { // of two links
		if n%2 == 1 {
			if err := tun.Reconnect(); err != nil {
				t.Fatal(err)
			}
		} else {
			c.KillLinks() // a loss after a Reconnect is the first of its schedule, so it costs no wait
		}
		await(t, tun, fmt.Sprintf("links %d", n), func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Reconnects == 2*n && s.Links == 2 })
		eventually(t, c.url, "hello") // a visitor may come while the port passes on
	}
	s := tun.Status()
	if s.Reconnects != 100 || s.Links != 2 || s.LastError != nil {
		t.Errorf("status %+v", s)
	}
	t.Logf("100 reconnects in %v", time.Since(begin).Round(time.Millisecond))
}
