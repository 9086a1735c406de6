// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// A newer expose() of another kernel has to have a plain proxy's port to be checked. If it fails then, the tunnel before
// has the port back, and what was under way there has not noticed.
func TestANewerThatFails(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	c, cfg := machine(t, "plain", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
		_, _ = io.WriteString(w, "older")
	})
	older, exposed := open(t, public(cfg)), time.Now()
	end := sync.OnceFunc(func() { close(finish) })
	defer end()
	slow := make(chan error, 1)
	go func() {
		said, err := get(older.Status().URL + "slow")
		if err == nil && said != "older" {
			err = errors.New(said)
		}
		slow <- err
	}()
	<-begun
	bad := public(cfg)
	bad.URL = "http://" + who(t, "elsewhere") + "/"
	failed := make(chan error, 1)
	go func() {
		_, err := tunnel.Expose(within(t, 8*time.Second), bad)
		failed <- err
	}()
	s := await(t, older, "left", inState(tunnel.Reconnecting))
	if s.LastError == nil || s.LastError.Class != tunnel.ErrForward || s.LastError.Permanent {
		t.Errorf("while the newer one is checked: %+v", s)
	}
	if err := <-failed; !errors.Is(err, tunnel.ErrForward) {
		t.Fatalf("the newer one: %v", err)
	}
	begin := time.Now()
	await(t, older, "its return", inState(tunnel.Up))
	t.Logf("it is back %v after the newer one's end", time.Since(begin).Round(10*time.Millisecond))
	wantBody(t, older.Status().URL, "older")
	end()
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if s := older.Status(); s.Reconnects != 0 {
		t.Errorf("%d reconnects", s.Reconnects)
	}
	c.showing(t, 2)
	for _, at := range c.exposed(t) { // 8 s ago
		if late := at.Sub(exposed); late > 2*time.Second {
			t.Errorf("its marks say that it was exposed %v after it was", late)
		}
	}
}

// exposed are the times in the marks that show.
func (c *chain) exposed(t testing.TB) (all []time.Time) {
	t.Helper()
	said, err := exec.Command("ps", "-eo", "args=").Output()
	must(t, err)
	for _, found := range regexp.MustCompile(fmt.Sprintf(` taipy-tunnel %d \d+ (\d+) `, c.port)).FindAllSubmatch(said, -1) {
		milli, err := strconv.ParseInt(string(found[1]), 10, 64)
		must(t, err)
		all = append(all, time.UnixMilli(milli))
	}
	return all
}

// One that is cancelled in that time, too.
func TestANewerThatIsCancelled(t *testing.T) {
	_, cfg := machine(t, "plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "older") })
	older := open(t, public(cfg))
	ctx, cancel := context.WithCancel(t.Context())
	bad := public(cfg)
	bad.URL = "http://" + who(t, "elsewhere") + "/"
	failed := make(chan error, 1)
	go func() {
		_, err := tunnel.Expose(ctx, bad)
		failed <- err
	}()
	await(t, older, "left", inState(tunnel.Reconnecting))
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("the newer one: %v", err)
	}
	await(t, older, "its return", inState(tunnel.Up))
	wantBody(t, older.Status().URL, "older")
}

// Who has left the port can be called back before it is clear whether the newer one keeps it, and closed.
func TestCededIsCalledBackOrClosed(t *testing.T) {
	_, cfg := machine(t, "plain", nothing)
	older := open(t, public(cfg))
	newer := open(t, public(cfg))
	if err := older.Reconnect(); err != nil {
		t.Fatal(err)
	}
	await(t, older, "replaced", inState(tunnel.Replaced)) // the newest expose() wins
	await(t, newer, "up", inState(tunnel.Up))
	bad := public(cfg)
	bad.URL = "http://" + who(t, "elsewhere") + "/"
	go func() { _, _ = tunnel.Expose(within(t, 3*time.Second), bad) }()
	await(t, newer, "left", inState(tunnel.Reconnecting))
	if err := newer.Close(); err != nil {
		t.Error(err)
	}
}

// later is a newer expose() that fails: its URL leads elsewhere.
func later(t *testing.T, cfg tunnel.Config, timeout time.Duration) <-chan error {
	cfg = public(cfg)
	cfg.URL = "http://" + who(t, "elsewhere") + "/"
	failed := make(chan error, 1)
	ctx := within(t, timeout)
	go func() {
		_, err := tunnel.Expose(ctx, cfg)
		failed <- err
	}()
	return failed
}

// guarded is an address that wants a login, and tells no tunnel where it leads.
func guarded(t *testing.T) string {
	return "http://" + serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }) + "/"
}

// Whether the newer one keeps the port is asked at the port itself: neither URL need tell.
func TestCededWhereURLsWantALogin(t *testing.T) {
	m, cfg := machine(t, "plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "older") })
	cfg = public(cfg)
	cfg.URL = guarded(t)
	older := open(t, cfg)
	<-later(t, cfg, 8*time.Second) // longer than one has that cannot be asked
	await(t, older, "its return", inState(tunnel.Up))
	wantBody(t, m.url, "older")
	cfg.Target, cfg.URL = who(t, "newer"), guarded(t)
	begin := time.Now()
	open(t, cfg)
	await(t, older, "replaced", inState(tunnel.Replaced))
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the older one was told after %v", took)
	}
	wantBody(t, m.url, "newer")
}

// Of two that ask for the port at once the newer one gets it; the other one, which was still being opened, ends nobody's
// links.
func TestCededWhileBeingOpened(t *testing.T) {
	c, cfg := machine(t, "plain", nothing)
	oldest := open(t, public(cfg))
	way := relay.Start(t, c.Addr())
	way.Delay(150 * time.Millisecond)
	middle := make(chan error, 1)
	ctx := within(t, 20*time.Second)
	go func() {
		tun, err := tunnel.Expose(ctx, c.by(way, public(cfg)))
		if err == nil {
			_ = tun.Close()
		}
		middle <- err
	}()
	await(t, oldest, "left", inState(tunnel.Reconnecting))
	newest := open(t, public(cfg))
	await(t, oldest, "replaced", inState(tunnel.Replaced))
	if err := <-middle; err != nil && !errors.Is(err, tunnel.ErrForward) { // it may have had the port for a moment
		t.Errorf("the middle one: %v", err)
	}
	await(t, newest, "both links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
	if s := newest.Status(); s.Reconnects > 0 {
		t.Errorf("the newest one: %s", brief(newest))
	}
}

// Two that fail one after the other, each within its time.
func TestPromiseTwoThatFail(t *testing.T) {
	for range rounds(0, 1) { // the second one's end is after that of the first one's time, 35 s
		_, cfg := machine(t, "plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "older") })
		older := open(t, public(cfg))
		first := later(t, cfg, 25*time.Second)
		time.Sleep(18 * time.Second)
		second := later(t, cfg, 25*time.Second)
		<-first
		<-second
		await(t, older, "its return", inState(tunnel.Up))
		wantBody(t, older.Status().URL, "older")
	}
}

// A third one, which finds the port with a second one that is silent, ends that one's links, and not those of the first,
// which has left the port.
func TestAThirdAndASilentSecond(t *testing.T) {
	c, cfg := machine(t, "plain", nothing)
	first := open(t, public(cfg))
	await(t, first, "both links", func(s tunnel.Status) bool { return s.Links == 2 })
	way := relay.Start(t, c.Addr())
	second := later(t, c.by(way, cfg), 12*time.Second)
	await(t, first, "left", inState(tunnel.Reconnecting))
	for deadline := time.Now().Add(10 * time.Second); !c.HoldsPort(c.port); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second one does not have the port")
		}
	}
	way.Mute()
	way.Refuse()
	open(t, public(cfg))
	await(t, first, "replaced", inState(tunnel.Replaced))
	if s := first.Status(); s.Reconnects != 0 {
		t.Errorf("the first one: %s", brief(first))
	}
	<-second
}

// socketed is a plain proxy whose slot is a socket.
func socketed(t *testing.T, app http.HandlerFunc) tunnel.Config {
	t.Helper()
	c := newChain(t, sshdtest.Options{Config: []string{"StreamLocalBindUnlink yes"}})
	path := filepath.Join(t.TempDir(), "slot")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "app"})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	c.url = front.URL + "/"
	cfg := public(c.config(serve(t, app)))
	cfg.Raw, cfg.Remote, cfg.RemoteSocket = false, 0, path
	return cfg
}

// A socket is the newer one's without a word, and the older one's again if that fails.
func TestANewerAtASocket(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	cfg := socketed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
		_, _ = io.WriteString(w, "older")
	})
	end := sync.OnceFunc(func() { close(finish) })
	defer end()
	older := open(t, cfg)
	slow := make(chan string, 1)
	go func() {
		said, err := get(older.Status().URL + "slow")
		slow <- fmt.Sprint(said, err)
	}()
	<-begun
	failed := later(t, cfg, 8*time.Second)
	await(t, older, "left", inState(tunnel.Reconnecting))
	<-failed
	await(t, older, "its return", inState(tunnel.Up))
	eventually(t, older.Status().URL, "older")
	cfg.Target = who(t, "newer")
	open(t, cfg)
	await(t, older, "replaced", inState(tunnel.Replaced))
	wantBody(t, older.Status().URL, "newer")
	end()
	if said := <-slow; said != "older<nil>" {
		t.Errorf("the request under way: %s", said)
	}
	if s := older.Status(); s.Reconnects != 0 {
		t.Errorf("the older one: %s", brief(older))
	}
}
