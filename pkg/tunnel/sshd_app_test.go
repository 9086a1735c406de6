// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// listening is an app at an address of this machine; an address without a port has a free one.
func listening(t *testing.T, addr string, tls bool) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		missing.Skip(t, "%s: %v", addr, err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	_ = s.Listener.Close()
	s.Listener, s.Config.ErrorLog = l, log.New(io.Discard, "", 0)
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// localhost is both of the machine's loopback addresses, whatever its resolver says. Whoever comes to listen at the one where the app
// is not gets no visitor.
func TestAppOfLocalhost(t *testing.T) {
	for name, at := range map[string]string{"on 127.0.0.1 alone": "127.0.0.1:0", "on ::1 alone": "[::1]:0", "on all addresses": ":0", "on another address": "127.0.0.2:0"} {
		for _, raw := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, raw %v", name, raw), func(t *testing.T) {
				c := newChain(t, sshdtest.Options{})
				target := listening(t, at, false).Listener.Addr().String()
				if name != "on another address" {
					_, port, _ := net.SplitHostPort(target)
					target = "localhost:" + port
				}
				cfg := c.config(target)
				cfg.Raw = raw
				tun := open(t, cfg)
				await(t, tun, "the app", inState(tunnel.Up))
				wantBody(t, cfg.URL, "hello")
				if other := map[string]string{"on 127.0.0.1 alone": "::1", "on ::1 alone": "127.0.0.1"}[name]; other != "" {
					_, port, _ := net.SplitHostPort(target)
					l, err := net.Listen("tcp", net.JoinHostPort(other, port))
					if err != nil {
						missing.Skip(t, "%s: %v", other, err)
					}
					defer func() { _ = l.Close() }() // without an answer
					wantBody(t, cfg.URL, "hello")
				}
				if row := rowOf(t, tun, "app"); !row.OK {
					t.Errorf("%+v", row)
				}
				compat.Row(t, "apps", fmt.Sprintf("an app that listens %s%s", name, map[bool]string{true: ", with raw=True"}[raw]), compat.Taken)
			})
		}
	}
}

// An app that speaks TLS is no app that answers: the state says so until it does without. Only raw bytes carry it as it is.
func TestAppThatSpeaksTLS(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	secure := listening(t, "127.0.0.1:0", true)
	addr := secure.Listener.Addr().String()
	cfg := c.config(addr)
	cfg.Raw = false
	tun := open(t, cfg)
	s := await(t, tun, "what is wrong", func(s tunnel.Status) bool { return s.LastError != nil })
	if s.State != tunnel.Waiting || !errors.Is(s.LastError, tunnel.ErrApp) || !strings.Contains(s.LastError.Error(), addr+" speaks TLS") || !strings.Contains(s.LastError.Hint.String(), "Config.Raw") {
		t.Errorf("%s: %v, hint %s", s.State, s.LastError, s.LastError.Hint)
	}
	for range 3 { // a visitor's connection to it stands, and is no news
		_, _ = get(cfg.URL)
	}
	if s := tun.Status(); s.State != tunnel.Waiting {
		t.Errorf("%s", s.State)
	}
	if row := rowOf(t, tun, "app"); row.OK || !strings.Contains(row.Seen, "speaks TLS") {
		t.Errorf("%+v", row)
	}
	compat.Row(t, "apps", "an app that speaks TLS", compat.Taken+": the tunnel waits for an app without: "+s.LastError.Error())
	secure.Close()
	listening(t, addr, false)
	await(t, tun, "the app", inState(tunnel.Up))
	wantBody(t, cfg.URL, "hello")

	at := listening(t, "127.0.0.1:0", true).Listener.Addr().String()
	outcome := ""
	for _, given := range []string{at, "https://" + at + "/"} {
		raw := c.config(given)
		raw.Remote = c.FreePort()
		raw.URL = "https://" + relay.Start(t, fmt.Sprintf("127.0.0.1:%d", raw.Remote)).Addr() + "/" // as a server of nginx's stream module
		s := open(t, raw).Status()
		if s.State != tunnel.Up || s.Target != at || s.Unchecked == "" || strings.Contains(s.Unchecked, "not from this tunnel") {
			t.Errorf("raw, %s: %s to %s: %v; %s", given, s.State, s.Target, s.LastError, s.Unchecked)
		}
		visitor := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
		resp, err := visitor.Get(raw.URL)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		if _ = resp.Body.Close(); err != nil || string(body) != "hello" {
			t.Errorf("raw, %s: %s %q, %v", given, resp.Status, body, err)
		}
		outcome = compat.Taken + ": the URL could not be checked: " + s.Unchecked
	}
	compat.Row(t, "apps", "an app that speaks TLS, with raw=True, behind nginx's stream module, and a certificate of its own", outcome)
	cfg.Target = "https://me:hunter2@127.0.0.1:8443"
	if _, err := tunnel.Expose(within(t, time.Second), cfg); !errors.Is(err, tunnel.ErrConfig) || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	cfg.Target = "https://127.0.0.1:8443"
	_, err := tunnel.Expose(within(t, time.Second), cfg)
	if !errors.Is(err, tunnel.ErrConfig) || !strings.Contains(err.Error(), "speaks TLS") || !strings.Contains(tunnel.AsError(err).Hint.String(), "Config.Raw") {
		t.Errorf("%v, hint %s", err, tunnel.AsError(err).Hint)
	}
}
