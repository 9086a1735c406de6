// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Visitors may come by another proxy, of which the prepared one knows nothing: slots are asked for by the URL that it knows.
func TestAURLThatThePreparedProxyDoesNotKnow(t *testing.T) {
	r := newRendered(t)
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", at(r.http))
	}}
	cfg := public(r.described("sales", app(t, "hello")))
	cfg.URL = "http://" + serve(t, (&httputil.ReverseProxy{Transport: transport, Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "127.0.0.1", "127.0.0.1"
		p.Out.URL.Path = "/sales/" + strings.TrimPrefix(p.In.URL.Path, "/apps/figures/")
	}}).ServeHTTP) + "/apps/figures/"
	tun := open(t, cfg)
	await(t, tun, "its links", whole)
	wantBody(t, cfg.URL, "hello")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // the first look comes after 1 s
	defer cancel()
	for s := range tun.Watch(ctx) {
		if s.State != tunnel.Up || s.Warning != nil { // what is in front has to ask the machine by the name that it knows
			t.Fatalf("%s: %v, warning %v", s.State, s.LastError, s.Warning)
		}
	}
}

// An address that leads elsewhere is none to expose at, also where the account may not ask for it on the proxy.
func TestAURLThatLeadsElsewhere(t *testing.T) {
	c := newChain(t, sshdtest.Options{Config: []string{"PermitOpen 127.0.0.1:1"}})
	cfg := c.config(app(t, "hello"))
	cfg.URL = "http://" + app(t, "elsewhere") + "/"
	if _, err := tunnel.Expose(within(t, 4*time.Second), cfg); !errors.Is(err, tunnel.ErrForward) { // the question over the link ends after 1 s
		t.Errorf("%v", err)
	}
}

// While nginx is away its URL cannot be asked; when it is back, the URL is, and the state tells what visitors get.
func TestAURLThatCouldNotBeAsked(t *testing.T) {
	for name, c := range map[string]struct{ host, checked string }{
		"from here":     {"127.0.0.1", "url"},
		"over the link": {"nosuchname.invalid", "link"},
	} {
		t.Run(name, func(t *testing.T) {
			m, cfg := machine(t, "plain", func(http.ResponseWriter, *http.Request) {})
			m.nginx.Stop()
			cfg.URL = strings.Replace(cfg.URL, "127.0.0.1", c.host, 1)
			tun := open(t, public(cfg))
			if s := tun.Status(); s.Checked != "" {
				t.Errorf("%+v", s)
			}
			if c.checked == "url" { // and nobody else is there at the proxy's address
				await(t, tun, "nobody", func(s tunnel.Status) bool {
					return s.State == tunnel.Reconnecting && errors.Is(s.LastError, tunnel.ErrForward)
				})
			}
			m.nginx.Again()
			await(t, tun, "the answer", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Checked == c.checked })
		})
	}
}
