// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// Whom the server hands on while it has not heard yet that a slot is closed is served: all of a round trip were refused. Those who wait in
// the queue of its port, if it is busy, are sent away by its kernel.
func TestCloseRefusesNobodyEarly(t *testing.T) {
	leak.Check(t)
	for range 5 { // on a busy machine the server may not answer in the second for which Close waits
		if closesWhileVisitorsCome(t) {
			return
		}
	}
	t.Error("the server never answered in time")
}

// closesWhileVisitorsCome reports whether the server has answered in time.
func closesWhileVisitorsCome(t *testing.T) bool {
	t.Helper()
	s := sshdtest.Start(t, sshdtest.Options{})
	way := relay.Start(t, s.Addr())
	cfg := config(t, s)
	addr := strings.Split(way.Addr(), ":")
	cfg.Host = addr[0]
	cfg.Port, _ = strconv.Atoi(addr[1])
	l, err := Dial(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	slot := bind(t, s, l)
	way.Delay(100 * time.Millisecond)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := slot.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("x"))
			_ = c.Close()
		}
	})
	var came, lost atomic.Int32
	var closeTook atomic.Int64
	for closing := false; ; {
		c, err := net.Dial("tcp", slot.Addr().String())
		if err != nil {
			break // the server has heard
		}
		came.Add(1)
		tasks.Go(func() {
			defer func() { _ = c.Close() }()
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				lost.Add(1)
			}
		})
		if !closing {
			closing = true
			tasks.Go(func() {
				begin := time.Now()
				_ = slot.Close()
				closeTook.Store(int64(time.Since(begin)))
			})
		}
		time.Sleep(5 * time.Millisecond) // a visitor's own pace
	}
	tasks.Wait()
	handed, served := strings.Count(s.Log(), "forwarding to 127.0.0.1 port 0 requested"), int(came.Load()-lost.Load())
	refused := strings.Count(s.Log(), "open failed")
	if time.Duration(closeTook.Load()) >= cancelTimeout {
		return false
	}
	if refused > 0 || served != handed || came.Load() == 0 {
		t.Errorf("of %d visitors %d were handed on, %d refused, %d served", came.Load(), handed, refused, served)
	}
	return true
}

// Nor is one sent away whom the server handed on before it heard, and who is not with the slot yet when its answer comes.
func TestCloseWaitsForWhoIsOnTheWay(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l := dialLink(t, s)
	slot := bind(t, s, l)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() {
		if c, err := slot.Accept(); err == nil {
			_, _ = c.Write([]byte("x"))
			_ = c.Close()
		}
	})
	says := func(words string) {
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.Log(), words) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	l.mu.Lock() // which handing one on to its slot takes
	c, err := net.Dial("tcp", slot.Addr().String())
	if err != nil {
		l.mu.Unlock()
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	says("forwarding to 127.0.0.1 port 0 requested")
	begin := time.Now()
	tasks.Go(func() { _ = slot.Close() })
	says("rtype cancel-tcpip-forward")
	select {
	case <-slot.closed:
	case <-time.After(200 * time.Millisecond): // which the server's answer takes a thousandth of
	}
	early := isDone(slot.closed) && time.Since(begin) < cancelTimeout
	l.mu.Unlock()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil && time.Since(begin) < cancelTimeout || early {
		t.Errorf("closed with a visitor on the way: %v; the visitor: %v", early, err)
	}
}

// A port that was in use is asked for again in one round trip.
func TestListenAgain(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	holder, l := dialLink(t, s), dialLink(t, s)
	slot := bind(t, s, holder)
	port := slot.Addr().(*net.TCPAddr).Port
	if _, err := l.ListenAgain(within(t, 20*time.Second), port); !errors.Is(err, fault.ErrForward) || fault.IsPermanent(err) {
		t.Errorf("in use: %v", err)
	}
	_ = slot.Close()
	again, err := l.ListenAgain(within(t, 20*time.Second), port)
	if err != nil {
		t.Fatal(err)
	}
	visit(t, again)
}

func TestSlotsComeAndGo(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l := dialLink(t, s)
	slot := bind(t, s, l)
	port := slot.port
	visitor, accepted := visit(t, slot)
	if err := slot.Close(); err != nil || s.HoldsPort(port) {
		t.Fatalf("Close: %v; held %v", err, s.HoldsPort(port))
	}
	_, _ = visitor.Write([]byte("still here"))
	if _, err := io.ReadFull(accepted, make([]byte, 10)); err != nil {
		t.Errorf("a connection ended with its slot: %v", err)
	}
	again, err := l.Listen(within(t, 20*time.Second), port)
	if err != nil {
		t.Fatalf("the same port again: %v", err)
	}
	visit(t, again)
}

func TestPortsThatAreRefused(t *testing.T) {
	leak.Check(t)
	for name, c := range map[string]struct {
		options   sshdtest.Options
		port      int // 0: a free one
		permanent bool
		says      string
	}{
		"in use":               {sshdtest.Options{}, 0, false, "in use"},
		"forbidden":            {sshdtest.Options{Config: []string{"AllowTcpForwarding no"}}, 0, true, "any free port too"},
		"forbidden this way":   {sshdtest.Options{Config: []string{"AllowTcpForwarding local"}}, 0, true, "any free port too"},
		"forbidden by the key": {sshdtest.Options{AuthorizedKeys: "no-port-forwarding %s"}, 0, true, "any free port too"},
		"not on the list":      {sshdtest.Options{Config: []string{"PermitListen 127.0.0.1:82"}}, 0, true, "any free port too"},
		"privileged":           {sshdtest.Options{Unprivileged: true}, 81, true, "below 1024"},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			s := sshdtest.Start(t, c.options)
			if c.port == 0 {
				c.port = s.FreePort()
			}
			if name == "in use" {
				holder, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = holder.Close() }()
			}
			_, err := dialLink(t, s).Listen(within(t, 20*time.Second), c.port)
			e := wantFault(t, err, fault.ErrForward, c.permanent)
			if !strings.Contains(e.Error(), c.says) || e.Hint == "" {
				t.Errorf("%q, hint %q: want %q", e.Error(), e.Hint, c.says)
			}
		})
	}
}

// Where every account may have ports below 1024, as in Docker's containers, one that is refused is in use. That is set for a network of its own.
func TestLowPortsForAll(t *testing.T) {
	leak.Check(t)
	const inside = "LOW_PORTS_FOR_ALL"
	if os.Getenv(inside) == "" {
		if os.Getuid() != 0 {
			missing.Skip(t, "a network of its own needs root")
		}
		again := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-euc", `ip link set lo up; echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start; exec "$@"`,
			"sh", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), inside+"=1")
		if said, err := again.CombinedOutput(); err != nil || !strings.Contains(string(said), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, said)
		}
		return
	}
	l := dialLink(t, sshdtest.Start(t, sshdtest.Options{Unprivileged: true}))
	holder, err := net.Listen("tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Close() }()
	_, err = l.Listen(within(t, 20*time.Second), 80)
	if e := wantFault(t, err, fault.ErrForward, false); !strings.Contains(e.Error(), "in use") {
		t.Error(e)
	}
	if s, err := l.Listen(within(t, 20*time.Second), 81); err != nil {
		t.Error(err)
	} else {
		_ = s.Close()
	}
}

// The port that is asked for to tell busy from forbidden is given back.
func TestRefusalLeavesNoOtherPortBound(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l, other := dialLink(t, s), dialLink(t, s)
	slot := bind(t, s, l)
	if _, err := other.Listen(within(t, 20*time.Second), slot.port); err == nil {
		t.Fatal("two links hold one port")
	}
	if got := s.Slots(); len(got) != 1 || got[0] != slot.port {
		t.Errorf("ports %v are bound, want %d", got, slot.port)
	}
}
