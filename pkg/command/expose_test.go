// SPDX-License-Identifier: Apache-2.0

//go:build linux

package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// shown are the events of a command that goes on.
type shown struct {
	events chan Event
	code   chan int
	cancel context.CancelFunc
}

// goesOn starts a command that is given up with the test.
func goesOn(t *testing.T, face Face, args ...string) *shown {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &shown{events: make(chan Event, 1000), code: make(chan int, 1), cancel: cancel}
	face.Show = func(e Event) {
		select {
		case s.events <- e:
		case <-ctx.Done():
		}
	}
	var running sync.WaitGroup
	running.Go(func() { s.code <- Run(ctx, args, face) })
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	return s
}

// until waits for an event that says something.
func (s *shown) until(t *testing.T, kind Kind, says string) Event {
	t.Helper()
	var all []Event
	for late := time.After(20 * time.Second); ; {
		select {
		case e := <-s.events:
			if all = append(all, e); e.Kind == kind && strings.Contains(e.Text, says) {
				return e
			}
		case code := <-s.code:
			s.code <- code
			for len(s.events) > 0 {
				if e := <-s.events; e.Kind == kind && strings.Contains(e.Text, says) {
					return e
				}
			}
			t.Fatalf("ended with %d: %+v", code, all)
		case <-late:
			t.Fatalf("no %s with %q: %+v", kind, says, all)
		}
	}
}

// plain is a proxy machine, and the command line with which an app is exposed there.
func plain(t *testing.T, app string) (line []string, public string) {
	t.Helper()
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	port := s.FreePort()
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	to.Transport = &http.Transport{DisableKeepAlives: true}
	front := httptest.NewServer(to)
	t.Cleanup(front.Close)
	return []string{"expose", app, "--server", s.User + "@" + s.Addr(), "--key", s.KeyFile, "--host-key", s.Fingerprint(),
		"--remote", fmt.Sprint(port), "--url", front.URL + "/"}, front.URL + "/"
}

// visit is what a visitor with the link is shown.
func visit(t *testing.T, link string) string {
	t.Helper()
	page, token, _ := strings.Cut(link, "#token=")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return resp.Status + " " + string(body)
}

// An app is shown until the command is given up: the link comes first, then what changes.
func TestExpose(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer app.Close()
	line, public := plain(t, app.URL)
	s := goesOn(t, Face{}, line...)
	link := s.until(t, Text, public+"#token=").Text
	s.until(t, Notice, " up")
	if got := visit(t, link); got != "200 OK hello" {
		t.Errorf("a visitor: %s", got)
	}
	app.Close()
	if got := visit(t, link); !strings.HasPrefix(got, "503 ") {
		t.Errorf("a visitor of an app that has ended: %s", got)
	}
	s.until(t, Notice, " waiting: app: nothing answers on "+strings.TrimPrefix(app.URL, "http://"))
	s.cancel()
	if code := <-s.code; code != Interrupted {
		t.Errorf("ended with %d", code)
	}
}

// At a terminal what is now stands in one place; for programs each change is a line.
func TestExposeIsSeen(t *testing.T) {
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	line, _ := plain(t, app.URL)
	s := goesOn(t, Face{Terminal: true}, line...)
	link := s.until(t, Text, "#token=").Text
	visit(t, link+"")
	view := s.until(t, View, "GET  404").Text
	for _, want := range []string{"State     up, for ", "App       " + strings.TrimPrefix(app.URL, "http://"), "Requests  1, "} {
		if !strings.Contains(view, want) {
			t.Errorf("no %q in\n%s", want, view)
		}
	}
	s.cancel()
	<-s.code
	s = goesOn(t, Face{Terminal: true}, append([]string{"--json"}, line...)...)
	var first struct{ URL string }
	if err := json.Unmarshal([]byte(s.until(t, Text, "#token=").Text), &first); err != nil || first.URL == "" {
		t.Errorf("%+v, %v", first, err)
	}
	var status struct{ State tunnel.State }
	if err := json.Unmarshal([]byte(s.until(t, Text, `"state":"up"`).Text), &status); err != nil || status.State != tunnel.Up {
		t.Errorf("%+v, %v", status, err)
	}
}

// A newer tunnel ends the command, which says so.
func TestExposeIsReplaced(t *testing.T) {
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	line, _ := plain(t, app.URL)
	first := goesOn(t, Face{}, line...)
	first.until(t, Notice, " up")
	goesOn(t, Face{}, line...).until(t, Notice, " up")
	first.until(t, Failure, "replaced")
	if code := <-first.code; code != Failed {
		t.Errorf("ended with %d", code)
	}
}

// What has no option is a variable, which also stands for options that are left out.
func TestSettings(t *testing.T) {
	environment := map[string]string{"TAIPY_TUNNEL_SERVER": "me@h", "TAIPY_TUNNEL_TOKEN": "t", "TAIPY_TUNNEL_ACCESS": "ann:secret-1,bob:x:y", "TAIPY_TUNNEL_REMOTE": "/run/a.sock",
		"TAIPY_TUNNEL_ALLOW": "10.0.0.0/8,::1", "TAIPY_TUNNEL_RAW": "true", "TAIPY_TUNNEL_TIMEOUT": "7", "TAIPY_TUNNEL_EXPIRES": "2026-12-31T18:00:00Z", "TAIPY_TUNNEL_CONNECTIONS": "3"}
	c := (&run{}).expose()
	if err := c.ParseFlags([]string{"--server", "you@h", "--url=https://a/"}); err != nil {
		t.Fatal(err)
	}
	cfg, timeout, err := settings{c, func(name string) string { return environment[name] }}.config("https://127.0.0.1:8443/x")
	if err != nil {
		t.Fatal(err)
	}
	want := `you@h 3 "/run/a.sock" 0 https://a/ t map[ann:secret-1 bob:x:y] [10.0.0.0/8 ::1] true 127.0.0.1:8443 2026-12-31T18:00:00Z 7s`
	if got := fmt.Sprintf("%s %d %q %d %s %s %v %v %v %s %s %v", cfg.Server[0], cfg.Connections, cfg.RemoteSocket, cfg.Remote, cfg.URL, cfg.Token, cfg.Access.Passwords, cfg.Allow, cfg.Raw,
		cfg.Target, cfg.Expires.Format(time.RFC3339), timeout); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSettingsThatAreWrong(t *testing.T) {
	for _, row := range []struct{ says, line string }{
		{"no server was given\npass --server user@host, or set TAIPY_TUNNEL_SERVER", "8501"},
		{`"x" is no address of an app` + "\nwrite its port, or 127.0.0.1:5000", "x --server me@h"}, {"is no address of an app", "70000 --server me@h"},
		{"target names an account, and an app's address has none", "https://me:hunter2@127.0.0.1:8443 --server me@h --raw --access public"},
		{"is an app that speaks TLS", "https://127.0.0.1:8443 --server me@h"}, {"--raw with --access public", "https://127.0.0.1:8443 --server me@h"},
		{`connections is "x", want a whole number`, "8501 --server me@h --connections x"}, {`expires is "x"`, "8501 --server me@h --expires x"},
		{"access is a text of 6 characters that is neither\nwrite --access token or --access public", "8501 --server me@h --access publik"},
		{"allow has \"x\", which is not a network\nwrite --allow 10.0.0.0/8", "8501 --server me@h --allow x"},
		{"timeout is \"0\", want more than 0", "8501 --server me@h --timeout 0"},
	} {
		if s := runs(t, "", append([]string{"expose"}, strings.Fields(row.line)...)...); s.code != Failed || !strings.Contains(s.of(Failure), row.says) {
			t.Errorf("%s: %d, %s; want %s", row.line, s.code, s.of(Failure), row.says)
		}
	}
}

func TestAddressesOfApps(t *testing.T) {
	for given, want := range map[string]string{"8501": "localhost:8501", "127.0.0.1:8501": "127.0.0.1:8501", "http://localhost:8501/": "localhost:8501", "http://0.0.0.0:8000": "localhost:8000",
		"0.0.0.0:8000": "localhost:8000", "http://[::1]:5173/x": "[::1]:5173", "http://10.0.0.4/": "10.0.0.4:80"} {
		if got, err := address(given, false); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", given, got, err, want)
		}
	}
}
