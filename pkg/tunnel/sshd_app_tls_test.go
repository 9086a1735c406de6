// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// nginx that asks an app for HTTP, which speaks TLS and whose bytes are carried as they are: the tunnel has answered the check in the
// app's place, and says what visitors get.
func TestCarriedTLSAskedForHTTP(t *testing.T) {
	for name, scheme := range map[string]string{"told": "https://", "not told": ""} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, sshdtest.Options{})
			secure := listening(t, "127.0.0.1:0", true)
			addr := secure.Listener.Addr().String()
			tun := open(t, c.config(scheme+addr))
			s := tun.Status()
			if s.State != tunnel.Waiting || !errors.Is(s.LastError, tunnel.ErrApp) || !strings.Contains(s.LastError.Error(), addr+" speaks TLS") || !strings.Contains(s.LastError.Hint.String(), "proxy_pass https://") {
				t.Errorf("%s: %v", s.State, s.LastError)
			}
			if row := rowOf(t, tun, "app"); row.OK || !strings.Contains(row.Seen, "speaks TLS") || !strings.Contains(row.Hint.String(), "proxy_pass https://") {
				t.Errorf("%+v", row)
			}
			if body, err := get(c.url); err == nil || !strings.Contains(err.Error(), "400") {
				t.Errorf("a visitor gets %q, %v", body, err)
			}
			compat.Row(t, "apps", "an app that speaks TLS, with raw=True, behind proxy_pass http://", compat.Taken+": the tunnel waits: "+s.LastError.Error())
			secure.Close()
			listening(t, addr, false)
			await(t, tun, "the app", inState(tunnel.Up))
			wantBody(t, c.url, "hello")
		})
	}
}

// What the hint proposes is followed while the tunnel is open: it is up then, and says no more than was seen.
func TestCarriedTLSIsMended(t *testing.T) {
	for name, mend := range map[string]func(t *testing.T, c *chain, tun *tunnel.Tunnel, cfg tunnel.Config, speak func(scheme string)) *tunnel.Tunnel{
		"by proxy_pass https://": func(_ *testing.T, _ *chain, tun *tunnel.Tunnel, _ tunnel.Config, speak func(string)) *tunnel.Tunnel {
			speak("https")
			return tun
		},
		"by the URL of their own TLS": func(t *testing.T, c *chain, tun *tunnel.Tunnel, cfg tunnel.Config, _ func(string)) *tunnel.Tunnel {
			cfg.URL = "https://" + relay.Start(t, fmt.Sprintf("127.0.0.1:%d", c.port)).Addr() + "/"
			next, err := tun.Reopen(within(t, 20*time.Second), cfg)
			must(t, err)
			t.Cleanup(func() { _ = next.Close() })
			return next
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, sshdtest.Options{})
			var to atomic.Pointer[httputil.ReverseProxy]
			speak := func(scheme string) {
				p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: scheme, Host: fmt.Sprintf("127.0.0.1:%d", c.port)})
				p.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
				to.Store(p)
			}
			speak("http")
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { to.Load().ServeHTTP(w, r) }))
			t.Cleanup(front.Close)
			cfg := c.config(listening(t, "127.0.0.1:0", true).Listener.Addr().String())
			cfg.URL = front.URL + "/"
			tun := open(t, cfg)
			if s := tun.Status(); s.State != tunnel.Waiting || s.Checked != "" {
				t.Errorf("%s, checked %q: %v", s.State, s.Checked, s.LastError)
			}
			tun = mend(t, c, tun, cfg, speak)
			await(t, tun, "that it is mended", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Checked == "" && s.Unchecked != "" })
		})
	}
}

// Behind nginx that speaks TLS to the app no question is seen. What answers may be the app, whatever it says; where no TLS has come,
// it is something else.
func TestCarriedTLSBehindNginx(t *testing.T) {
	says := func(status int, page string) func(*testing.T) string {
		return func(t *testing.T) string {
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, page)
			}))
			t.Cleanup(s.Close)
			return s.Listener.Addr().String()
		}
	}
	for name, app := range map[string]func(*testing.T) string{
		"an app":                     says(200, "hello"),
		"the login page of an app":   says(200, `<input type="password">`),
		"an app without such a page": says(404, "hello"),
		"an nginx as the app":        tlsNginx,
		"an app that is not up yet":  func(*testing.T) string { return fmt.Sprintf("127.0.0.1:%d", sshdtest.FreePort()) },
	} {
		t.Run(name, func(t *testing.T) {
			c, cfg := ledBy(t, "location / { proxy_pass https://127.0.0.1:%d; }")
			cfg.Target = "https://" + app(t)
			tun := open(t, cfg)
			s := tun.Status()
			if s.State != tunnel.Up && s.State != tunnel.Waiting || s.Checked != "" || !strings.Contains(s.Unchecked, "the app's own answer") {
				t.Errorf("%s: %v; %s", s.State, s.LastError, s.Unchecked)
			}
			if row := rowOf(t, tun, "url"); !row.OK || !row.Warn {
				t.Errorf("%+v", row)
			}
			compat.Row(t, "apps", name+", in TLS, with raw=True, behind proxy_pass https://", compat.Taken+": the URL could not be checked: "+s.Unchecked)

			port := c.FreePort()
			nginxtest.Start(t, fmt.Sprintf("server { listen 127.0.0.1:%d; location / { return 404; } }", port), port)
			cfg.URL, cfg.Remote = fmt.Sprintf("http://127.0.0.1:%d/", port), c.FreePort()
			if _, err := tunnel.Expose(within(t, 2*time.Second), cfg); !errors.Is(err, tunnel.ErrForward) || !strings.Contains(err.Error(), "404 Not Found") {
				t.Errorf("a URL that leads elsewhere: %v", err)
			}
		})
	}
}

// tlsNginx is an nginx as the app: what it answers to a question are its built-in pages.
func tlsNginx(t *testing.T) string {
	t.Helper()
	dir, cert, port := t.TempDir(), sshdtest.NewAuthority(t).Issue("127.0.0.1", time.Hour), sshdtest.FreePort()
	write(t, filepath.Join(dir, "cert"), cert.Chain)
	write(t, filepath.Join(dir, "key"), cert.Key)
	nginxtest.Start(t, fmt.Sprintf(`server { listen 127.0.0.1:%d ssl; ssl_certificate %[2]s/cert; ssl_certificate_key %[2]s/key; location / { return 404; } }`, port, dir), port)
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
}
