// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// attack is what somebody sends who was not let in.
type attack struct {
	name string
	text string
	half bool // it is incomplete: the sender ends there
}

// upgrade are the header fields of a websocket's request.
var upgrade = []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}

// visits are requests of every kind that an app answers, by name: {method, target, body, header fields…}.
var visits = map[string][]string{
	"page":                {"GET", "/", "", "Accept: text/html"},
	"page of a browser":   {"GET", "/", "", "Accept: text/html", "Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate"},
	"asset":               {"GET", "/assets/app.js", "", "Accept-Encoding: gzip"},
	"revalidation":        {"GET", "/assets/app.js", "", `If-None-Match: "v1"`},
	"range":               {"GET", "/big.bin", "", "Range: bytes=1-3"},
	"socket.io polling":   {"GET", "/socket.io/?EIO=4&transport=polling", ""},
	"socket.io send":      {"POST", "/socket.io/?EIO=4&transport=polling&sid=1", "40"},
	"websocket":           append([]string{"GET", "/ws", ""}, upgrade...),
	"other upgrade":       {"POST", "/ws", "", "Connection: keep-alive, UPGRADE", "Upgrade: foo"},
	"REST":                {"POST", "/api/v1/jobs", `{"a":1}`, "Content-Type: application/json"},
	"chunked":             {"PUT", "/api/v1/jobs", "3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "X-Not: Content-Length"},
	"HEAD":                {"HEAD", "/", ""},
	"OPTIONS":             {"OPTIONS", "/api/", ""},
	"OPTIONS *":           {"OPTIONS", "*", ""},
	"preflight":           {"OPTIONS", "/api/", "", "Origin: https://evil.test", "Access-Control-Request-Method: PUT"},
	"DELETE":              {"DELETE", "/x", ""},
	"PROPFIND":            {"PROPFIND", "/", ""},
	"odd method":          {"G!T", "/", ""},
	"lower-case method":   {"get", "/", ""},
	"two slashes":         {"GET", "//", ""},
	"two slashes, a host": {"GET", "//evil.test/x", ""},
	"below our address":   {"GET", Path + "/..", ""},
	"beside our address":  {"GET", Path + "/", ""},
	"our address doubled": {"GET", "/.well-known//taipy-tunnel", ""},
	"through our address": {"GET", Path + "/../../", ""},
	"our address encoded": {"GET", Path + "%2f..%2f", ""},
	"semicolon":           {"GET", Path + ";x", ""},
	"encoded dots":        {"GET", "/%2e%2e/%2e%2e/etc", ""},
	"encoded slash":       {"GET", "/a%2fb%2F..", ""},
	"encoded NUL":         {"GET", "/a%00b", ""},
	"absolute form":       {"GET", "http://" + host + "/x", ""},
	"absolute, other":     {"GET", "http://127.0.0.1:1/x", ""},
	"absolute, our path":  {"GET", "http://" + host + Path + "/x", ""},
	"hash":                {"GET", "/#token=" + tokenText, ""},
	"strange query":       {"GET", "/?a;b&%zz&token", ""},
	"expects":             {"POST", "/upload", "abc", "Expect: 100-continue"},
	"early data":          append([]string{"GET", "/ws", "\x81\x00"}, upgrade...),
	"h2c":                 {"GET", "/", "", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"},
}

// forgeries are header fields with which a visitor may hope to get in, and targets with a token.
func forgeries(g *Gate) map[string][]string {
	other, _ := New(Config{Target: at(""), URL: "https://" + host, Identity: "another tunnel"})
	past, _ := GivenToken(tokenText, time.Now().Add(-time.Hour))
	future, _ := GivenToken(tokenText, time.Now().Add(time.Hour))
	random := RandomToken(time.Time{}).Text()
	swapped := strings.ToUpper(tokenText[:1]) + strings.ToLower(tokenText[1:])
	all := map[string][]string{
		"X-Forwarded-*": {"GET", "/", "", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: localhost", "X-Forwarded-Proto: https", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"},
		"prefix":        {"GET", "/", "", "X-Forwarded-Prefix: " + Path, "X-Original-URL: " + Path, "X-Rewrite-URL: " + Path},
		"method named":  {"POST", "/", "", "X-HTTP-Method-Override: GET"},
		"request id":    {"GET", "/", "", "X-Taipy-Tunnel-Request: 0123456789abcdef0123456789abcdef"},
		"same id again": {"GET", "/", "", "X-Taipy-Tunnel-Request: 0123456789abcdef0123456789abcdef"},
		"check's header": {"GET", "/", "", "X-Taipy-Tunnel-Check: 1",
			"Connection: Cookie, Authorization"},
		"another tunnel's cookie": {"GET", "/", "", cookieOf(other, tokenText)},
		"cookie's name's case":    {"GET", "/", "", "Cookie: " + strings.ToUpper(g.cookie) + "=" + tokenText},
		"cookie without a value":  {"GET", "/", "", "Cookie: " + g.cookie},
		"own origin":              {"POST", "/", "", "Origin: https://" + host},
		"POST with a link":        {"POST", "/?token=" + tokenText, "x=1"},
		"handed over elsewhere":   {"POST", Path + "/", "token=" + tokenText},
		"handed over by GET":      {"GET", Path + "/?x&token=", ""},
		"Basic":                   {"GET", "/", "", "Authorization: Basic " + tokenText},
		"no scheme":               {"GET", "/", "", "Authorization: " + tokenText},
		"proxy authorization":     {"GET", "/", "", "Proxy-Authorization: Bearer " + tokenText},
	}
	for name, text := range map[string]string{"empty": "", "short": tokenText[:len(tokenText)-1], "long": tokenText + "x", "case": swapped,
		"random": random, "expired": past.Text(), "dated": future.Text(), "space": "%20", "NUL": tokenText + "%00", "star": "*", "undefined": "undefined"} {
		all[name+" in a cookie"] = []string{"GET", "/", "", cookieOf(g, text)}
		all[name+" as Bearer"] = []string{"GET", "/", "", "Authorization: Bearer " + text}
		all[name+" in a link"] = []string{"GET", "/?token=" + text, "", "Accept: text/html"}
	}
	return all
}

// broken are requests that are none, or two.
var broken = []attack{
	{name: "HTTP/1.0", text: "GET / HTTP/1.0\r\n\r\n"},
	{name: "HTTP/0.9", text: "GET /\r\n\r\n"},
	{name: "HTTP/2 preface", text: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", half: true},
	{name: "HTTP/3.7", text: "GET / HTTP/3.7\r\nHost: a\r\n\r\n"},
	{name: "CONNECT", text: "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "CONNECT to a path", text: "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "TRACE", text: "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "opaque target", text: "GET app:x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "no host", text: "GET / HTTP/1.1\r\n\r\n"},
	{name: "two hosts", text: "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
	{name: "TE and CL", text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "CL and TE", text: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 40\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "two TE", text: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"},
	{name: "TE of two", text: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
	{name: "TE with a tab", text: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n"},
	{name: "TE in HTTP/1.0", text: "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{name: "two CL", text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nGET /"},
	{name: "CL list", text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde"},
	{name: "negative CL", text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"},
	{name: "signed CL", text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde"},
	{name: "bad chunk", text: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"},
	{name: "huge chunk", text: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n"},
	{name: "bare LF in a chunk", text: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x\nabc\r\n0\r\n\r\n"},
	{name: "unfinished chunk", text: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", half: true},
	{name: "unfinished body", text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nab", half: true},
	{name: "unfinished head", text: "GET / HTTP/1.1\r\nHost: a\r\nCookie: x", half: true},
	{name: "folded line", text: "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n Cookie: c\r\n\r\n"},
	{name: "folded first line", text: "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"},
	{name: "space before colon", text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nabcde"},
	{name: "NUL in a value", text: "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n"},
	{name: "NUL in a name", text: "GET / HTTP/1.1\r\nHost: a\r\nX\x00A: b\r\n\r\n"},
	{name: "NUL in the target", text: "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "bare CR", text: "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rCookie: c\r\n\r\n"},
	{name: "bare LF", text: "GET / HTTP/1.1\nHost: a\n\n"},
	{name: "empty lines first", text: "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "space in the target", text: "GET / x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "bad escape", text: "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "huge head", text: "GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("a", maxHead+8192) + "\r\n\r\n"},
	{name: "huge target", text: "GET /" + strings.Repeat("a", maxHead+8192) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "unknown Expect", text: "GET / HTTP/1.1\r\nHost: a\r\nExpect: something\r\n\r\n"},
	{name: "TLS", text: "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", half: true},
	{name: "nothing", text: "", half: true},
}

func attacks(g *Gate) []attack {
	all := broken
	for name, v := range visits {
		all = append(all, attack{name: name, text: request(v[0], v[1], v[2], v[3:]...)})
	}
	for name, v := range forgeries(g) {
		all = append(all, attack{name: name, text: request(v[0], v[1], v[2], v[3:]...)})
	}
	return all
}

// secretApp answers everything with the secret.
func secretApp(t testing.TB) *app {
	return newApp(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Etag", `"v1"`)
		if isUpgrade(r) {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
			w.WriteHeader(http.StatusSwitchingProtocols)
			return
		}
		http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader(secretBody))
	})
}

var statusLine = regexp.MustCompile(`HTTP/1\.[01] (\d\d\d) `)

// refused reports whether all answers in text are refusals.
func refused(text string) bool {
	for _, m := range statusLine.FindAllStringSubmatch(text, -1) {
		if m[1][0] != '4' && m[1] != "501" && m[1] != "505" {
			return false
		}
	}
	return !strings.Contains(text, secretHead) && !strings.Contains(text, secretBody)
}

// TestNothingLeavesWithoutTheToken tries all that is above, and after each attack, on the same
// connection, a request that is in order but for the token.
func TestNothingLeavesWithoutTheToken(t *testing.T) {
	check(t)
	a := secretApp(t)
	for name, cfg := range map[string]Config{
		"token":                 {},
		"behind a proxy":        {TrustProxy: true},
		"with passwords":        {Access: Access{Passwords: map[string]string{"ann": "right password"}}},
		"with its own address":  {WellKnown: http.NotFoundHandler()},
		"nobody has a token":    {Identity: "x"},
		"the app does not work": {Busy: func() bool { return true }},
	} {
		cfg.Target = at(a.addr())
		g, addr := open(t, cfg)
		if cfg.Identity == "x" {
			g.SetToken(nil)
		}
		for _, try := range attacks(g) {
			if got := send(t, addr, try); !refused(got) || got == "" && !try.half {
				t.Errorf("%s: %s: %q was answered by %.300q", name, try.name, clip(try.text), got)
			}
			if n := a.conns.Load(); n > 0 {
				t.Fatalf("%s: %s: %q reached the app", name, try.name, clip(try.text))
			}
		}
	}
}

// send returns all that comes back.
func send(t testing.TB, addr string, try attack) string {
	t.Helper()
	c := dial(t, addr)
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte(try.text)) // it may be refused before it has ended
	if try.half {
		_ = c.CloseWrite()
	} else {
		_, _ = fmt.Fprintf(c, "GET /next HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c)
	if err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("%s: %q: the connection does not end", try.name, clip(try.text))
	}
	return string(got)
}

func clip(s string) string { return s[:min(len(s), 200)] }
