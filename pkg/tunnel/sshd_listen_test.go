// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// listen serves handler through a tunnel; the server and the tunnel end with the test.
func (c *chain) listen(t *testing.T, srv *http.Server) *tunnel.Tunnel {
	t.Helper()
	tun, err := tunnel.Listen(within(t, 20*time.Second), c.config(""))
	if err != nil {
		t.Fatalf("Listen: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(tun) }()
	t.Cleanup(func() {
		_ = tun.Close()
		if err := <-ended; !errors.Is(err, tunnel.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		_ = srv.Close() // Serve leaves idle connections to others
		_ = tun.Close() // the first one leaves what is open to itself
	})
	return tun
}

// visitor connects to the slot as nginx does.
func (c *chain) visitor(t testing.TB) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

func TestListenServesAHandler(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	from := make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		from <- r.RemoteAddr
		body, _ := io.ReadAll(r.Body) // net/http reads no more once an answer has begun
		_, _ = w.Write(body)
	})
	tun := c.listen(t, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second})
	if s := tun.Status(); s.State != tunnel.Up || s.Checked != "url" {
		t.Errorf("status %+v", s)
	}
	if got, want := tun.Addr().String(), fmt.Sprintf("127.0.0.1:%d", c.port); got != want {
		t.Errorf("Addr %s, want %s", got, want)
	}
	text := strings.Repeat("0123456789abcdef", 1<<17) // one channel window
	resp, err := http.Post(c.url, "text/plain", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(got) != text {
		t.Errorf("%d bytes came back, %v; want %d", len(got), err, len(text))
	}
	if addr := <-from; !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Errorf("RemoteAddr %q, want the address of the connection to the slot", addr)
	}
}

// echo takes a connection over, as a websocket does, and says each line back.
func echo(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			if _, err := io.WriteString(conn, "echo "+line); err != nil {
				return
			}
		}
	}
}

const upgrade = "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

// shake asks for the upgrade and reads the answer's head.
func shake(t *testing.T, conn net.Conn) *bufio.Reader {
	t.Helper()
	_, _ = io.WriteString(conn, upgrade)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	return r
}

func converse(t *testing.T, w io.Writer, r *bufio.Reader) {
	t.Helper()
	for n := range 20 {
		_, _ = fmt.Fprintf(w, "line %d\n", n)
		if got, err := r.ReadString('\n'); err != nil || got != fmt.Sprintf("echo line %d\n", n) {
			t.Fatalf("read %q, %v", got, err)
		}
	}
}

func TestUpgradedConnections(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.listen(t, &http.Server{Handler: echo(t), ReadHeaderTimeout: 10 * time.Second})
	conn := c.visitor(t)
	converse(t, conn, shake(t, conn))

	through, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(c.url, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = through.Close() }()
	_ = through.SetDeadline(time.Now().Add(20 * time.Second))
	converse(t, through, shake(t, through))
	if s := tun.Status(); s.Visitors != 2 {
		t.Errorf("%d visitors, want 2", s.Visitors)
	}
}

// The server's timeouts end what does not move; without working deadlines it would hang.
func TestServerTimeoutsWork(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	deadline := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/flood", func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := w.Write(make([]byte, 64<<20)) // more than all buffers on the way hold
		deadline <- err
	})
	c.listen(t, &http.Server{Handler: mux, ReadHeaderTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond})

	ended := func(what, request string) {
		conn := c.visitor(t)
		_, _ = io.WriteString(conn, request)
		begin := time.Now()
		if _, err := io.ReadAll(conn); err != nil || time.Since(begin) > 10*time.Second {
			t.Errorf("%s: %v after %v; want an end after 0.3 s", what, err, time.Since(begin))
		}
	}
	ended("half a head", "GET / HTTP/1.1\r\nHost:")
	ended("kept alive and idle", "GET / HTTP/1.1\r\nHost: x\r\n\r\n")

	_, _ = io.WriteString(c.visitor(t), "GET /flood HTTP/1.1\r\nHost: x\r\n\r\n") // and reads nothing
	select {
	case err := <-deadline:
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Errorf("write to a visitor who reads nothing: %v, want a timeout", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the write deadline was not kept")
	}
}

// Shutdown lets what is open end, and takes nothing new meanwhile.
func TestShutdownDrains(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.listen(t, &http.Server{Handler: echo(t), ReadHeaderTimeout: 10 * time.Second})
	conn := c.visitor(t)
	r := shake(t, conn)
	down := make(chan error, 1)
	go func() { down <- tun.Shutdown(within(t, 20*time.Second)) }()
	for deadline := time.Now().Add(10 * time.Second); c.HoldsPort(c.port); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the slot was not given back")
		}
	}
	converse(t, conn, r)
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned (%v) while a visitor was there", err)
	default:
	}
	_ = conn.Close()
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if s := tun.Status(); s.State != tunnel.StateClosed {
		t.Errorf("state %s", s.State)
	}
}

// …but not longer than its caller wants.
func TestShutdownEndsInTime(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.listen(t, &http.Server{Handler: echo(t), ReadHeaderTimeout: 10 * time.Second})
	conn := c.visitor(t)
	r := shake(t, conn)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := tun.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := r.ReadString('\n'); err == nil {
		t.Error("the connection outlived Shutdown")
	}
}

// http.Server's own Shutdown closes the tunnel, which it knows as its listener, and finishes what is under way; the
// tunnel ends with it by itself.
func TestServerShutdown(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	begun, goOn := make(chan struct{}), make(chan struct{})
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-goOn
		}
		_, _ = io.WriteString(w, "finished")
	})}
	tun := c.listen(t, srv)
	wantBody(t, c.url, "finished")
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() {
		if got, err := get(c.url + "slow"); err != nil || got != "finished" {
			t.Errorf("the visitor got %q, %v", got, err)
		}
	})
	<-begun
	down := make(chan error, 1)
	tasks.Go(func() { down <- srv.Shutdown(within(t, 20*time.Second)) })
	for deadline := time.Now().Add(10 * time.Second); c.HoldsPort(c.port); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the slot was not given back")
		}
	}
	if got, err := get(c.url); err == nil {
		t.Errorf("a new visitor got %q", got)
	}
	close(goOn)
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	await(t, tun, "its end", inState(tunnel.StateClosed))
}

// What is open outlives the first Close, and not the second. Every error afterwards says that it is closed.
func TestListenerIsClosedTwice(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := newListen(t, c)
	visitor := c.visitor(t)
	conn, err := tun.Accept()
	if err != nil {
		t.Fatal(err)
	}
	closed := func() {
		t.Helper()
		_, accept := tun.Accept()
		for what, err := range map[string]error{"Accept": accept, "Reconnect": tun.Reconnect()} {
			if !errors.Is(err, tunnel.ErrClosed) || !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	_ = tun.Close()
	closed()
	for from, to := range map[net.Conn]net.Conn{visitor: conn, conn: visitor} {
		_, _ = io.WriteString(from, "still here")
		if _, err := io.ReadFull(to, make([]byte, 10)); err != nil {
			t.Error(err)
		}
	}
	_ = tun.Close()
	if s := tun.Status(); s.State != tunnel.StateClosed {
		t.Errorf("state %s", s.State)
	}
	if got, err := io.ReadAll(visitor); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection outlived Close: %q, %v", got, err)
	}
	closed()
	if err := tun.SetTarget(""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("SetTarget: %v", err)
	}
}

// …and with the last that is open the tunnel ends by itself.
func TestListenerEndsWithItsLastConnection(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun, err := tunnel.Listen(within(t, 20*time.Second), c.config(""))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.visitor(t)
	conn, err := tun.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = tun.Close(), conn.Close()
	await(t, tun, "its end", inState(tunnel.StateClosed))
}

// A server whose tunnel was replaced learns it.
func TestAcceptTellsThatItIsReplaced(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	older := newListen(t, c)
	ended := make(chan error, 1)
	go func() { _, err := older.Accept(); ended <- err }()
	newListen(t, c)
	err := <-ended
	if s := older.Status(); s.State != tunnel.Replaced || !errors.Is(err, s.LastError) {
		t.Errorf("Accept: %v; %+v", err, s)
	}
	if err := older.Reconnect(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Reconnect: %v", err)
	}
	if _, again := older.Accept(); again == nil || again.Error() != err.Error() {
		t.Errorf("Accept again: %v", again)
	}
}

// newListen is a tunnel of which nobody takes the connections. It is closed with the test.
func newListen(t *testing.T, c *chain) *tunnel.Tunnel {
	t.Helper()
	tun, err := tunnel.Listen(within(t, 20*time.Second), c.config(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = tun.Close(), tun.Close() })
	return tun
}
