// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// rooms is a listener whose connections have room for one upload together.
type rooms struct {
	net.Listener
	taken atomic.Int64
}

type roomConn struct {
	*net.TCPConn
	*rooms
}

func (l *rooms) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return roomConn{c.(*net.TCPConn), l}, nil
}

func (c roomConn) Close() error   { return c.TCPConn.Close() }
func (c roomConn) Addr() net.Addr { return c.TCPConn.LocalAddr() }

func (l *rooms) Room(<-chan struct{}) func() {
	if !l.taken.CompareAndSwap(0, 1) {
		return nil
	}
	return func() { l.taken.Store(0) }
}

// An upload for which there is no room is told so while it comes; nothing else is.
func TestUploadsWithoutRoom(t *testing.T) {
	for name, trusted := range map[string]bool{"plain proxy": false, "prepared proxy": true} {
		t.Run(name, func(t *testing.T) {
			check(t)
			began, end := make(chan struct{}), make(chan struct{})
			letGo := sync.OnceFunc(func() { close(end) })
			a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/unread" {
					close(began)
					<-end
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, "taken")
			})
			t.Cleanup(letGo) // before the app is closed
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &rooms{Listener: tcp}
			g := openOn(t, Config{Target: at(a.addr()), TrustProxy: trusted}, l)
			addr := tcp.Addr().String()
			large := strings.Repeat("x", 2<<20)

			c := dial(t, addr)
			go func() { // more than sockets take
				_, _ = io.WriteString(c, request("POST", "/unread", strings.Repeat(large, 8), admitted(g)))
			}()
			<-began
			refused := ask(t, addr, "POST", "/", large, admitted(g))
			if refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" || !strings.Contains(refused.body, "Too many uploads") {
				t.Errorf("%s %v %q", refused.Status, refused.Header, refused.body)
			}
			for _, small := range []string{"", strings.Repeat("x", roomless)} {
				if got := ask(t, addr, "POST", "/", small, admitted(g)); got.body != "taken" {
					t.Errorf("%d bytes: %s %q", len(small), got.Status, got.body)
				}
			}
			letGo()
			if got := read(t, bufio.NewReader(c), "POST"); got.body != "taken" || l.taken.Load() != 0 {
				t.Errorf("the first: %s %q, %d", got.Status, got.body, l.taken.Load())
			}
			if got := ask(t, addr, "POST", "/", large, admitted(g)); got.body != "taken" {
				t.Errorf("afterwards: %s %q", got.Status, got.body)
			}
		})
	}
}
