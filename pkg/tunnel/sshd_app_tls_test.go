// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// nginx that asks an app for HTTP, which speaks TLS and whose bytes are carried as they are: the tunnel has answered the check in the
// app's place, and expose() says what visitors would get. Either remedy is taken then.
func TestCarriedTLSAskedForHTTP(t *testing.T) {
	for name, scheme := range map[string]string{"told": "https://", "not told": ""} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, sshdtest.Options{})
			cfg := c.config(scheme + listening(t, "127.0.0.1:0", true).Listener.Addr().String())
			_, err := tunnel.Expose(within(t, 20*time.Second), cfg)
			if e := tunnel.AsError(err); !errors.Is(err, tunnel.ErrApp) || !strings.Contains(e.Error(), "speaks TLS") || !strings.Contains(e.Hint.String(), "proxy_pass https://") {
				t.Fatalf("%v, hint %s", err, e.Hint)
			}
			compat.Row(t, "apps", "an app that speaks TLS, with raw=True, behind proxy_pass http://", compat.Outcome(err))

			open(t, c.config(listening(t, "127.0.0.1:0", false).Listener.Addr().String()))
			wantBody(t, c.url, "hello")

			cfg.Remote = c.FreePort()
			cfg.URL = "https://" + relay.Start(t, fmt.Sprintf("127.0.0.1:%d", cfg.Remote)).Addr() + "/"
			if s := open(t, cfg).Status(); s.State != tunnel.Up || s.Unchecked == "" {
				t.Errorf("by visitors' own TLS: %s; %s", s.State, s.Unchecked)
			}
		})
	}
}

// A tunnel that is open in its place goes on.
func TestCarriedTLSTakesNothingAway(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := open(t, c.config(app(t, "hello")))
	if _, err := tun.Reopen(within(t, 20*time.Second), c.config(listening(t, "127.0.0.1:0", true).Listener.Addr().String())); !errors.Is(err, tunnel.ErrApp) {
		t.Errorf("%v", err)
	}
	await(t, tun, "the port again", inState(tunnel.Up))
	eventually(t, c.url, "hello")
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
			says := "the app's own answer"
			if s.State == tunnel.Waiting {
				says = "the app is not up: whether it leads here can be told then"
			}
			if s.State != tunnel.Up && s.State != tunnel.Waiting || s.Checked != "" || !strings.Contains(s.Unchecked, says) {
				t.Errorf("%s: %v; %s", s.State, s.LastError, s.Unchecked)
			}
			if row := rowOf(t, tun, "url"); !row.OK || !row.Warn {
				t.Errorf("%+v", row)
			}
			compat.Row(t, "apps", name+", in TLS, with raw=True, behind proxy_pass https://", compat.Taken+": the URL could not be checked: "+s.Unchecked)

			port := c.FreePort()
			nginxtest.Start(t, fmt.Sprintf("server { listen 127.0.0.1:%d; location / { return 404; } }", port), port)
			cfg.URL, cfg.Remote = fmt.Sprintf("http://127.0.0.1:%d/", port), c.FreePort()
			_, err := tunnel.Expose(within(t, 2*time.Second), cfg)
			if line := fmt.Sprintf("(https://127.0.0.1:%d if the app speaks TLS)", cfg.Remote); !errors.Is(err, tunnel.ErrForward) || !strings.Contains(err.Error(), "404 Not Found") || !strings.Contains(tunnel.AsError(err).Hint.String(), line) {
				t.Errorf("a URL that leads elsewhere: %v, hint %s", err, tunnel.AsError(err).Hint)
			}
		})
	}
}

// nginx that speaks TLS to what takes HTTP: TLS was seen to come, so expose() names the line of nginx's that differs by one letter.
func TestHTTPBehindNginxOfTLS(t *testing.T) {
	for name, change := range map[string]func(*tunnel.Config){
		"an app, with raw=True": func(*tunnel.Config) {},
		"an app":                func(cfg *tunnel.Config) { cfg.Raw, cfg.Access = false, tunnel.Access{} },
		"an app that is not up": func(cfg *tunnel.Config) {
			cfg.Raw, cfg.Access, cfg.Target = false, tunnel.Access{}, fmt.Sprintf("127.0.0.1:%d", sshdtest.FreePort())
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, cfg := ledBy(t, "location / { proxy_pass https://127.0.0.1:%d; }")
			change(&cfg)
			_, err := tunnel.Expose(within(t, 3*time.Second), cfg)
			e := tunnel.AsError(err)
			if err == nil || !strings.Contains(e.Error(), "TLS") || !strings.Contains(e.Hint.String(), fmt.Sprintf("proxy_pass http://127.0.0.1:%d, and not https:// there", c.port)) {
				t.Errorf("%v, hint %s", err, e.Hint)
			}
			compat.Row(t, "apps", name+", behind proxy_pass https://", compat.Outcome(err))

			cfg.Check = tunnel.CheckOff
			if row := rowOf(t, open(t, cfg), "url"); row.OK || !strings.Contains(row.Hint.String(), "and not https:// there") {
				t.Errorf("the doctor: %+v", row)
			}
		})
	}
	t.Run("what comes in TLS is not the app's, and the URL leads elsewhere", func(t *testing.T) {
		c, cfg := ledBy(t, "location / { proxy_pass http://127.0.0.1:%d; }")
		elsewhere := listening(t, "127.0.0.1:0", true)
		cfg.URL, cfg.Remote = "https://"+elsewhere.Listener.Addr().String()+"/", c.FreePort()
		if tun, err := tunnel.Expose(within(t, 3*time.Second), cfg); err == nil {
			if s := tun.Status(); !strings.Contains(s.Unchecked, "it cannot be opened") { // no system trusts that certificate
				t.Errorf("unchecked %q", s.Unchecked)
			}
			_ = tun.Close()
		}
	})
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
