// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Each answer at the URL has its own words.
func TestDoctorLooksAtTheURL(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	inner := c.url
	var instead atomic.Pointer[http.HandlerFunc]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := instead.Load(); h != nil {
			(*h)(w, r)
			return
		}
		resp, err := ask(inner, r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
	}))
	defer front.Close()
	c.url = front.URL + "/"
	tun := c.gated(t, nil)
	for _, row := range tun.Doctor(within(t, 10*time.Second)) {
		if !row.OK || row.Hint != "" {
			t.Errorf("all is well, but %+v", row)
		}
	}
	for name, c := range map[string]struct {
		answer     http.HandlerFunc
		ok         bool
		seen, hint string
	}{
		"a newer tunnel": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(probe.ExposedHeader, probe.SaysNewer)
			w.WriteHeader(http.StatusNotFound)
		}, false, "a newer taipy-tunnel", "newest tunnel wins"},
		"another page": {func(http.ResponseWriter, *http.Request) {}, false, "200 OK", "proxy_pass"},
		"a login":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, true, "401", "cannot be told"},
	} {
		instead.Store(&c.answer)
		row := rowOf(t, tun, "url")
		if row.OK != c.ok || !strings.Contains(row.Seen, c.seen) || !strings.Contains(row.Hint.String(), c.hint) {
			t.Errorf("%s: %+v", name, row)
		}
	}
	instead.Store(nil)
	c.Stop()
	await(t, tun, "no link", func(s tunnel.Status) bool { return s.Links == 0 })
	if row := rowOf(t, tun, "url"); row.OK || strings.Contains(row.Hint.String(), "proxy_pass") || !strings.Contains(row.Hint.String(), "no link") {
		t.Errorf("without a link: %+v", row)
	}
	c.Restart()
	await(t, tun, "the link", inState(tunnel.Up))
	if err := tun.SetTarget(""); err != nil {
		t.Fatal(err)
	}
	await(t, tun, "no app", func(s tunnel.Status) bool { return s.State == tunnel.Waiting })
	if row := rowOf(t, tun, "app"); row.OK || !strings.Contains(row.Hint.String(), "cell") {
		t.Errorf("%+v", row)
	}
}

// Where the next tunnel could not end a link of this one that is dead, that is said when the app is exposed: on the card, by the doctor and,
// once, in the log; until a link comes that it could end.
func TestNoTakeOverIsTold(t *testing.T) {
	const said = "dies without a word"
	for name, o := range map[string]sshdtest.Options{
		"MaxSessions 1": {Config: []string{"MaxSessions 1"}},
		"nologin":       {Shell: "/usr/sbin/nologin"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, o)
			tun := c.gated(t, nil)
			s := await(t, tun, "the warning", func(s tunnel.Status) bool { return s.Warning != nil })
			if !strings.Contains(s.Warning.Error(), said) || !strings.Contains(s.Warning.Hint.String(), "MaxSessions") {
				t.Errorf("%s: %s", s.Warning, s.Warning.Hint)
			}
			if row := rowOf(t, tun, "link"); !row.OK || !row.Warn || !strings.Contains(row.Seen, said) || !strings.Contains(row.Hint.String(), "MaxSessions") {
				t.Errorf("%+v", row)
			}
			c.KillLinks()
			await(t, tun, "a new link", func(s tunnel.Status) bool { return s.Reconnects > 1 && s.Links == 2 && s.Warning != nil })
			if n := strings.Count(c.log.String(), said); n != 1 {
				t.Errorf("told %d times", n)
			}
			if o.Config == nil {
				return
			}
			c.Reconfigure("MaxSessions 1", "MaxSessions 2")
			await(t, tun, "that it is over", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Warning == nil })
			if row := rowOf(t, tun, "link"); !row.OK || row.Warn {
				t.Errorf("%+v", row)
			}
		})
	}
}

// rowOf is the doctor's row of a step.
func rowOf(t testing.TB, tun *tunnel.Tunnel, step string) tunnel.Checked {
	t.Helper()
	rows := tun.Doctor(within(t, 20*time.Second))
	for _, row := range rows {
		if row.Step == step {
			return row
		}
	}
	t.Fatalf("no row %s in %+v", step, rows)
	return tunnel.Checked{}
}

// ask passes a request on.
func ask(base string, r *http.Request) (*http.Response, error) {
	out, err := http.NewRequest(r.Method, strings.TrimSuffix(base, "/")+r.URL.Path, nil)
	if err != nil {
		return nil, err
	}
	out.Header, out.Host = r.Header.Clone(), r.Host
	return (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(out)
}
