// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestExpectContinue: the body is asked for when the app wants it, and not if it does not.
func TestExpectContinue(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		_, _ = io.Copy(w, r.Body)
	})
	g, addr := open(t, Config{Target: at(a.addr())})
	c := dial(t, addr)
	r := bufio.NewReader(c)
	head := func(path string) string {
		return request("POST", path, "", "Content-Length: 3", "Expect: 100-continue", admitted(g))
	}
	_, _ = io.WriteString(c, head("/"))
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 100 {
		t.Fatalf("%v, %v", resp, err)
	}
	_, _ = io.WriteString(c, "abc")
	if got := read(t, r, "POST"); got.StatusCode != 200 || got.body != "abc" {
		t.Errorf("accepted: %s %q", got.Status, got.body)
	}
	_, _ = io.WriteString(c, head("/no"))
	if resp, err = http.ReadResponse(r, nil); err != nil || resp.StatusCode != 417 {
		t.Errorf("refused: %v, %v", resp, err)
	}
}

// TestInterimAnswers: hints pass, except to HTTP/1.0, where nobody expects two answers.
func TestInterimAnswers(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "done")
	})
	_, addr := open(t, Config{Target: at(a.addr()), Access: Access{Passwords: words}})
	for proto, want := range map[string][]string{"HTTP/1.1": {"103", "200", "401"}, "HTTP/1.0": {"200"}} {
		var codes []string
		got := send(t, addr, attack{text: "GET / " + proto + "\r\nHost: a\r\n" + basic("ann", "right password") + "\r\n\r\n"})
		for _, m := range statusLine.FindAllStringSubmatch(got, -1) {
			codes = append(codes, m[1])
		}
		if final := got[strings.Index(got, " 200 "):]; !slices.Equal(codes, want) || strings.Count(got, "Set-Cookie") != 1 || !strings.Contains(final, "Set-Cookie") {
			t.Errorf("%s: %v, %q", proto, codes, got)
		}
	}
}

// TestHeadersOnTheWay: hop-by-hop fields end here, those that say by whom it was forwarded are ours.
func TestHeadersOnTheWay(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("Keep-Alive", "timeout=5")
		_, _ = io.WriteString(w, "<html>"+strings.Repeat("x", 2000))
	})
	forged := []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: ftp", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6",
		"X-Forwarded-Port: 1", "X-Forwarded-Ssl: on", "X-Forwarded-User: ann", "X-Forwarded-Prefix: /ann", "X-Taipy-Tunnel-Request: 0123456789abcdef", "Connection: close, X-Secret, X-Real-IP", "X-Secret: 1", "Keep-Alive: 1", "Proxy-Connection: x", "TE: gzip", "X-Own: 1"}
	for trusted, want := range map[bool][]string{false: {"127.0.0.1", "", ""}, true: {"6.6.6.6", "/ann", "ann"}} {
		g, addr := open(t, Config{Target: at(a.addr()), TrustProxy: trusted})
		got := ask(t, addr, "GET", "/p%2Fq;v=1//x?a;b=%zz&c=%20+", "", append(forged, admitted(g))...)
		r, _ := a.last()
		if r == nil {
			t.Fatal(got.Status)
		}
		h := r.Header
		for name, value := range map[string]string{"X-Forwarded-For": want[0], "X-Real-Ip": want[0], "X-Forwarded-Host": host, "X-Forwarded-Proto": "https", "Forwarded": "",
			"X-Forwarded-Prefix": want[1], "X-Forwarded-User": want[2], "X-Forwarded-Port": "", "X-Forwarded-Ssl": "", "X-Taipy-Tunnel-Request": "", "X-Secret": "", "Keep-Alive": "", "Proxy-Connection": "", "Te": "", "X-Own": "1", "User-Agent": ""} {
			if h.Get(name) != value || len(h[name]) > 1 {
				t.Errorf("trusted %t: %s is %q, want %q", trusted, name, h[name], value)
			}
		}
		if r.RequestURI != "/p%2Fq;v=1//x?a;b=%zz&c=%20+" || r.Host != host {
			t.Errorf("the app was asked for %s of %s", r.RequestURI, r.Host)
		}
		if _, typed := got.Header["Content-Type"]; typed || got.Header.Get("X-Hop") != "" || got.Header.Get("Keep-Alive") != "" {
			t.Errorf("the visitor got %v", got.Header)
		}
		for line, want := range map[string]string{"GET http://" + host + "/x?a;b=%zz": "/x?a;b=%zz", "GET app:x?a;b=%zz": "/?a;b=%zz", "TRACE /": "", "CONNECT /": "", "CONNECT a:1": ""} {
			_, before := a.last()
			got := send(t, addr, attack{text: line + " HTTP/1.1\r\nHost: " + host + "\r\n" + admitted(g) + "\r\n\r\n"})
			if r, n := a.last(); want == "" && (n > before || !strings.Contains(got, " 405 ")) || want != "" && (n == before || r.RequestURI != want) {
				t.Errorf("%s: the app was asked for %s, the visitor got %.100q", line, r.RequestURI, got)
			}
		}
	}
}

// TestSmuggling: a request whose framing is said twice is one request, and the connection's last.
func TestSmuggling(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	g, addr := open(t, Config{Target: at(a.addr())})
	for _, text := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\n" + admitted(g) + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\n" + admitted(g) + "\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1\r\nx\r\n0\r\n\r\n",
	} {
		_, before := a.last()
		got := send(t, addr, attack{text: text + "GET /smuggled HTTP/1.1\r\nHost: a\r\n" + admitted(g) + "\r\n\r\n"})
		if r, n := a.last(); n != before+1 || r.Method != "POST" || r.Header.Get("Content-Length") != "" || strings.Count(got, "HTTP/1.1 ") != 1 {
			t.Errorf("%q: %d requests reached the app, %q", text, n-before, got)
		}
	}
}

// TestSharedCaches: what was opened by a token is for its visitor alone, whatever the app says of it.
func TestSharedCaches(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		for _, line := range r.Header["X-Says"] {
			w.Header().Add("Cache-Control", line)
		}
		w.Header().Set("CDN-Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Control", "max-age=60")
	})
	g, addr := open(t, Config{Target: at(a.addr())})
	_, public := open(t, Config{Target: at(a.addr()), Access: Access{Public: true}})
	for says, want := range map[string]string{
		"":                           "private",
		"X-Says: no-cache":           "no-cache, private",
		"X-Says: public, max-age=60": "max-age=60, private",
		"X-Says: max-age=60\r\nX-Says: S-MaxAge=9,": "max-age=60, private",
		"X-Says: no-store":                          "no-store",
		"X-Says: Private , max-age=1":               "Private, max-age=1",
		`X-Says: private="A, B", immutable`:         `private="A, B", immutable, private`,
	} {
		lines := []string{admitted(g)}
		if says != "" {
			lines = append(lines, says)
		}
		got := ask(t, addr, "GET", "/", "", lines...)
		if line := strings.Join(got.Header["Cache-Control"], " | "); line != want || got.Header.Get("CDN-Cache-Control")+got.Header.Get("Surrogate-Control") != "" {
			t.Errorf("%q became %q, want %q", says, line, want)
		}
	}
	if got := ask(t, public, "GET", "/", "", "X-Says: public"); got.Header.Get("Cache-Control") != "public" || got.Header.Get("Surrogate-Control") == "" {
		t.Errorf("an app that is open to everybody: %v", got.Header)
	}
}

// TestNoBodyIsTold: the app reads nothing of a body in what has none, on one connection for all.
func TestNoBodyIsTold(t *testing.T) {
	check(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	methods := []string{"GET", "HEAD", "OPTIONS", "GET"}
	heads := make(chan string, len(methods))
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer l.Close()
	tasks.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for range methods {
			var head strings.Builder
			for line := ""; line != "\r\n"; head.WriteString(line) {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			heads <- head.String()
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	g, addr := open(t, Config{Target: at(l.Addr().String())})
	for _, method := range methods {
		if got := ask(t, addr, method, "/", "", admitted(g)); got.StatusCode != 204 {
			t.Fatalf("%s: %s", method, got.Status)
		}
		head := <-heads
		if lower := strings.ToLower(head); !strings.HasPrefix(head, method+" / ") || strings.Contains(lower, "content-length") || strings.Contains(lower, "transfer-encoding") {
			t.Errorf("%s: %q", method, head)
		}
	}
}
