// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Where the account runs no command there are no marks: a tunnel that has lost its port learns that another one answers there, and stays
// away until it is called back; whether its own address was checked, was not to be, or leads elsewhere.
func TestReplacedIsLearntWithoutMarks(t *testing.T) {
	for name, check := range map[string]tunnel.Check{"as ever": "", "unchecked": tunnel.CheckOff, "unchecked, and led elsewhere": tunnel.CheckOff} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, sshdtest.Options{Config: []string{"MaxSessions 0"}})
			var held atomic.Bool
			older := c.gated(t, func(cfg *tunnel.Config) {
				if cfg.Check = check; strings.HasSuffix(name, "elsewhere") {
					cfg.URL = "http://" + serve(t, func(http.ResponseWriter, *http.Request) {}) + "/"
				}
				cfg.Control = func(string, string, syscall.RawConn) error {
					if held.Load() {
						return errors.New("not now")
					}
					return nil
				}
			})
			held.Store(true)
			c.KillLinks()
			await(t, older, "the loss", func(s tunnel.Status) bool { return s.State == tunnel.Reconnecting })
			newer := c.gated(t, func(cfg *tunnel.Config) { cfg.Token = "another-token-of-more-than-128-bits" })
			held.Store(false)
			if err := older.Reconnect(); err != nil {
				t.Fatal(err)
			}
			replaced(t, older)
			if got := c.status(t, tokenOf(newer)); got != http.StatusOK {
				t.Errorf("the newer one's visitors get %d", got)
			}
			_ = newer.Close()
			if err := older.Reconnect(); err != nil {
				t.Fatal(err)
			}
			await(t, older, "its return", func(s tunnel.Status) bool { return s.State == tunnel.Up })
		})
	}
}

// With marks a newer tunnel asks for the port; that this one's address was not to be checked changes nothing.
func TestReplacedWithCheckOff(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	older := c.gated(t, func(cfg *tunnel.Config) { cfg.Check = tunnel.CheckOff })
	newer := c.gated(t, func(cfg *tunnel.Config) {
		cfg.Token, cfg.Check = "another-token-of-more-than-128-bits", tunnel.CheckOff
	})
	replaced(t, older)
	if got := c.status(t, tokenOf(newer)); got != http.StatusOK {
		t.Errorf("the newer one's visitors get %d", got)
	}
}

// A port that something else holds, whatever it is, does not end a tunnel for good.
func TestAPortInUseIsNotReplaced(t *testing.T) {
	c := newChain(t, sshdtest.Options{Config: []string{"MaxSessions 0"}})
	var blocker atomic.Pointer[httptest.Server]
	tun := c.gated(t, func(cfg *tunnel.Config) {
		cfg.Control = func(string, string, syscall.RawConn) error {
			if blocker.Load() == nil {
				return nil
			}
			return errors.New("not now")
		}
	})
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	blocker.Store(s)
	c.KillLinks()
	await(t, tun, "the loss", func(s tunnel.Status) bool { return s.State == tunnel.Reconnecting })
	s.Listener = listenSoon(t, c.port)
	s.Start()
	defer s.Close()
	blocker.Store(nil)
	if err := tun.Reconnect(); err != nil {
		t.Fatal(err)
	}
	await(t, tun, "a port in use", func(s tunnel.Status) bool { return s.LastError != nil && errors.Is(s.LastError, tunnel.ErrForward) })
	if s := tun.Status(); s.State != tunnel.Reconnecting {
		t.Errorf("state %s, %v", s.State, s.LastError)
	}
}

// listenSoon takes a port that a link which was ended is about to give back.
func listenSoon(t *testing.T, port int) net.Listener {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err == nil {
			return l
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// A socket is taken without a word to the tunnel that had it, whose link stays up: it finds out by itself.
func TestReplacedOnASocketIsNoticed(t *testing.T) {
	c := newChain(t, sshdtest.Options{Config: []string{"StreamLocalBindUnlink yes", "MaxSessions 0"}})
	path := filepath.Join(t.TempDir(), "slot")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "app"})
	proxy.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	front := httptest.NewServer(proxy)
	defer front.Close()
	c.url = front.URL + "/"
	there := func(cfg *tunnel.Config) { cfg.Remote, cfg.RemoteSocket = 0, path }
	older := c.gated(t, there)
	newer := c.gated(t, func(cfg *tunnel.Config) { there(cfg); cfg.Token = "another-token-of-more-than-128-bits" })
	replaced(t, older)
	if s := older.Status(); s.Links != 0 || s.Slots != 0 || s.Reconnects != 0 {
		t.Errorf("of the older one is left: %+v", s)
	}
	if got := c.status(t, tokenOf(newer)); got != http.StatusOK || newer.Status().State != tunnel.Up {
		t.Errorf("the newer one: %s, and its visitors get %d", newer.Status().State, got)
	}
}

func replaced(t *testing.T, tun *tunnel.Tunnel) {
	t.Helper()
	await(t, tun, "replaced", func(s tunnel.Status) bool { return s.State == tunnel.Replaced })
	if err := tun.Status().LastError; !errors.Is(err, tunnel.ErrForward) || !err.Permanent {
		t.Errorf("said: %v", err)
	}
}
