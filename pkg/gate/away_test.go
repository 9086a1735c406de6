// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const browser = "Accept: text/html,application/xhtml+xml"

// TestAwayPages: which of the reasons it is, as a page that asks again or as words.
func TestAwayPages(t *testing.T) {
	check(t)
	a := secretApp(t)
	refused, err := net.Listen("tcp", "127.0.0.1:0") // an address where nobody listens
	if err != nil {
		t.Fatal(err)
	}
	_ = refused.Close()
	where := at(refused.Addr().String())
	g, addr := open(t, Config{Target: where})
	for _, c := range []struct{ addr, title string }{
		{refused.Addr().String(), "The app is starting"},
		{"", "The app is starting"},
		{a.addr(), ""},
		{refused.Addr().String(), "The app is restarting"},
		{"", "The app was stopped"},
		{a.addr(), ""},
	} {
		where.move(c.addr)
		page, words := ask(t, addr, "GET", "/x", "", admitted(g), browser), ask(t, addr, "POST", "/x", "a", admitted(g))
		if c.title == "" {
			if page.body != secretBody || words.StatusCode != 200 {
				t.Errorf("the app is there: %s, %s", page.Status, words.Status)
			}
			continue
		}
		for _, got := range []answer{page, words} {
			if got.StatusCode != 503 || got.Header.Get("Retry-After") == "" || got.Header.Get("Cache-Control") != "no-store" || !strings.Contains(got.body, c.title) {
				t.Errorf("%q: %s %v %q", c.title, got.Status, got.Header, got.body)
			}
		}
		if !strings.Contains(page.body, `http-equiv="refresh"`) || len(page.body) > 4<<10 || strings.Contains(words.body, "<") ||
			!strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") || !strings.HasPrefix(words.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%q: %q, %q", c.title, page.body, words.body)
		}
		if got := ask(t, addr, "GET", "/x", "", browser); got.StatusCode != 403 || strings.Contains(got.body, c.title) {
			t.Errorf("without the token: %s", got.Status)
		}
		if got := ask(t, addr, "HEAD", "/x", "", admitted(g), browser); got.StatusCode != 503 || got.body != "" {
			t.Errorf("HEAD: %s", got.Status)
		}
	}
}

// TestBusy: nobody can tell how long the process stands still, so a page says so; what a program
// asks is waited for.
func TestBusy(t *testing.T) {
	check(t)
	var busy atomic.Bool
	asked, release := make(chan struct{}, 4), make(chan struct{})
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "late")
	})
	g, addr := open(t, Config{Target: at(a.addr()), Busy: busy.Load})
	page, api := dial(t, addr), dial(t, addr)
	_, _ = io.WriteString(page, request("GET", "/", "", admitted(g), browser))
	_, _ = io.WriteString(api, request("GET", "/", "", admitted(g), "Accept: application/json"))
	<-asked
	<-asked
	busy.Store(true)
	for i := range 2 { // one that was under way, and one that comes now
		if i == 1 {
			_, _ = io.WriteString(page, request("GET", "/", "", admitted(g), browser, "Sec-Fetch-Dest: document"))
		}
		if got := read(t, bufio.NewReader(page), "GET"); got.StatusCode != 503 || !strings.Contains(got.body, "The app is busy") || got.Header.Get("Retry-After") == "" {
			t.Errorf("a page: %s %q", got.Status, got.body)
		}
	}
	close(release)
	if got := read(t, bufio.NewReader(api), "GET"); got.body != "late" {
		t.Errorf("a program: %s %q", got.Status, got.body)
	}
	if _, n := a.last(); n != 2 {
		t.Errorf("%d requests reached the app, want 2", n)
	}
}

// TestAppBreaksOff: before the head that is a 502, after it the connection breaks off as well.
func TestAppBreaksOff(t *testing.T) {
	check(t)
	addr := rawApp(t, func(c *net.TCPConn, _ *bufio.Reader, r *http.Request) {
		switch r.URL.Path {
		case "/length":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999\r\n\r\n"+text[:5000])
		case "/chunked":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n"+text[:5000]+"\r\n")
		case "/short":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
		case "/garbage":
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n")
		case "/huge":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", appHead+1)+"\r\n\r\n")
		}
	})
	g, gate := open(t, Config{Target: at(addr)})
	for _, path := range []string{"/", "/garbage", "/huge"} {
		if got := ask(t, gate, "POST", path, "x", admitted(g), browser); got.StatusCode != 502 || !strings.Contains(got.body, "broke off") {
			t.Errorf("%s: %s %q", path, got.Status, got.body)
		}
	}
	for _, path := range []string{"/length", "/chunked", "/short"} {
		for _, accept := range []string{"identity", "gzip", "zstd"} {
			c := dial(t, gate)
			_, _ = io.WriteString(c, request("GET", path, "", admitted(g), "Accept-Encoding: "+accept))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			if err == nil {
				t.Errorf("%s, %s: the answer looks complete", path, accept)
			}
		}
	}
}

// TestAppMoves: requests go where the app is now, on none of the connections to where it was.
func TestAppMoves(t *testing.T) {
	check(t)
	one, two := secretApp(t), secretApp(t)
	where := at(one.addr())
	g, addr := open(t, Config{Target: where})
	c := dial(t, addr)
	r := bufio.NewReader(c)
	for i := range 6 {
		if i == 3 {
			where.move(two.addr())
		}
		if got := askOn(t, c, r, "GET", "/", "", admitted(g)); got.StatusCode != 200 {
			t.Fatal(got.Status)
		}
	}
	_, first := one.last()
	if _, second := two.last(); first != 3 || second != 3 || one.conns.Load() != 1 || two.conns.Load() != 1 {
		t.Errorf("%d requests on %d connections and then %d on %d; want 3 on 1 each", first, one.conns.Load(), second, two.conns.Load())
	}
}

// TestMovedWhileWaiting: a server that was stopped may never answer; the new one does.
func TestMovedWhileWaiting(t *testing.T) {
	check(t)
	asked := make(chan struct{}, 1)
	stuck := newApp(t, func(_ http.ResponseWriter, r *http.Request) { asked <- struct{}{}; <-r.Context().Done() })
	next := secretApp(t)
	where := at(stuck.addr())
	g, addr := open(t, Config{Target: where})
	c := dial(t, addr)
	_, _ = io.WriteString(c, request("GET", "/", "", admitted(g)))
	<-asked
	where.move(next.addr())
	g.Moved()
	if got := read(t, bufio.NewReader(c), "GET"); got.body != secretBody {
		t.Errorf("%s %q", got.Status, got.body)
	}
}

// TestSlowHeadsEnd: who sends a head byte by byte, or nothing, does not hold a connection for ever.
func TestSlowHeadsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		openOn(t, Config{Target: at("")}, l)
		for text, most := range map[string]time.Duration{"": headTimeout, "GET / HT": headTimeout, request("GET", "/", ""): idleTimeout} {
			c, began := l.dial(), time.Now()
			tasks := make(chan struct{})
			go func() { defer close(tasks); _, _ = io.WriteString(c, text) }()
			if _, err := io.Copy(io.Discard, c); err != nil || time.Since(began) > most+time.Second {
				t.Errorf("%.10q was listened to for %s, %v", text, time.Since(began), err)
			}
			<-tasks
		}
	})
}
