// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
)

// leavers is a listener whose connections leave when it says so.
type leavers struct {
	net.Listener
	now atomic.Bool
}

type leavingConn struct {
	*net.TCPConn
	of *leavers
}

func (l *leavers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return leavingConn{c.(*net.TCPConn), l}, nil
}

func (c leavingConn) Leaves() bool { return c.of.now.Load() }

// The answer that follows, whatever it is, is the last on a connection that leaves. What it became by an upgrade stays.
func TestAConnectionThatLeavesEndsWithItsAnswer(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	for _, trusted := range []bool{false, true} {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := &leavers{Listener: tcp}
		target := at(a.addr())
		g := openOn(t, Config{Target: target, TrustProxy: trusted}, l)
		for what, c := range map[string]struct {
			path, header string
			status       int
		}{
			"the app's":  {"/", admitted(g), http.StatusOK},
			"a refusal":  {"/", "X-Nothing: 1", http.StatusForbidden},
			"the gate's": {Path, admitted(g), http.StatusNotFound},
		} {
			l.now.Store(false)
			conn := dial(t, tcp.Addr().String())
			r := bufio.NewReader(conn)
			for _, ends := range []bool{false, false, true} {
				l.now.Store(ends)
				_, _ = io.WriteString(conn, request("GET", c.path, "", c.header, requestID+": "+rand.Text()))
				if got := read(t, r, "GET"); got.StatusCode != c.status || got.Close != ends {
					t.Errorf("%s, trusted %v: %s, is the last: %v; want %d, %v", what, trusted, got.Status, got.Close, c.status, ends)
				}
			}
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("%s, trusted %v: the connection is open: %v", what, trusted, err)
			}
		}
		target.move(rawApp(t, echo))
		conn := dial(t, tcp.Addr().String())
		r := bufio.NewReader(conn)
		_, _ = io.WriteString(conn, request("GET", "/ws", "", append(upgrade, admitted(g))...))
		if got := read(t, r, "GET"); got.StatusCode != http.StatusSwitchingProtocols || got.Header.Get("Connection") != "Upgrade" {
			t.Errorf("upgrade: %s %v", got.Status, got.Header)
		}
		_, _ = io.WriteString(conn, "still here")
		_ = conn.CloseWrite()
		if got, err := io.ReadAll(r); err != nil || string(got) != "still herethe end" {
			t.Errorf("%q, %v", got, err)
		}
	}
}
