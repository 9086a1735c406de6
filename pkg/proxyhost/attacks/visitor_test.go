// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// judge is an authority on visitors that goes by whatever host it is told, as one or another does: a stranger may see
// all but theirs.invalid.
func judge(w http.ResponseWriter, r *http.Request) {
	for _, asked := range []string{r.Host, r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Original-URL"), r.Header.Get("Forwarded"), r.Header.Get("X-Forwarded-User")} {
		if asked != "" && !strings.Contains(asked, "theirs.invalid") {
			return
		}
	}
	w.WriteHeader(http.StatusUnauthorized)
}

// evil is an app of the thief, on its tenant's own slot and without our gate before it: it says what it was sent, and
// tries to have nginx answer in its place.
func (a *scene) evil(w http.ResponseWriter, r *http.Request) {
	if to := r.URL.Query().Get("accel"); to != "" {
		w.Header().Set("X-Accel-Redirect", to)
	}
	if a.accel != "" {
		w.Header().Set("X-Accel-Redirect", a.accel)
	}
	if r.URL.Query().Has("fill") {
		a.fill(w)
		return
	}
	_, _ = fmt.Fprintf(w, "the app was asked for %s\n", r.RequestURI)
	_, _ = fmt.Fprintf(w, "Host: %s\n", r.Host)
	_ = r.Header.Write(w)
}

// flood is more than all buffers between an app and a visitor who does not read hold.
const flood = 64 << 20

// fill has nginx keep an answer, if it lets itself be told to (X-Accel-Buffering).
func (a *scene) fill(w http.ResponseWriter) {
	w.Header().Set("X-Accel-Buffering", "yes")
	for piece := make([]byte, 64<<10); a.filled.Load() < flood; {
		n, err := w.Write(piece)
		if a.filled.Add(int64(n)); err != nil {
			return
		}
	}
}

// unread asks for it, reads nothing, and looks whether the app gets rid of all.
func (a *scene) unread() string {
	a.filled.Store(0)
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.HTTP))
	must(a.t, err)
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET /x?fill HTTP/1.1\r\nHost: board.invalid\r\nConnection: close\r\n\r\n")
	var before int64
	for last := time.Now(); time.Since(last) < 2*time.Second; time.Sleep(10 * time.Millisecond) {
		if now := a.filled.Load(); now >= flood {
			return "nginx keeps all of it"
		} else if now != before || now == 0 {
			before, last = now, time.Now()
		}
	}
	return "the app waits for the visitor"
}

// occupy serves slots of an account.
func (a *scene) occupy(user string, key ssh.Signer, handle http.HandlerFunc, paths ...string) {
	c, err := a.login(user, key)
	must(a.t, err)
	s := &http.Server{Handler: handle}
	var serving sync.WaitGroup
	for _, path := range paths {
		l, err := c.ListenUnix(path)
		must(a.t, err)
		serving.Go(func() { _ = s.Serve(l) })
	}
	a.t.Cleanup(func() { _, _ = s.Close(), c.Close(); serving.Wait() })
}

// send speaks to nginx as it is told, line by line, and returns what it answers.
func (a *scene) send(port int, lines ...string) func() string {
	return func() string {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		must(a.t, err)
		return askRaw(conn, lines)
	}
}

// askRaw sends a request, and returns the answer as it came.
func askRaw(conn net.Conn, lines []string) string {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if !strings.Contains(strings.Join(lines, ""), "Connection: ") {
		lines = append([]string{lines[0], "Connection: close"}, lines[1:]...)
	}
	_, _ = io.WriteString(conn, strings.Join(append(lines, "", ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	head, _ := httputil.DumpResponse(resp, false)
	body, _ := io.ReadAll(resp.Body)
	return string(head) + string(body)
}

func (a *scene) visitorAttacks() attacks {
	get := func(lines ...string) func() string {
		return a.send(a.HTTP, append([]string{"GET /x HTTP/1.1", "Host: board.invalid"}, lines...)...)
	}
	line := func(lines ...string) func() string { return a.send(a.HTTP, lines...) }
	logged := func(request string, status int, more string) string {
		return fmt.Sprintf(`^127\.0\.0\.1 - .*"%s" %d .*%s`, request, status, more)
	}
	// saw has what the app was sent of a header.
	saw := func(header string, do func() string) func() string {
		return func() string {
			answer := do()
			for text := range strings.Lines(answer) {
				if name, value, _ := strings.Cut(text, ": "); name == header {
					return "it sees " + strings.TrimSpace(value)
				}
			}
			return "it sees none\n" + answer
		}
	}
	reached := logged("GET /x HTTP/1.1", 200, "answered=200")
	const none = "it sees none"
	return attacks{"Visitors", "An app without the tunnel's own gate (`raw=True`) is at board.invalid, one that asks for a login at theirs.invalid, " +
		"one for other networks at closed.invalid.", []attack{
		{"`X-Forwarded-For: 192.0.2.66`", saw("X-Forwarded-For", get("X-Forwarded-For: 192.0.2.66")), "it sees 127.0.0.1", reached, ""},
		{"`X-Real-IP: 192.0.2.66`", saw("X-Real-Ip", get("X-Real-IP: 192.0.2.66")), "it sees 127.0.0.1", reached, ""},
		{"`X-Forwarded-User: boss`", saw("X-Forwarded-User", get("X-Forwarded-User: boss")), none, reached, ""},
		{"`X_Forwarded_User: boss`", saw("X_Forwarded_User", get("X_Forwarded_User: boss")), none, reached, ""},
		{"`X-Forwarded-Email: boss@example.com`", saw("X-Forwarded-Email", get("X-Forwarded-Email: boss@example.com")), none, reached, ""},
		{"`X-Forwarded-Groups: admin`", saw("X-Forwarded-Groups", get("X-Forwarded-Groups: admin")), none, reached, ""},
		{"`X-Forwarded-Preferred-Username: boss`", saw("X-Forwarded-Preferred-Username", get("X-Forwarded-Preferred-Username: boss")), none, reached, ""},
		{"`X-Auth-Request-User: boss`", saw("X-Auth-Request-User", get("X-Auth-Request-User: boss")), none, reached, ""},
		{"`Forwarded: for=192.0.2.66`", saw("Forwarded", get("Forwarded: for=192.0.2.66")), none, reached, ""},
		{"`X-Forwarded-Port: 1`", saw("X-Forwarded-Port", get("X-Forwarded-Port: 1")), none, reached, ""},
		{"`X-Forwarded-Prefix: //evil.invalid`", saw("X-Forwarded-Prefix", get("X-Forwarded-Prefix: //evil.invalid")), none, reached, ""},
		{"`X-Forwarded-Host: evil.invalid`", saw("X-Forwarded-Host", get("X-Forwarded-Host: evil.invalid")), "it sees board.invalid", reached, ""},
		{"`X-Forwarded-Proto: https`", saw("X-Forwarded-Proto", get("X-Forwarded-Proto: https")), "it sees http", reached, ""},
		{"`X-Taipy-Tunnel-Request` of another request", a.repeatedID(get), "it sees another", reached, ""},
		{"`Upgrade: h2c`", saw("Upgrade", a.send(a.HTTP, "GET /x HTTP/1.1", "Host: board.invalid", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Connection: Upgrade, HTTP2-Settings")), none, reached, ""},
		{"`GET http://theirs.invalid/`, `Host: board.invalid`", line("GET http://theirs.invalid/ HTTP/1.1", "Host: board.invalid"), "421 Misdirected Request", logged("GET / HTTP/1.1", 421, "host=theirs.invalid .*slot=- "), ""},
		{"`Host: evil.invalid`, a name of nobody's", line("GET / HTTP/1.1", "Host: evil.invalid"), "421 Misdirected Request", logged("GET / HTTP/1.1", 421, "host=evil.invalid .*slot=- "), ""},
		{"no `Host`, by HTTP/1.0", line("GET / HTTP/1.0"), "421 Misdirected Request", logged("GET / HTTP/1.0", 421, "slot=- "), ""},
		{"two `Host` headers", get("Host: theirs.invalid"), "400 Bad Request", logged("GET /x HTTP/1.1", 400, "slot=- "), ""},
		{"`Host: theirs.invalid/@board.invalid`", line("GET / HTTP/1.1", "Host: theirs.invalid/@board.invalid"), "400 Bad Request", logged("GET / HTTP/1.1", 400, "slot=- "), ""},
		{"`Content-Length` with `Transfer-Encoding`", get("Content-Length: 4", "Transfer-Encoding: chunked"), "400 Bad Request", logged("GET /x HTTP/1.1", 400, "slot=- "), ""},
		{"`CONNECT 127.0.0.1:22`", line("CONNECT 127.0.0.1:22 HTTP/1.1", "Host: board.invalid"), "400 Bad Request", `"-  -" 400 .*slot=- `, ""},
		{"a body in chunks, the end of which never comes", line("POST /x HTTP/1.1", "Host: board.invalid", "Transfer-Encoding: chunked", "", "400000", strings.Repeat("x", 2<<20)), "the app was asked for /x", logged("POST /x HTTP/1.1", 200, "answered=200"), ""},
		{"a line of the log's own, by `GET /\" 200`", line("GET /\"200 HTTP/1.1", "Host: board.invalid"), "the app was asked for", `"GET /\\x22200 HTTP/1.1" 200 `, ""},
		{"`TRACE /`", line("TRACE / HTTP/1.1", "Host: board.invalid"), "405 Not Allowed", logged("TRACE / HTTP/1.1", 405, "slot=- "), ""},
		{"`GET /../../etc/passwd`", line("GET /../../etc/passwd HTTP/1.1", "Host: board.invalid"), "400 Bad Request", `" 400 .*slot=- `, ""},
		{"theirs.invalid, without the login", line("GET / HTTP/1.1", "Host: theirs.invalid"), "401 Unauthorized", logged("GET / HTTP/1.1", 401, "host=theirs.invalid"), ""},
		{"… with a body of 2 MB, which goes another way", line("POST / HTTP/1.1", "Host: theirs.invalid", "Content-Length: 2000000"), "401 Unauthorized", logged("POST / HTTP/1.1", 401, "host=theirs.invalid"), ""},
		{"… as `X-Forwarded-Host: board.invalid`", line("GET / HTTP/1.1", "Host: theirs.invalid", "X-Forwarded-Host: board.invalid"), "401 Unauthorized", logged("GET / HTTP/1.1", 401, "host=theirs.invalid"), ""},
		{"… as `X-Original-URL: http://board.invalid/`", line("GET / HTTP/1.1", "Host: theirs.invalid", "X-Original-URL: http://board.invalid/"), "401 Unauthorized", logged("GET / HTTP/1.1", 401, "host=theirs.invalid"), ""},
		{"… as `Forwarded: host=board.invalid`", line("GET / HTTP/1.1", "Host: theirs.invalid", "Forwarded: host=board.invalid"), "401 Unauthorized", logged("GET / HTTP/1.1", 401, "host=theirs.invalid"), ""},
		{"… as `X-Forwarded-User: boss`", line("GET / HTTP/1.1", "Host: theirs.invalid", "X-Forwarded-User: boss"), "401 Unauthorized", logged("GET / HTTP/1.1", 401, "host=theirs.invalid"), ""},
		{"… as `/.well-known/taipy-tunnel/../`", line("GET /.well-known/taipy-tunnel/../x HTTP/1.1", "Host: theirs.invalid"), "401 Unauthorized", logged("GET /.*", 401, "host=theirs.invalid"), ""},
		{"… as `/.well-known/taipy-tunnel/x`", line("GET /.well-known/taipy-tunnel/x HTTP/1.1", "Host: theirs.invalid"), "401 Unauthorized", logged("GET /.*", 401, "host=theirs.invalid"), ""},
		{"… a slot by itself, as its tenant asks at the check port, `/.well-known/taipy-tunnel/slots/0`", line("GET /.well-known/taipy-tunnel/slots/0 HTTP/1.1", "Host: theirs.invalid"), "401 Unauthorized", logged("GET /.*", 401, "host=theirs.invalid"), ""},
		{"… the place that judges, `/taipy-tunnel-auth`", line("GET /taipy-tunnel-auth HTTP/1.1", "Host: theirs.invalid"), "404 Not Found", logged("GET /taipy-tunnel-auth HTTP/1.1", 404, ""), ""},
		{"the page for apps that are away, `/taipy-tunnel-away`", line("GET /taipy-tunnel-away HTTP/1.1", "Host: board.invalid"), "404 Not Found", logged("GET /taipy-tunnel-away HTTP/1.1", 404, "slot=- "), ""},
		{"a slot by itself, `/.well-known/taipy-tunnel/slots/0`", line("GET /.well-known/taipy-tunnel/slots/0 HTTP/1.1", "Host: board.invalid"), "the app was asked for /.well-known/taipy-tunnel/slots/0", logged("GET /.*", 200, "host=board.invalid .*answered=200"), ""},
		{"… with the port of a check port, in `Host`", line("GET /.well-known/taipy-tunnel/slots/0 HTTP/1.1", fmt.Sprintf("Host: theirs.invalid:%d", a.others)), "401 Unauthorized", logged("GET /.*", 401, "host=theirs.invalid"), ""},
		{"closed.invalid, from the machine itself", line("GET / HTTP/1.1", "Host: closed.invalid"), "403 Forbidden", logged("GET / HTTP/1.1", 403, "host=closed.invalid .*slot=- "), ""},
		{"… as `X-Forwarded-For: 192.0.2.1`, one of its networks'", line("GET / HTTP/1.1", "Host: closed.invalid", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1"), "403 Forbidden", logged("GET / HTTP/1.1", 403, "host=closed.invalid .*slot=- "), ""},
		{"the status page, without its password", a.send(a.status, "GET / HTTP/1.1", "Host: x"), "401 Unauthorized", logged("GET / HTTP/1.1", 401, "slot=- "), ""},
		{"… its list of sockets", a.send(a.status, "GET /slots/"+a.User+"/ HTTP/1.1", "Host: x"), "401 Unauthorized", logged("GET /slots/.*", 401, "slot=- "), ""},
		{"… its inner pages", a.send(a.status, "GET /text/answers HTTP/1.1", "Host: x", "Authorization: Basic YWRtaW46c2VjcmV0"), "404 Not Found", logged("GET /text/answers HTTP/1.1", 404, "slot=- "), ""},
	}}
}

// repeatedID sends the id of an earlier request, whose answer the tunnel still has.
func (a *scene) repeatedID(get func(...string) func() string) func() string {
	const header = "X-Taipy-Tunnel-Request: "
	id := func(answer string) string {
		_, rest, _ := strings.Cut(answer, header)
		value, _, _ := strings.Cut(rest, "\r\n")
		return value
	}
	return func() string {
		first := id(get()())
		if first == "" { // where the defence is left out: no request has one unless a visitor gives it
			first = strings.Repeat("0f", 16)
		}
		second := id(get(header + first)())
		switch {
		case second == "":
			return "no answer"
		case first == second:
			return "it sees the same"
		}
		return "it sees another"
	}
}
