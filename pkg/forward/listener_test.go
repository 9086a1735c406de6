// SPDX-License-Identifier: Apache-2.0

//go:build linux

package forward

import (
	"context"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

// bind listens; share: with others on the port.
func bind(t testing.TB, network, addr string, share bool) net.Listener {
	t.Helper()
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if share {
			_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		}
		return err
	}}
	l, err := c.Listen(context.Background(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func at(t testing.TB, host string, l net.Listener) *Target {
	t.Helper()
	target := &Target{}
	target.Set(net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
	return target
}

// TestListener: whatever a connection reaches is found, and another socket on the port is another one.
func TestListener(t *testing.T) {
	leak.Check(t)
	lan := ""
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip := a.(*net.IPNet).IP; ip.IsGlobalUnicast() && ip.To4() != nil {
			lan = ip.String()
		}
	}
	for _, c := range []struct{ network, addr, host string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"}, {"tcp4", "127.0.0.1:0", "localhost"}, {"tcp4", "127.0.0.1:0", "0.0.0.0"}, {"tcp4", "127.0.0.1:0", ""},
		{"tcp4", "127.0.0.1:0", "::ffff:127.0.0.1"}, {"tcp4", "127.0.0.7:0", "127.0.0.7"}, {"tcp4", "0.0.0.0:0", "127.0.0.1"}, {"tcp4", "0.0.0.0:0", lan},
		{"tcp6", "[::1]:0", "::1"}, {"tcp6", "[::1]:0", "localhost"}, {"tcp6", "[::]:0", "::1"}, {"tcp", "[::]:0", "127.0.0.1"},
		{"tcp", "[::]:0", "::1"}, {"tcp", "[::]:0", "localhost"}, {"tcp", "[::]:0", "::"},
	} {
		if c.host == "" && c.addr == "0.0.0.0:0" {
			continue // a machine without a network
		}
		l := bind(t, c.network, c.addr, false)
		target := at(t, c.host, l)
		one, known := target.Listener()
		if again, _ := target.Listener(); one == 0 || !known || again != one {
			t.Errorf("%+v: %d %v, then %d", c, one, known, again)
		}
		_ = l.Close()
		if gone, known := target.Listener(); gone != 0 || !known {
			t.Errorf("%+v: closed, but %d %v", c, gone, known)
		}
		l = bind(t, c.network, l.Addr().String(), false)
		if two, known := target.Listener(); two == 0 || two == one || !known {
			t.Errorf("%+v: %d %v after %d", c, two, known, one)
		}
		_ = l.Close()
	}
}

// TestListenerElsewhere: a socket of this machine says nothing of another machine's with the same port.
func TestListenerElsewhere(t *testing.T) {
	l := bind(t, "tcp", "[::]:0", false)
	for _, host := range []string{"192.0.2.1", "2001:db8::1", "app.example", "x:y"} {
		if id, known := at(t, host, l).Listener(); id != 0 || !known {
			t.Errorf("%s: %d %v", host, id, known)
		}
	}
	if id, known := (&Target{}).Listener(); id != 0 || !known {
		t.Errorf("no app: %d %v", id, known)
	}
}

// TestListenersThatShareAPort: to which of them a connection went cannot be told, also if one came later.
func TestListenersThatShareAPort(t *testing.T) {
	leak.Check(t)
	one := bind(t, "tcp4", "127.0.0.1:0", true)
	target := at(t, "127.0.0.1", one)
	first, _ := target.Listener()
	two := bind(t, "tcp4", one.Addr().String(), true)
	c, err := target.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if id, known := target.Listener(); known {
		t.Errorf("two share the port, and it is %d", id)
	}
	_ = one.Close()
	if id, known := target.Listener(); !known || id == 0 || id == first {
		t.Errorf("one is left: %d %v", id, known)
	}
	_ = two.Close()
}

// TestListenerWithoutDescriptors: a process that may open no more is told nothing, rather than that
// the app has gone.
func TestListenerWithoutDescriptors(t *testing.T) {
	target := at(t, "127.0.0.1", bind(t, "tcp4", "127.0.0.1:0", false))
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 3, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, known := target.Listener()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if known {
		t.Error("it was told without a descriptor")
	}
}

func BenchmarkListener(b *testing.B) {
	target := at(b, "127.0.0.1", bind(b, "tcp4", "127.0.0.1:0", false))
	for b.Loop() {
		target.Listener()
	}
}

// TestDialMeetsTheNextServer: an app that restarts on its own port is waited for.
func TestDialMeetsTheNextServer(t *testing.T) {
	leak.Check(t)
	l := bind(t, "tcp4", "127.0.0.1:0", false)
	target := at(t, "127.0.0.1", l)
	_ = l.Close()
	next := make(chan net.Listener, 1)
	time.AfterFunc(redial/2, func() { // after the first attempt
		l, err := net.Listen("tcp4", l.Addr().String())
		if err != nil {
			t.Error(err)
		}
		next <- l
	})
	c, err := target.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Close(), (<-next).Close()
}

// TestLocalhostStaysWithTheApp: of the two addresses that localhost is, the one where the app was found has its connections, whatever
// else comes to listen at the other one, and again when it is back.
func TestLocalhostStaysWithTheApp(t *testing.T) {
	leak.Check(t)
	for _, c := range []struct{ app, stranger string }{{"[::1]:0", "127.0.0.1"}, {"127.0.0.1:0", "::1"}} {
		app := bind(t, "tcp", c.app, false)
		target := at(t, "localhost", app)
		port := strconv.Itoa(app.Addr().(*net.TCPAddr).Port)
		meets := func(when string, l net.Listener, dial func() (net.Conn, error)) {
			t.Helper()
			conn, err := dial()
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if got := conn.RemoteAddr().String(); got != l.Addr().String() {
				t.Errorf("%s: connected to %s, want %s", when, got, l.Addr())
			}
			_ = conn.Close()
		}
		visit := func() (net.Conn, error) { return target.Dial(t.Context()) }
		meets("looked for", app, func() (net.Conn, error) { return target.DialAddr(t.Context(), target.Addr()) })
		mine, _ := target.Listener()
		stranger := bind(t, "tcp", net.JoinHostPort(c.stranger, port), false)
		meets("beside a stranger", app, visit)
		if id, known := target.Listener(); id != mine || !known {
			t.Errorf("%s: beside a stranger the listener is %d, not %d", c.app, id, mine)
		}
		_ = app.Close()
		meets("gone", stranger, visit)
		if id, known := target.Listener(); id == 0 || id == mine || !known {
			t.Errorf("%s: gone, but the listener is %d", c.app, id)
		}
		app = bind(t, "tcp", app.Addr().String(), false)
		meets("back", app, visit)
		target.Set("")
		target.Set(net.JoinHostPort("localhost", port))
		if c.stranger == "127.0.0.1" {
			meets("named again", stranger, visit)
		}
		_, _ = app.Close(), stranger.Close()
	}
}

// TestLocalhostOfAnAppThatStandsStill: an app that accepts nothing, with a full backlog, is waited for; a stranger at the other address is
// not asked in its place.
func TestLocalhostOfAnAppThatStandsStill(t *testing.T) {
	leak.Check(t)
	app := bind(t, "tcp", "[::1]:0", false)
	target := at(t, "localhost", app)
	raw, err := app.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) })
	if err != nil {
		t.Fatal(err)
	}
	c, err := target.Dial(t.Context()) // the only one that has room
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	stranger := bind(t, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(app.Addr().(*net.TCPAddr).Port)), false)
	if c, err := target.DialAddr(t.Context(), target.Addr()); err == nil {
		t.Errorf("connected to %s", c.RemoteAddr())
		_ = c.Close()
	}
	_ = stranger.Close()
}
