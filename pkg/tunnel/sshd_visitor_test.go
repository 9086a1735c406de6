// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

func wantVisitor(t testing.TB, tun *tunnel.Tunnel, ok, warn bool, seen, hint string) {
	t.Helper()
	row := rowOf(t, tun, "visitor")
	if row.OK != ok || row.Warn != warn || !strings.Contains(row.Seen, seen) || !strings.Contains(row.Hint.String(), hint) || (hint == "") != (row.Hint == "") {
		t.Errorf("%+v, want ok %v, warn %v, %q, %q", row, ok, warn, seen, hint)
	}
}

// The doctor comes in as a visitor does, with whatever admits them. It is not counted, and neither the app nor any log
// sees what it comes with.
func TestDoctorComesAsAVisitor(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	var answer atomic.Int64
	var heads atomic.Pointer[http.Header]
	answer.Store(http.StatusOK)
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		head := r.Header.Clone()
		heads.Store(&head)
		if answer.Load() == 0 {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(int(answer.Load()))
	})
	for access, who := range map[string]string{`"token"`: "with the link", `{"ann":"correct horse"}`: "with a password", `"public"`: "a visitor"} {
		tun := c.gated(t, func(cfg *tunnel.Config) {
			must(t, cfg.Access.UnmarshalJSON([]byte(access)))
			cfg.Target = target
		})
		wantVisitor(t, tun, true, false, who+" gets 200 OK", "")
		head := *heads.Load()
		if s := tun.Status(); s.Requests != 0 || s.Visitors != 0 || s.VisitorsToday != 0 || len(tun.Requests(10)) != 0 {
			t.Errorf("counted: %+v", s)
		}
		if head.Get("Authorization") != "" || head.Get(probe.Header) != "" || head.Get("Cookie") != "" {
			t.Errorf("the app sees %v", head)
		}
		if token := tokenOf(tun); token != "" && strings.Contains(c.log.String(), token) || strings.Contains(c.log.String(), "Basic ") {
			t.Error("logged")
		}
		_ = tun.Close()
	}
	tun := c.gated(t, func(cfg *tunnel.Config) { cfg.Target = target })
	answer.Store(http.StatusNotFound)
	wantVisitor(t, tun, true, true, "404 Not Found", "the app itself")
	answer.Store(http.StatusInternalServerError)
	wantVisitor(t, tun, false, false, "500 Internal", "the app itself")
	answer.Store(0)
	wantVisitor(t, tun, false, false, "waits for more than 4s", "the app takes so long")
	must(t, tun.SetTarget(""))
	wantVisitor(t, tun, false, false, `503 Service Unavailable, "The app was stopped"`, "see its row")
}

// The end of the link is told alike, and at once, by the state, the doctor and the gate.
func TestExpiredIsToldAlike(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	end := time.Now().Add(3 * time.Second)
	tun := c.gated(t, func(cfg *tunnel.Config) { cfg.Expires = end })
	token := tokenOf(tun)
	wantVisitor(t, tun, true, false, "200 OK", "")
	s := await(t, tun, "the end", inState(tunnel.Expired))
	if late := s.Since.Sub(end); late > time.Second || s.LastError == nil || !strings.Contains(s.LastError.Hint.String(), "Config.Expires") {
		t.Errorf("%v after the end: %+v", late, s)
	}
	if got := c.status(t, token); got != http.StatusForbidden {
		t.Errorf("a visitor gets %d", got)
	}
	wantVisitor(t, tun, false, false, `403 Forbidden, "This link has expired"`, "later Config.Expires")
}

// Where the URL does not lead to this tunnel nobody there is told the token; where it cannot be opened from here the gate
// itself is asked.
func TestDoctorTellsTheTokenToItsOwnTunnelOnly(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	inner, err := url.Parse(c.url)
	must(t, err)
	var instead, told atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := int(instead.Load()); status != 0 {
			if r.Header.Get("Authorization") != "" {
				told.Add(1)
			}
			w.WriteHeader(status)
			return
		}
		httputil.NewSingleHostReverseProxy(inner).ServeHTTP(w, r)
	}))
	c.url = front.URL + "/"
	tun := c.gated(t, nil)
	wantVisitor(t, tun, true, false, "with the link gets 200", "")
	for status, ok := range map[int]bool{502: false, 404: false, 200: false, 401: true, 302: true} {
		instead.Store(int64(status))
		row := rowOf(t, tun, "visitor")
		if row.OK != ok || !strings.Contains(row.Seen, fmt.Sprintf("a visitor gets %d", status)) || row.Hint == "" {
			t.Errorf("%d: %+v", status, row)
		}
	}
	if told.Load() != 0 {
		t.Error("a stranger was told the token")
	}
	front.Close()
	wantVisitor(t, tun, true, false, "200 OK", "")
	if row := rowOf(t, tun, "visitor"); !strings.Contains(row.Seen, "of the tunnel itself") {
		t.Errorf("%+v", row)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// A browser hands the token over by a POST. What stands before the tunnel may let by what the doctor asks, and not that.
func TestDoctorHandsTheTokenOver(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	inner, err := url.Parse(c.url)
	must(t, err)
	var stops atomic.Bool
	c.url = "http://" + serve(t, func(w http.ResponseWriter, r *http.Request) {
		if stops.Load() && r.Method == http.MethodPost {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		httputil.NewSingleHostReverseProxy(inner).ServeHTTP(w, r)
	}) + "/"
	tun := c.gated(t, nil)
	wantVisitor(t, tun, true, false, "with the link gets 200", "")
	stops.Store(true)
	wantVisitor(t, tun, true, true, "with the link gets 200", "POST "+c.url+".well-known/taipy-tunnel, which something in front of the tunnel answers by itself, 403 Forbidden")
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// Where something else answers the question no secret is sent, and no cause is named that was not seen.
func TestDoctorWhereAnotherAnswersTheQuestion(t *testing.T) {
	for name, access := range map[string]tunnel.Access{"token": {}, "password": {Passwords: map[string]string{"me": "correct horse"}}} {
		t.Run(name, func(t *testing.T) {
			_, cfg := guardedBy(t, "location /.well-known/ { return 403; }")
			cfg.Raw, cfg.Access = false, access
			wantVisitor(t, open(t, cfg), true, true, "a visitor gets 40", "the address leads here, but something in front of the tunnel answers what is asked below it at .well-known/taipy-tunnel")
		})
	}
}

// On a prepared proxy, through its nginx, the doctor is no visitor of the statistics either.
func TestDoctorOnAPreparedProxy(t *testing.T) {
	r := newRendered(t, func(h *proxyhost.Host) {
		h.Tenants[0].Apps, h.Tenants[0].SelfService = []proxyhost.Declared{{Name: "sales"}}, ""
	})
	tun := r.exposed(t, "", serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	await(t, tun, "two links", whole)
	for _, row := range tun.Doctor(within(t, 10*time.Second)) {
		if !row.OK || row.Hint != "" || row.Step == "visitor" && !strings.Contains(row.Seen, "200 OK") {
			t.Errorf("%+v", row)
		}
	}
	if s := tun.Status(); s.Requests != 0 || s.VisitorsToday != 0 {
		t.Errorf("counted: %+v", s)
	}
}
