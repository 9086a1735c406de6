// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

const (
	secretHead = "Secret-Of-The-App"
	secretBody = "what only visitors may read"
	tokenText  = "Zk3v9QmX7bTn2LrW5cYh8JpD"
	host       = "apps.test"
	patience   = 10 * time.Second // of a test, for what must come
)

// app is a real server that notes what reaches it.
type app struct {
	*httptest.Server
	conns atomic.Int64
	mu    sync.Mutex
	got   []*http.Request
}

// newApp starts an app. Whatever h answers bears the secret in its head.
func newApp(t testing.TB, h http.HandlerFunc) *app {
	t.Helper()
	a := &app{}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.got = append(a.got, r.Clone(context.Background()))
		a.mu.Unlock()
		w.Header().Set(secretHead, "1")
		h(w, r)
	}))
	a.Config.DisableGeneralOptionsHandler = true
	a.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			a.conns.Add(1)
		}
	}
	a.Start()
	t.Cleanup(a.Close)
	return a
}

func (a *app) addr() string { return a.Listener.Addr().String() }

// last is the newest request that reached the app, and how many did.
func (a *app) last() (*http.Request, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.got) == 0 {
		return nil, 0
	}
	return a.got[len(a.got)-1], len(a.got)
}

// place is a Target that never waits. What listens there forward tells.
type place struct {
	addr   atomic.Pointer[string]
	target forward.Target
}

func at(addr string) *place {
	p := &place{}
	p.move(addr)
	return p
}

func (p *place) move(addr string) { p.target.Set(addr); p.addr.Store(&addr) }

func (p *place) Listener() (uint64, bool) { return p.target.Listener() }

func (p *place) Addr() string { return *p.addr.Load() }

func (p *place) Dial(ctx context.Context) (net.Conn, error) {
	if p.Addr() == "" {
		return nil, errors.New("no app")
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", p.Addr())
}

// open serves a gate with a token, unless cfg says otherwise, and returns its address.
func open(t testing.TB, cfg Config) (*Gate, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, cfg, l), l.Addr().String()
}

func openOn(t testing.TB, cfg Config, l net.Listener) *Gate {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = "https://" + host + "/"
	}
	if cfg.Identity == "" {
		cfg.Identity = "me@" + host
	}
	cfg.Panicked = func(err error) { t.Error(err) }
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.SetToken(given(t, tokenText))
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() { _ = l.Close(); _ = g.Close(); tasks.Wait() })
	return g
}

func given(t testing.TB, text string) *Token {
	t.Helper()
	token, err := GivenToken(text, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// answer is one that was read to its end.
type answer struct {
	*http.Response
	body string
	err  error // of the body
}

// ask sends a request over a connection of its own and reads the answer. lines are header fields.
func ask(t testing.TB, addr, method, target, body string, lines ...string) answer {
	t.Helper()
	c := dial(t, addr)
	defer func() { _ = c.Close() }()
	return askOn(t, c, bufio.NewReader(c), method, target, body, lines...)
}

func askOn(t testing.TB, c net.Conn, r *bufio.Reader, method, target, body string, lines ...string) answer {
	t.Helper()
	text := request(method, target, body, lines...)
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return read(t, r, method)
}

func read(t testing.TB, r *bufio.Reader, method string) answer {
	t.Helper()
	var resp *http.Response
	for resp == nil || resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
		var err error
		if resp, err = http.ReadResponse(r, &http.Request{Method: method}); err != nil {
			t.Fatalf("no answer to %s: %v", method, err)
		}
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return answer{Response: resp}
	}
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b), err}
}

// request is a request as its bytes.
func request(method, target, body string, lines ...string) string {
	var b bytes.Buffer
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n")
	for _, l := range lines {
		b.WriteString(l + "\r\n")
	}
	if body != "" && !strings.Contains(strings.ToLower(strings.Join(lines, "\n")), "content-length") {
		b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	return b.String() + "\r\n" + body
}

func cookieOf(g *Gate, text string) string { return "Cookie: " + g.cookie + "=" + text }

// admitted are ours for somebody who was let in.
func admitted(g *Gate) string { return cookieOf(g, tokenText) }

func check(t testing.TB) { leak.Check(t) }

// raceDetector reports whether this test was built with -race, which slows copying down.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// pipes is a listener in memory, for tests in which time does not pass by itself.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) hand(c net.Conn) {
	select {
	case p.conns <- c:
	case <-p.ended:
		_ = c.Close()
	}
}

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.hand(theirs)
	return ours
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }
