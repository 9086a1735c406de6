// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

// rawApp hands each connection to handle once the head of its first request was read.
func rawApp(t testing.TB, handle func(c *net.TCPConn, r *bufio.Reader, req *http.Request)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				if req, err := http.ReadRequest(r); err == nil {
					handle(c.(*net.TCPConn), r, req)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); tasks.Wait() })
	return l.Addr().String()
}

// echo sends back what it reads to the end, and then says so.
func echo(c *net.TCPConn, r *bufio.Reader, _ *http.Request) {
	_, _ = io.WriteString(c, switched)
	_, _ = io.Copy(c, r)
	_, _ = io.WriteString(c, "the end")
}

// upgraded is a connection after its 101.
func upgraded(t testing.TB, g *Gate, addr, early string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c := dial(t, addr)
	r := bufio.NewReader(c)
	_, _ = io.WriteString(c, request("GET", "/ws", "", append(upgrade, admitted(g))...)+early)
	if got := read(t, r, "GET"); got.StatusCode != http.StatusSwitchingProtocols || got.Header.Get("Upgrade") != "websocket" || got.Header.Get("Sec-WebSocket-Accept") == "" {
		t.Fatalf("upgrade: %s %v", got.Status, got.Header)
	}
	return c, r
}

func TestUpgradeInPieces(t *testing.T) {
	check(t)
	g, addr := open(t, Config{Target: at(rawApp(t, echo))})
	c, r := upgraded(t, g, addr, "")
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i * 7)
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() {
		rest := big
		for n := 1; len(rest) > 0; n = n*3%70001 + 1 {
			n = min(n, len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		_ = c.CloseWrite()
	})
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, append(big, "the end"...)) {
		t.Fatalf("%d bytes came back, %v; want %d", len(got), err, len(big)+7)
	}
}

// TestBytesNextToTheHead: what either side sends with its head is the connection's first bytes.
func TestBytesNextToTheHead(t *testing.T) {
	check(t)
	g, addr := open(t, Config{Target: at(rawApp(t, func(c *net.TCPConn, r *bufio.Reader, _ *http.Request) {
		_, _ = io.WriteString(c, switched+"from the app ")
		_, _ = io.Copy(c, r)
	}))})
	for _, early := range []string{"x", "from the visitor", string(bytes.Repeat([]byte("long"), 3000))} {
		c, r := upgraded(t, g, addr, early)
		_, _ = io.WriteString(c, "!")
		_ = c.CloseWrite()
		if got, err := io.ReadAll(r); err != nil || string(got) != "from the app "+early+"!" {
			t.Errorf("%d early bytes: %.60q, %v", len(early), got, err)
		}
	}
}

func TestAppEndsItsDirectionFirst(t *testing.T) {
	check(t)
	heard := make(chan string, 1)
	g, addr := open(t, Config{Target: at(rawApp(t, func(c *net.TCPConn, r *bufio.Reader, _ *http.Request) {
		_, _ = io.WriteString(c, switched+"bye")
		_ = c.CloseWrite()
		b, _ := io.ReadAll(r)
		heard <- string(b)
	}))})
	c, r := upgraded(t, g, addr, "")
	if got, err := io.ReadAll(r); err != nil || string(got) != "bye" {
		t.Fatalf("read %q, %v", got, err)
	}
	_, _ = io.WriteString(c, "still heard")
	_ = c.CloseWrite()
	if got := <-heard; got != "still heard" {
		t.Errorf("the app heard %q", got)
	}
}

// TestUpgradeEnds: one side's failure, and the gate's end, are the other's too.
func TestUpgradeEnds(t *testing.T) {
	check(t)
	ended := make(chan error, 1)
	var app *net.TCPConn
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	g := openOn(t, Config{Target: at(rawApp(t, func(c *net.TCPConn, r *bufio.Reader, _ *http.Request) {
		app = c
		_, _ = io.WriteString(c, switched)
		_, err := r.ReadByte()
		ended <- err
	}))}, l)
	c, _ := upgraded(t, g, addr, "")
	_ = c.SetLinger(0)
	_ = c.Close()
	if err := <-ended; err == nil {
		t.Error("the app did not hear of a visitor who broke off")
	}
	c, r := upgraded(t, g, addr, "x")
	<-ended
	_ = app.Close()
	if b, err := r.ReadByte(); err == nil {
		t.Errorf("the visitor read %q from an app that closed the connection", b)
	}
	_ = c.Close()
	_, r = upgraded(t, g, addr, "")
	_ = l.Close()
	_ = g.Close()
	if err := <-ended; err == nil {
		t.Error("the app did not hear of the gate's end")
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("the visitor did not hear of the gate's end")
	}
}

func TestUpgradeThatTheAppRefuses(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUpgradeRequired) })
	g, addr := open(t, Config{Target: at(a.addr())})
	c := dial(t, addr)
	r := bufio.NewReader(c)
	for range 2 { // and the connection stays what it is
		if got := askOn(t, c, r, "GET", "/ws", "", append(upgrade, admitted(g))...); got.StatusCode != http.StatusUpgradeRequired || got.body != "no\n" {
			t.Errorf("%s %q", got.Status, got.body)
		}
	}
}

// TestGigabyteBothWays: after the 101 the gate only copies.
func TestGigabyteBothWays(t *testing.T) {
	check(t)
	size := int64(1 << 30)
	if raceDetector() {
		size = 256 << 20
	}
	g, addr := open(t, Config{Target: at(rawApp(t, echo))})
	c, r := upgraded(t, g, addr, "")
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	began, sent := time.Now(), sha256.New()
	var tasks sync.WaitGroup
	tasks.Go(func() {
		source := rand.NewChaCha8([32]byte{1})
		if _, err := io.Copy(io.MultiWriter(c, sent), io.LimitReader(source, size)); err != nil {
			t.Error(err)
		}
		_ = c.CloseWrite()
	})
	got := sha256.New()
	n, err := io.Copy(got, io.LimitReader(r, size))
	tasks.Wait()
	if err != nil || n != size || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Errorf("%d bytes came back of %d, %v; their hash is equal: %t", n, size, err, bytes.Equal(got.Sum(nil), sent.Sum(nil)))
	}
	if end, err := io.ReadAll(r); err != nil || string(end) != "the end" {
		t.Errorf("and then %q, %v", end, err)
	}
	took := time.Since(began)
	t.Logf("%d MiB each way in %.1f s, %.0f MB/s", size>>20, took.Seconds(), float64(size)/1e6/took.Seconds())
}
