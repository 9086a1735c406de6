// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyhost_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// web is an nginx with what is rendered for h.
type web struct {
	t    testing.TB
	port int
	dir  string
}

// newWeb has edit change each file that was rendered.
func newWeb(t testing.TB, h proxyhost.Host, edit ...func(text string) string) *web {
	t.Helper()
	dir, err := os.MkdirTemp("", "web-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &web{t: t, port: sshdtest.FreePort(), dir: dir}
	h.HTTP = w.port
	h.Layout = proxyhost.Layout{Etc: dir + "/etc", Run: dir + "/run", SSHD: dir + "/sshd", Site: dir + "/site", Log: dir, Cache: dir + "/cache",
		Tmpfiles: dir + "/tmpfiles", Limits: dir + "/limits", Unit: dir + "/unit", Loopback: true}
	ports := []int{w.port}
	if h.Status.Port != 0 {
		ports = append(ports, h.Status.Port)
	}
	for i := range h.Tenants {
		h.Tenants[i].Check = sshdtest.FreePort()
		ports = append(ports, h.Tenants[i].Check)
		must(t, os.MkdirAll(filepath.Join(dir, "run", h.Tenants[i].Name, "s"), 0o755))
	}
	for _, f := range render(t, h) {
		for _, e := range edit {
			f.Text = e(f.Text)
		}
		must(t, os.MkdirAll(filepath.Dir(f.Path), 0o755))
		must(t, os.WriteFile(f.Path, []byte(f.Text), 0o644))
	}
	nginxtest.Start(t, "include "+dir+"/site;", ports...)
	return w
}

// slot serves one, in the place of sshd.
func (w *web) slot(path string, handle http.HandlerFunc) {
	w.t.Helper()
	l, err := net.Listen("unix", filepath.Join(w.dir, "run", path))
	must(w.t, err)
	s := &http.Server{Handler: handle}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	w.t.Cleanup(func() { _ = s.Close(); <-done })
}

func (w *web) ask(port int, host, path string, header ...string) (int, string) {
	w.t.Helper()
	return w.send("GET", nil, port, host, path, header...)
}

func (w *web) send(method string, body io.Reader, port int, host, path string, header ...string) (int, string) {
	w.t.Helper()
	resp, text := w.do(method, body, port, host, path, header...)
	return resp.StatusCode, resp.Header.Get("Location") + text
}

// do returns the answer and its body.
func (w *web) do(method string, body io.Reader, port int, host, path string, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), body)
	must(w.t, err)
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	must(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return resp, string(text)
}

func who(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "user=%q authorization=%q", r.Header["X-Forwarded-User"], r.Header["Authorization"])
}

// Whoever may in, as whom; the question whether the address leads to the tunnel is everybody's.
func TestAccess(t *testing.T) {
	judge := sshdtest.FreePort()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", judge))
	must(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "in=1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-Auth-Request-User", "ann")
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	defer func() { _ = s.Close(); <-done }()

	app := func(name string) []proxyhost.Declared {
		return []proxyhost.Declared{{Name: "app", Host: name + ".example.com"}}
	}
	htpasswd := filepath.Join(t.TempDir(), "htpasswd")
	must(t, os.Chmod(filepath.Dir(filepath.Dir(htpasswd)), 0o755))
	must(t, os.WriteFile(htpasswd, []byte("ann:{PLAIN}secret\n"), 0o644))
	w := newWeb(t, proxyhost.Host{Tenants: []proxyhost.Tenant{
		{Name: "open", Keys: []string{key(t, 1)}, Apps: app("open")},
		{Name: "basic", Keys: []string{key(t, 1)}, Apps: app("basic"), Access: &proxyhost.Access{BasicAuth: htpasswd}},
		{Name: "list", Keys: []string{key(t, 1)}, Apps: app("list"), Access: &proxyhost.Access{Allow: []string{"0.0.0.0/0"}}},
		{Name: "sso", Keys: []string{key(t, 1)}, Apps: app("sso"), SelfService: "free.example.com",
			Access: &proxyhost.Access{AuthRequest: fmt.Sprintf("http://127.0.0.1:%d/auth", judge), SignIn: "https://login.example.com/start"}},
	}})
	for _, tenant := range []string{"open", "basic", "list", "sso"} {
		w.slot(tenant+"/s/app.2.sock", who)
	}
	w.slot("sso/s/mine.1.sock", who)
	const forged, basic, cookie = "X-Forwarded-User boss", "Authorization Basic YW5uOnNlY3JldA==", "Cookie in=1"
	for _, c := range []struct {
		host, path, header string
		status             int
		says               string
	}{
		{"open", "/", forged, 200, `user=[] authorization=[]`},
		{"open", "/", "Authorization Bearer x", 200, `user=[] authorization=["Bearer x"]`},
		{"basic", "/", forged, 401, ""},
		{"basic", "/", basic, 200, `user=["ann"] authorization=[]`},
		{"basic", "/", "Authorization Basic YW5uOndyb25n", 401, ""},
		{"list", "/", forged, 403, ""}, // this machine itself
		{"list", "/", "X-Forwarded-For 192.0.2.1", 403, ""},
		{"sso", "/x?y", forged, 302, "https://login.example.com/start?rd=http://sso.example.com/x?y"},
		{"sso", "/", cookie, 200, `user=["ann"] authorization=[]`},
		{"mine--sso.free", "/x", forged, 302, "https://login.example.com/start?rd=http://mine--sso.free.example.com/x"},
		{"mine--sso.free", "/", cookie, 200, `user=["ann"] authorization=[]`},
		{"basic", "/.well-known/taipy-tunnel", forged, 200, `user=[] authorization=[]`},
		{"list", "/.well-known/taipy-tunnel", forged, 200, `user=[] authorization=[]`},
		{"sso", "/.well-known/taipy-tunnel", forged, 200, `user=[] authorization=[]`},
		{"sso", "/taipy-tunnel-auth", cookie, 404, ""},
	} {
		name, value, _ := strings.Cut(c.header, " ")
		if status, said := w.ask(w.port, c.host+".example.com", c.path, name, value); status != c.status || !strings.HasPrefix(said, c.says) {
			t.Errorf("%s%s with %s: %d %.200q, want %d %q", c.host, c.path, c.header, status, said, c.status, c.says)
		}
	}
	for host, want := range map[string]int{"open": 200, "basic": 401, "list": 403, "sso": 401, "mine--sso.free": 401} { // by another location of nginx
		if status, said := w.send("POST", strings.NewReader(strings.Repeat("x", 2_000_000)), w.port, host+".example.com", "/"); status != want || want != 200 && strings.Contains(said, "user=") {
			t.Errorf("an upload to %s: %d %.200q, want %d", host, status, said, want)
		}
	}
	_ = s.Close()
	for _, host := range []string{"sso", "mine--sso.free"} { // nobody judges, so nobody gets in: not even where the app would say yes
		if status, said := w.ask(w.port, host+".example.com", "/", "Cookie", "in=1"); status < 500 || strings.Contains(said, "user=") {
			t.Errorf("%s, with nobody to judge: %d %.200q", host, status, said)
		}
	}
}

// The admin sees who answers and since when; never what a tenant wants to be seen there.
func TestStatusPage(t *testing.T) {
	htpasswd := filepath.Join(t.TempDir(), "htpasswd")
	must(t, os.Chmod(filepath.Dir(filepath.Dir(htpasswd)), 0o755))
	must(t, os.WriteFile(htpasswd, []byte("admin:{PLAIN}secret\n"), 0o644))
	h := proxyhost.Host{Status: proxyhost.Status{Port: sshdtest.FreePort(), BasicAuth: htpasswd}, Tenants: []proxyhost.Tenant{{Name: "alice", Keys: []string{key(t, 1)}, Host: "192.0.2.1",
		Apps: []proxyhost.Declared{{Name: "tunnel"}, {Name: "raw"}, {Name: "liar"}, {Name: "gone"}}}}}
	w := newWeb(t, h)
	w.slot("alice/s/tunnel.0.sock", func(w http.ResponseWriter, _ *http.Request) { // as the gate does
		w.Header().Set("X-Taipy-Tunnel-Since", "2026-11-25T12:00:01Z")
		w.WriteHeader(http.StatusNotFound)
	})
	w.slot("alice/s/liar.0.sock", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Taipy-Tunnel-Since", "2026-11-25T12:00:01Z<script>evil()</script>")
		w.WriteHeader(http.StatusNotFound)
	})
	w.slot("alice/s/raw.0.sock", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<script>evil()</script>") })
	if status, _ := w.ask(h.Status.Port, "x", "/"); status != 401 {
		t.Errorf("without a password: %d", status)
	}
	admin := []string{"Authorization", "Basic YWRtaW46c2VjcmV0"}
	status, page := w.ask(h.Status.Port, "x", "/", admin...)
	for _, want := range []string{`/tunnel/">tunnel</a></td><td><b>answers since 2026-11-25 12:00:01 UTC</b>`, `/liar/">liar</a></td><td><b>answers</b>`, `/raw/">raw</a></td><td><b></b>`, `/gone/">gone</a></td><td><b>away</b>`} {
		if status != 200 || !strings.Contains(page, want) || strings.Contains(page, "evil") {
			t.Errorf("%d, no %s in\n%s", status, want, page)
		}
	}
	if status, said := w.ask(h.Status.Port, "x", "/up/alice/gone", admin...); status != 200 || said != "away" {
		t.Errorf("one app: %d %s", status, said)
	}
	if status, slots := w.ask(h.Status.Port, "x", "/slots/alice/", admin...); status != 200 || !strings.Contains(slots, `"name":"tunnel.0.sock"`) || !strings.Contains(slots, `"mtime":"`) {
		t.Errorf("the slots: %d %s", status, slots)
	}
	for _, path := range []string{"/text/away", "/slots/alice/../../../etc/passwd", "/slots/"} {
		if status, said := w.ask(h.Status.Port, "x", path, admin...); status == 200 {
			t.Errorf("%s: %s", path, said)
		}
	}
}

// Who sends a head byte by byte is sent away (client_header_timeout), and others do not wait for it.
func TestSlowClientsAreEnded(t *testing.T) {
	t.Parallel()
	w := newWeb(t, typicalPlain(t))
	w.slot("sales/s/forecast.0.sock", who)
	var slow []net.Conn
	for range 300 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.port))
		must(t, err)
		defer func() { _ = c.Close() }()
		must(t, c.SetDeadline(time.Now().Add(150*time.Second)))
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: forecast.example.com\r\nX-Slow: ")
		must(t, err)
		slow = append(slow, c)
	}
	if status, said := w.ask(w.port, "forecast.example.com", "/"); status != 200 {
		t.Errorf("others get %d %s", status, said)
	}
	for _, c := range slow {
		if said, err := io.ReadAll(c); err != nil || strings.Contains(string(said), "200") {
			t.Fatalf("a slow one: %q, %v", said, err)
		}
	}
}

func typicalPlain(t testing.TB) proxyhost.Host {
	h := typical(t)
	h.TLS = proxyhost.TLS{}
	return h
}
