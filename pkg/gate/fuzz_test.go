// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// script is a connection whose visitor has said everything.
type script struct {
	net.Conn // nil: what is not below is not called
	in       *strings.Reader
	once     sync.Once
	ended    chan struct{}

	mu  sync.Mutex // of out and in
	out bytes.Buffer
}

func (s *script) Read(b []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}
func (s *script) Close() error              { s.once.Do(func() { close(s.ended) }); return nil }
func (*script) LocalAddr() net.Addr         { return &net.TCPAddr{} }
func (*script) RemoteAddr() net.Addr        { return &net.TCPAddr{} }
func (*script) SetDeadline(time.Time) error { return nil }

func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// safeBuffer is a bytes.Buffer for the log.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}
func (s *safeBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// FuzzRequestHead: whatever comes over a connection, nothing of it reaches the app unless it holds
// the token, nothing panics, and the connection ends.
func FuzzRequestHead(f *testing.F) {
	var reached atomic.Int64
	var log safeBuffer
	l := newPipes()
	defer l.Close()
	gate := openOn(f, Config{Target: at(""), TrustProxy: true, WellKnown: http.NotFoundHandler(), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, l)
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached.Add(1); w.Header().Set(secretHead, "1") })
	gate.proxy, gate.upgrades = app, app
	for _, a := range attacks(gate) {
		f.Add(a.text)
	}
	f.Add("POST " + Path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\ntoken=wrong")
	f.Fuzz(func(t *testing.T, text string) {
		s := &script{in: strings.NewReader(text + "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), ended: make(chan struct{})}
		l.hand(s)
		select {
		case <-s.ended:
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
		if strings.Contains(decode(text), tokenText) {
			reached.Store(0)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := reached.Load(); n > 0 || strings.Contains(s.out.String(), secretHead) {
			t.Fatalf("%d requests reached the app: %q", n, s.out.String())
		}
		if strings.Contains(log.String(), "panic") {
			t.Fatal(log.String())
		}
	})
}

// decode undoes percent-encoding wherever it is valid.
func decode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// FuzzQueryToken: it takes its own parameters out and nothing else, an app's of that name included.
func FuzzQueryToken(f *testing.F) {
	for _, q := range []string{"", "token=x", "a=1&token=x&b=%zz;", "token=&token=y", "token=a&b&token=x", "xtoken=1", "a&&token=%2B+&&", "Token=1", "a=token=1", "token=%zz"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for want, judge := range map[verdict]func(string) verdict{
			wrong: func(string) verdict { return wrong },
			right: func(s string) verdict { return map[bool]verdict{true: right}[strings.HasPrefix(s, "x")] },
		} {
			ours := func(p string) bool {
				value, named := strings.CutPrefix(p, "token=")
				value, _ = url.QueryUnescape(value)
				return named && judge(value) == right
			}
			text, rest, found := queryToken(query, judge)
			parts := strings.Split(query, "&")
			if !slices.ContainsFunc(parts, ours) {
				if text != "" || rest != query || found != wrong {
					t.Fatalf("%q: %q, %q, %v", query, text, rest, found)
				}
				continue
			}
			if left := strings.Join(slices.DeleteFunc(parts, ours), "&"); rest != left || found != want || judge(text) != right {
				t.Fatalf("%q: %q, the rest is %q, want %q", query, text, rest, left)
			}
		}
	})
}

// FuzzCookies: ours go, the app's stay byte for byte.
func FuzzCookies(f *testing.F) {
	ours := cookieName("x") + "=" + tokenText
	for _, c := range []string{"", "a=1", "a=\"b, c\"", "a=1;;b", " a = 1 ", "\xff", "a=" + cookiePrefix + "x", cookiePrefix, "a=\u00a0", ";", "\r" + cookiePrefix} {
		f.Add(c, "b=2")
		f.Add("b=2", c)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		h := http.Header{"Cookie": {before + "; " + ours + "; " + after, before}, "A": {"b"}}
		mine := strings.Contains(before+after, cookiePrefix)
		dropCookies(h)
		for _, line := range h["Cookie"] {
			for _, pair := range strings.Split(line, ";") {
				if strings.HasPrefix(strings.TrimLeft(pair, " \t\r\n"), cookiePrefix) {
					t.Fatalf("%q remains of %q", line, before+"; "+ours+"; "+after)
				}
			}
		}
		r := http.Request{Header: h}
		for _, c := range r.Cookies() {
			if strings.HasPrefix(c.Name, cookiePrefix) {
				t.Fatalf("%s remains in %q", c.Name, h["Cookie"])
			}
		}
		if mine {
			return
		}
		var want []string
		for _, line := range []string{before + "; " + after, before} {
			if line = strings.Trim(line, " \t"); line != "" {
				want = append(want, line)
			}
		}
		if !slices.Equal(h["Cookie"], want) {
			t.Fatalf("%q became %q", want, h["Cookie"])
		}
	})
}
