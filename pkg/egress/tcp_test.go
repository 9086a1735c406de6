// SPDX-License-Identifier: Apache-2.0

//go:build linux

package egress

import (
	"context"
	"errors"
	"io"
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
	sshdtest.BlackHole(t, "127.0.0.2", s.Port)
	sshdtest.BlackHole(t, "127.0.0.3", s.Port)
	sshdtest.BlackHole(t, "127.0.0.4", s.Port)
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
			d := Dialer{resolve: at(c.addrs...)}
			var sockets atomic.Int32
			d.Control = func(string, string, syscall.RawConn) error { sockets.Add(1); return nil }
			const spoke = "Remote protocol version"
			before := strings.Count(s.Log(), spoke)
			begin := time.Now()
			conn, err := d.Dial(within(t, 20*time.Second), "proxy", s.Port)
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
			if conn, err = d.Dial(within(t, 20*time.Second), "proxy", s.Port); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "SSH-2.0-test\r\n")
			_, _ = io.Copy(io.Discard, io.LimitReader(conn, 512)) // more than a banner: it has heard us
			_ = conn.Close()
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
	accept := sshdtest.BlackHole(t, "127.0.0.2", port)
	var d Dialer
	var sockets atomic.Int32
	second := make(chan struct{})
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		if sockets.Add(1) != 2 {
			return nil
		}
		accept() // room for the next SYN, the first one is lost
		close(second)
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PRIORITY, 2) }) // to be told from the first
	}
	c, err := d.Dial(within(t, 10*time.Second), "127.0.0.2", port)
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
		sshdtest.BlackHole(t, hole, port)
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
			d := Dialer{resolve: at(addrs...), Control: func(string, string, syscall.RawConn) error {
				mu.Lock()
				defer mu.Unlock()
				when = append(when, time.Since(begin))
				return nil
			}}
			_, err := d.Dial(within(t, 20*time.Second), "proxy", port)
			if e := wantFault(t, err, fault.ErrUnreachable, false); e.Op != "connect" || !strings.Contains(e.Error(), "no answer at all") || !strings.Contains(e.Hint.String(), "443") {
				t.Errorf("%v, hint %s", e, e.Hint)
			}
			if !errors.Is(err, fault.ErrUnconnected) || errors.Is(err, fault.ErrOverload) || errors.Is(err, fault.ErrPatience) {
				t.Errorf("%v has other marks", err)
			}
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
	d := Dialer{resolve: at("127.0.0.2", "127.0.0.3"), Control: func(string, string, syscall.RawConn) error { sockets.Add(1); return nil }}
	_, err := d.Dial(within(t, 20*time.Second), "proxy", port)
	if e := wantFault(t, err, fault.ErrUnreachable, false); !strings.Contains(e.Error(), "refused") || sockets.Load() > maxConnects {
		t.Errorf("%v after %d connects", err, sockets.Load())
	}
}

func TestConnectWithoutAnAddress(t *testing.T) {
	_, err := (&Dialer{resolve: at()}).Dial(within(t, time.Second), "proxy", 22)
	if e := wantFault(t, err, fault.ErrUnreachable, false); e.Op != "resolve" {
		t.Errorf("no address: %v", e)
	}
}

func TestFamiliesAlternate(t *testing.T) {
	list := func(addrs ...string) []netip.Addr { l, _ := at(addrs...)(t.Context(), ""); return l }
	got := interleave(list("2001:db8::1", "2001:db8::2", "2001:db8::3", "::ffff:192.0.2.1", "192.0.2.2"))
	if want := list("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func wantFault(t testing.TB, err, class error, permanent bool) *fault.Error {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || !errors.Is(err, class) || e.Permanent != permanent {
		t.Fatalf("error %v (%T), want class %v, permanent %v", err, err, class, permanent)
	}
	return e
}
