// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// blackHole is a listener at an address of 127/8 whose backlog is full: further SYNs are dropped
// (listen(2), tcp_abort_on_overflow off), as by a firewall. The function that it returns takes
// one of those that wait.
func blackHole(t testing.TB, host string, port int) (accept func()) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	to := &syscall.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(host).As4()}
	if err := errors.Join(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1), syscall.Bind(fd, to), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port)).String()
	for {
		c, err := net.DialTimeout("tcp", addr, 500*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	return func() {
		n, _, err := syscall.Accept(fd)
		if err == nil {
			_ = syscall.Close(n)
		}
	}
}

// at has a name resolve to addresses.
func at(addrs ...string) lookup {
	return func(context.Context, string) (out []netip.Addr, err error) {
		for _, a := range addrs {
			out = append(out, netip.MustParseAddr(a))
		}
		return out, nil
	}
}

// Addresses that lead nowhere cost 300 ms each, and only one connection speaks with the server.
func TestConnectsOverlap(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	blackHole(t, "127.0.0.2", s.Port)
	blackHole(t, "127.0.0.3", s.Port)
	blackHole(t, "127.0.0.4", s.Port)
	for name, c := range map[string]struct {
		addrs []string
		least time.Duration
	}{
		"good one first":     {[]string{"127.0.0.1", "127.0.0.2"}, 0},
		"one black hole":     {[]string{"127.0.0.2", "127.0.0.1"}, connectStep},
		"two black holes":    {[]string{"127.0.0.2", "127.0.0.3", "127.0.0.1"}, 2 * connectStep},
		"three black holes":  {[]string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"}, connectMore},
		"refused, then good": {[]string{"127.0.0.5", "127.0.0.1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			cfg := config(t, s)
			cfg.resolve = at(c.addrs...)
			var sockets atomic.Int32
			cfg.Control = func(string, string, syscall.RawConn) error { sockets.Add(1); return nil }
			const spoke = "Remote protocol version"
			before := strings.Count(s.Log(), spoke)
			begin := time.Now()
			conn, err := cfg.connect(within(t, 20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begin)
			_ = conn.Close()
			if took < c.least || took > 10*time.Second { // a black hole would be waited for until the limit of 20 s
				t.Errorf("took %v, want %v or a little more", took, c.least)
			}
			if n := sockets.Load(); int(n) > len(c.addrs) {
				t.Errorf("%d sockets for %d addresses", n, len(c.addrs))
			}
			cfg.HostKeyAlias = "proxy"
			l, err := Dial(within(t, 20*time.Second), cfg)
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			if n := strings.Count(s.Log(), spoke) - before; n != 1 {
				t.Errorf("%d connections spoke with the server, want the last one alone", n)
			}
		})
	}
}

// A SYN that was lost is not waited for: the second connect goes to the same address.
func TestLostSYN(t *testing.T) {
	leak.Check(t)
	port := sshdtest.Start(t, sshdtest.Options{}).FreePort()
	accept := blackHole(t, "127.0.0.2", port)
	cfg := Config{Host: "127.0.0.2", Port: port}
	var sockets atomic.Int32
	second := make(chan struct{})
	cfg.Control = func(_, _ string, raw syscall.RawConn) error {
		if sockets.Add(1) != 2 {
			return nil
		}
		accept() // room for the next SYN, the first one is lost
		close(second)
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PRIORITY, 2) }) // to be told from the first
	}
	c, err := cfg.connect(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	<-second
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		if n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PRIORITY); err != nil || n != 2 {
			t.Errorf("connect %d is the one that was answered, %v: the first waits until the kernel repeats its SYN, a second later", n, err)
		}
	})
}

// While nothing answers, three connects at a time go on until the end, and begin often enough that none has to wait for
// the kernel to repeat its SYN.
func TestConnectsAreBounded(t *testing.T) {
	leak.Check(t)
	port := sshdtest.Start(t, sshdtest.Options{}).FreePort()
	for _, hole := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.6"} {
		blackHole(t, hole, port)
	}
	for name, addrs := range map[string][]string{
		"one address":    {"127.0.0.2"},
		"two addresses":  {"127.0.0.2", "127.0.0.3"},
		"four addresses": {"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.6"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var when []time.Duration
			begin := time.Now()
			cfg := Config{Host: "proxy", Port: port, resolve: at(addrs...), Control: func(string, string, syscall.RawConn) error {
				mu.Lock()
				defer mu.Unlock()
				when = append(when, time.Since(begin))
				return nil
			}}
			_, err := cfg.connect(within(t, 20*time.Second))
			if e := wantFault(t, err, fault.ErrUnreachable, false); e.Op != "connect" || !strings.Contains(e.Error(), "no answer at all") || !strings.Contains(e.Hint, "443") {
				t.Errorf("%v, hint %s", e, e.Hint)
			}
			wantMark(t, err, fault.ErrUnconnected)
			if n := len(when); n < 5 || n > 12 || when[1] < connectStep || when[2] < 2*connectStep {
				t.Errorf("connects at %v, want the first three %v apart, and some more", when, connectStep)
			}
			for i := range when[min(len(when), maxConnects):] {
				if when[i+maxConnects]-when[i] < connectMore-connectStep { // the first of four must have given way
					t.Errorf("connects at %v: more than %d at once", when, maxConnects)
				}
			}
			if last := when[len(when)-1]; last < dialTimeout-connectMore {
				t.Errorf("the last connect was at %v of %v", last, dialTimeout)
			}
		})
	}
}

// A connect that is refused ends the attempt: nothing is repeated.
func TestRefusedConnectsAreNotRepeated(t *testing.T) {
	leak.Check(t)
	port := sshdtest.Start(t, sshdtest.Options{}).FreePort()
	var sockets atomic.Int32
	cfg := Config{Host: "proxy", Port: port, resolve: at("127.0.0.2", "127.0.0.3"), Control: func(string, string, syscall.RawConn) error { sockets.Add(1); return nil }}
	_, err := cfg.connect(within(t, 20*time.Second))
	if e := wantFault(t, err, fault.ErrUnreachable, false); !strings.Contains(e.Error(), "refused") || sockets.Load() > maxConnects {
		t.Errorf("%v after %d connects", err, sockets.Load())
	}
}

func TestConnectWithoutAnAddressOrCancelled(t *testing.T) {
	leak.Check(t)
	port := sshdtest.Start(t, sshdtest.Options{}).FreePort()
	blackHole(t, "127.0.0.2", port)
	cfg := Config{Host: "proxy", Port: port}
	cfg.resolve = at()
	_, err := cfg.connect(within(t, time.Second))
	if e := wantFault(t, err, fault.ErrUnreachable, false); e.Op != "resolve" {
		t.Errorf("no address: %v", e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cfg.resolve = at("127.0.0.2")
	cfg.Control = func(string, string, syscall.RawConn) error { cancel(); return nil }
	cfg.Keys, cfg.HostKeys = newKeys(t), &HostKeys{pins: []string{"SHA256:x"}}
	if _, err := Dial(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFamiliesAlternate(t *testing.T) {
	list := func(addrs ...string) []netip.Addr { l, _ := at(addrs...)(t.Context(), ""); return l }
	got := interleave(list("2001:db8::1", "2001:db8::2", "2001:db8::3", "::ffff:192.0.2.1", "192.0.2.2"))
	if want := list("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
