// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// serve starts a server for single connections and returns its address.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	l := listen(t)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { defer c.Close(); handle(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { l.Close(); tasks.Wait() })
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start forwards from a new listener and returns its address.
func start(t *testing.T, f *Forwarder) string {
	t.Helper()
	l := listen(t)
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = f.Serve(l) })
	t.Cleanup(func() { l.Close(); f.Close(); tasks.Wait() })
	return l.Addr().String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func to(addr string) *Forwarder {
	f := &Forwarder{Target: &Target{}}
	f.Target.Set(addr)
	return f
}

func TestHalfCloseBothWays(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	app := serve(t, func(c *net.TCPConn) {
		got, err := io.ReadAll(c) // the visitor's end comes through while it still listens
		if err == nil {
			_, _ = c.Write(got)
		}
	})
	c := dial(t, start(t, to(app)))
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { _, _ = c.Write(big); _ = c.CloseWrite() })
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("%d bytes came back, %v; want %d", len(got), err, len(big))
	}
}

func TestAppThatEndsFirstIsHeardToTheEnd(t *testing.T) {
	app := serve(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("goodbye"))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
	c := dial(t, start(t, to(app)))
	if got, err := io.ReadAll(c); err != nil || string(got) != "goodbye" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := c.Write([]byte("still heard")); err != nil {
		t.Fatalf("the other direction ended too: %v", err)
	}
}

func TestSlowVisitorStallsNobody(t *testing.T) {
	app := serve(t, func(c *net.TCPConn) {
		first := make([]byte, 1)
		if _, err := c.Read(first); err != nil {
			return
		}
		if first[0] == 'b' {
			_, _ = c.Write(make([]byte, 32<<20)) // more than all buffers on the way hold
			return
		}
		_, _ = c.Write(first)
	})
	addr := start(t, to(app))
	slow := dial(t, addr)
	_, _ = slow.Write([]byte("b"))
	if _, err := io.ReadFull(slow, make([]byte, 1)); err != nil { // it flows, and then nobody reads
		t.Fatal(err)
	}
	for range 50 {
		c := dial(t, addr)
		_, _ = c.Write([]byte("x"))
		if got, err := io.ReadAll(io.LimitReader(c, 1)); err != nil || string(got) != "x" {
			t.Fatalf("read %q, %v", got, err)
		}
		c.Close()
	}
}

func TestConnectionsFollowTheTarget(t *testing.T) {
	name := func(n string) func(*net.TCPConn) {
		return func(c *net.TCPConn) { _, _ = c.Write([]byte(n)) }
	}
	f := to(serve(t, name("first")))
	addr := start(t, f)
	read := func() string { b, _ := io.ReadAll(dial(t, addr)); return string(b) }
	if got := read(); got != "first" {
		t.Fatalf("read %q", got)
	}
	f.Target.Set(serve(t, name("second")))
	if got := read(); got != "second" {
		t.Fatalf("after the move: read %q", got)
	}
}

// A connection that is refused waits for a newer address: an app's cell is being run again.
func TestRefusedConnectionWaitsForTheMove(t *testing.T) {
	gone := listen(t)
	gone.Close()
	f := to(gone.Addr().String())
	refused := make(chan struct{}, 10)
	f.Dialled = func(_ string, err error) {
		if err != nil {
			refused <- struct{}{}
		}
	}
	addr := start(t, f)
	c := dial(t, addr)
	f.Target.Set(serve(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("here")) }))
	if got, err := io.ReadAll(c); err != nil || string(got) != "here" {
		t.Fatalf("read %q, %v", got, err)
	}
	f.Target.Set("")
	if got, err := io.ReadAll(dial(t, addr)); err != nil || len(got) != 0 {
		t.Fatalf("with no target: read %q, %v; want a clean end", got, err)
	}
	<-refused
}

func TestDialGivesUp(t *testing.T) {
	var target Target
	if _, err := target.Dial(t.Context()); !errors.Is(err, ErrNoTarget) {
		t.Errorf("no target: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := target.Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCloseEndsOpenConnections(t *testing.T) {
	app := serve(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	f := to(app)
	c := dial(t, start(t, f))
	_, _ = c.Write([]byte("x"))
	_, _ = io.ReadFull(c, make([]byte, 1))
	f.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived Close")
	}
}

// An app that writes head and body apart with Nagle's algorithm on, as Taipy does, would wait
// 40 ms in each answer for an acknowledgement that the kernel delays.
func TestAnswersInTwoWritesAreNotDelayed(t *testing.T) {
	app := serve(t, func(c *net.TCPConn) {
		_ = c.SetNoDelay(false)
		for b := make([]byte, 1); ; {
			if _, err := c.Read(b); err != nil {
				return
			}
			_, _ = c.Write([]byte("head"))
			_, _ = c.Write([]byte("body"))
		}
	})
	c := dial(t, start(t, to(app)))
	var took []time.Duration
	for range 50 {
		begin := time.Now()
		_, _ = c.Write([]byte("?"))
		if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	if half := took[len(took)/2]; half >= 40*time.Millisecond {
		t.Errorf("half of the answers took %v or more: they wait for delayed acknowledgements", half)
	}
}

// What an app does not read waits at its visitor's side, not in the kernel of this machine.
func TestKernelHoldsLittle(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var target Target
	target.Set(l.Addr().String())
	c, err := target.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	if n, err := c.Write(make([]byte, 16<<20)); err == nil || n > 2<<20 {
		t.Errorf("%d bytes were taken of an app that reads none, %v", n, err)
	}
}
