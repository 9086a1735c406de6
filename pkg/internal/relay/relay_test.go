// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
)

// ends is a relay, and where it leads.
type ends struct {
	*relay.Relay
	t   *testing.T
	far net.Listener
}

func start(t *testing.T) *ends {
	t.Helper()
	leak.Check(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &ends{relay.Start(t, l.Addr().String()), t, l}
}

// both are the two ends of a new connection, through which bytes have passed.
func (e *ends) both() (near, far net.Conn) {
	e.t.Helper()
	near, err := net.Dial("tcp", e.Addr())
	if err != nil {
		e.t.Fatal(err)
	}
	far, err = e.far.Accept()
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	pass(e.t, near, far)
	pass(e.t, far, near)
	return near, far
}

func pass(t *testing.T, from, to net.Conn) {
	t.Helper()
	got := make([]byte, 5)
	if _, err := io.WriteString(from, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

// What is open when it goes silent stays open on both sides, and carries nothing. What comes afterwards passes.
func TestMute(t *testing.T) {
	e := start(t)
	near, far := e.both()
	e.Mute()
	for _, c := range []net.Conn{near, far} {
		if _, err := io.WriteString(c, "lost"); err != nil {
			t.Error(err)
		}
	}
	_ = near.Close() // of which the other side learns nothing
	_ = far.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := far.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
	near, far = e.both()
	_ = near.Close()
	if _, err := far.Read(make([]byte, 9)); err == nil {
		t.Error("an end does not pass")
	}
}

// What is sent into a hole is not even acknowledged, either way, and no end comes. What comes afterwards passes.
func TestHole(t *testing.T) {
	e := start(t)
	near, far := e.both()
	e.Hole()
	for _, c := range []net.Conn{near, far} {
		if _, err := io.WriteString(c, "lost"); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []net.Conn{near, far} {
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // more than the longest wait for an acknowledgement
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v", n, err)
		}
		if n := unacknowledged(t, c); n != len("lost") {
			t.Errorf("%d bytes are not acknowledged", n)
		}
	}
	e.both()
	e.Resume()
	for _, c := range []net.Conn{near, far} {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second)) // what was lost is sent again
		if got := make([]byte, len("lost")); !reads(c, got) || string(got) != "lost" {
			t.Errorf("after it: %q", got)
		}
	}
	pass(t, near, far)
}

func reads(c net.Conn, b []byte) bool {
	_, err := io.ReadFull(c, b)
	return err == nil
}

// One of two goes silent, the other one does not.
func TestHoleOne(t *testing.T) {
	e := start(t)
	heard := 0
	var ends [][2]net.Conn
	for range 2 {
		near, far := e.both()
		ends = append(ends, [2]net.Conn{near, far})
	}
	e.HoleOne()
	for _, c := range ends {
		_, _ = io.WriteString(c[0], "x")
		_ = c[1].SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if reads(c[1], make([]byte, 1)) {
			heard++
		}
	}
	if heard != 1 {
		t.Errorf("%d of 2 speak", heard)
	}
}

// unacknowledged is how many bytes the kernel still has of what was sent.
func unacknowledged(t *testing.T, c net.Conn) (n int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return n
}

// The last bytes of one direction pass, and the other direction goes on.
func TestHalfClose(t *testing.T) {
	e := start(t)
	e.Delay(20 * time.Millisecond)
	near, far := e.both()
	_, _ = io.WriteString(near, "last")
	_ = near.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(far); err != nil || string(got) != "last" {
		t.Errorf("%q, %v", got, err)
	}
	pass(t, far, near)
	_ = far.(*net.TCPConn).SetLinger(0)
	_ = far.Close()
	if _, err := near.Read(make([]byte, 9)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a reset arrives as %v", err)
	}
}

// A way is as long as it is told to be, for what is open too, and many pieces are under way at a time.
func TestDelay(t *testing.T) {
	const each, many = 50 * time.Millisecond, 100
	e := start(t)
	near, far := e.both()
	e.Delay(each)
	begin := time.Now()
	pass(t, near, far)
	pass(t, far, near)
	if took := time.Since(begin); took < 2*each {
		t.Errorf("there and back took %v", took)
	}
	begin = time.Now()
	go func() {
		for range many {
			_, _ = io.WriteString(near, "hello")
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := io.ReadFull(far, make([]byte, 5*many)); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < each || took > many*each/2 {
		t.Errorf("%d pieces took %v", many, took)
	}
	begin = time.Now()
	e.both()
	if took := time.Since(begin); took < 4*each {
		t.Errorf("a new connection, and there and back, took %v", took)
	}
	e.Delay(time.Minute)
	e.Delay(0)
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	pass(t, near, far)
}

// Connections share the rate, and whoever sends is held up by it.
func TestRate(t *testing.T) {
	const rate, size = 1 << 20, 256 << 10
	e := start(t)
	e.Rate(rate)
	begin := time.Now()
	var tasks sync.WaitGroup
	for range 2 {
		near, far := e.both()
		for _, c := range [][2]net.Conn{{near, far}, {far, near}} {
			tasks.Go(func() { _, _ = c[0].Write(make([]byte, size)) })
			tasks.Go(func() {
				if _, err := io.ReadFull(c[1], make([]byte, size)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	tasks.Wait()
	took, want := time.Since(begin), 2*size*time.Second/rate
	if took < want-20*time.Millisecond || took > 10*want {
		t.Errorf("twice %d bytes each way, at %d a second, took %v", size, rate, took)
	}
	near, far := e.both()
	_ = near.(*net.TCPConn).SetWriteBuffer(16 << 10)
	_ = near.SetWriteDeadline(time.Now().Add(want / 2))
	n, err := near.Write(make([]byte, rate))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n > rate*3/4 {
		t.Errorf("wrote %d bytes in %v, %v", n, want/2, err)
	}
	e.Rate(0)
	if _, err := io.ReadFull(far, make([]byte, n)); err != nil {
		t.Error(err)
	}
}

// Those who connect are refused, or wait for an answer; what is open goes on.
func TestRefuseAndDrop(t *testing.T) {
	e := start(t)
	near, far := e.both()
	for range 2 {
		e.Refuse()
		if c, err := net.Dial("tcp", e.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v, %v", c, err)
		}
		e.Drop()
		var slow net.Error
		if c, err := net.DialTimeout("tcp", e.Addr(), 200*time.Millisecond); !errors.As(err, &slow) || !slow.Timeout() {
			t.Errorf("%v, %v", c, err)
		}
		pass(t, near, far)
	}
	passed := make(chan error, 1)
	go func() { // asks again after 1 s
		c, err := net.DialTimeout("tcp", e.Addr(), 20*time.Second)
		if err == nil {
			_, err = io.WriteString(c, "hello")
			_ = c.Close()
		}
		passed <- err
	}()
	time.Sleep(100 * time.Millisecond)
	e.Pass()
	e.Pass() // changes nothing
	far, err := e.far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	_ = far.Close()
	if err := <-passed; err != nil {
		t.Error(err)
	}
	e.both()
}
