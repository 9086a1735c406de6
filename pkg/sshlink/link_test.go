// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// config is what it takes to log in to s.
func config(t testing.TB, s *sshdtest.Server) Config {
	t.Helper()
	keys, err := sshauth.LoadKeys(s.KeyFile, "")
	if err != nil {
		t.Fatal(err)
	}
	known, err := hostkeys.New(s.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	return Config{Host: s.Host, Port: s.Port, User: s.User, Keys: keys, HostKeys: known}
}

// text is a command that is always the same.
func text(command string) func() string { return func() string { return command } }

// dialLink connects to s; the link ends with the test.
func dialLink(t testing.TB, s *sshdtest.Server) *Link {
	t.Helper()
	l, err := Dial(within(t, 20*time.Second), config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// bind takes a slot.
func bind(t testing.TB, s *sshdtest.Server, l *Link) *Listener {
	t.Helper()
	slot, err := l.Listen(within(t, 20*time.Second), s.FreePort())
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// visit connects to a slot, and returns both ends.
func visit(t testing.TB, slot *Listener) (visitor *net.TCPConn, accepted *conn) {
	t.Helper()
	c, err := net.Dial("tcp", slot.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	a, err := slot.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	for _, c := range []net.Conn{c, a} {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return c.(*net.TCPConn), a.(*conn)
}

// What a held command says is told line by line; Release ends its input, and the link stays.
func TestHeldCommand(t *testing.T) {
	leak.Check(t)
	l := dialLink(t, sshdtest.Start(t, sshdtest.Options{}))
	said, ended := make(chan string, 10), filepath.Join(t.TempDir(), "ended")
	if err := l.Hold(within(t, 20*time.Second), text("echo one; echo two; read x; touch "+ended), func(line string) { said <- line }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		select {
		case line := <-said:
			if line != want {
				t.Errorf("%q, want %q", line, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q was not told", want)
		}
	}
	if _, err := os.Stat(ended); err == nil {
		t.Fatal("it has ended by itself")
	}
	l.Release()
	l.Release()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(ended); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its input has not ended")
		}
	}
	if _, err := l.Run(within(t, 20*time.Second), "true"); err != nil {
		t.Errorf("the link: %v", err)
	}
}

func TestLinkCarriesVisitors(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l := dialLink(t, s)
	if err := l.Hold(within(t, 20*time.Second), text("sh -c 'read x' marked"), nil); err != nil {
		t.Fatal(err)
	}
	slot := bind(t, s, l)
	visitor, accepted := visit(t, slot)
	if accepted.RemoteAddr().String() != visitor.LocalAddr().String() {
		t.Errorf("RemoteAddr %v, want the visitor's, %v", accepted.RemoteAddr(), visitor.LocalAddr())
	}
	if accepted.LocalAddr().String() != slot.Addr().String() {
		t.Errorf("LocalAddr %v, want the slot's, %v", accepted.LocalAddr(), slot.Addr())
	}
	_, _ = visitor.Write([]byte("ping"))
	if _, err := io.ReadFull(accepted, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if open, bytes := l.Stats(); open != 1 || bytes != 4 {
		t.Errorf("%d open, %d bytes; want 1, 4", open, bytes)
	}
	if err := l.Close(); err != nil || l.Err() != nil {
		t.Errorf("Close: %v, Err %v", err, l.Err())
	}
	if _, err := slot.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

// The end of what one side says does not end what the other has to say.
func TestHalfCloseThroughTheSlot(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	slot := bind(t, s, dialLink(t, s))
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	exchange := func(first, second net.Conn) {
		t.Helper()
		var tasks sync.WaitGroup
		defer tasks.Wait()
		send := func(c net.Conn) {
			_, _ = c.Write(text)
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}
		tasks.Go(func() { send(first) })
		if got, err := io.ReadAll(second); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("first direction: %d bytes, %v; want %d", len(got), err, len(text))
		}
		tasks.Go(func() { send(second) })
		if got, err := io.ReadAll(first); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("second direction: %d bytes, %v; want %d", len(got), err, len(text))
		}
	}
	visitor, accepted := visit(t, slot)
	exchange(visitor, accepted)
	visitor, accepted = visit(t, slot)
	exchange(accepted, visitor)
}

// Each channel has a window of its own: who reads nothing stalls himself.
func TestSlowVisitorStallsNobody(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	slot := bind(t, s, dialLink(t, s))
	_, flooded := visit(t, slot)
	_ = flooded.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := flooded.Write(make([]byte, 64<<20)); err == nil {
		t.Fatalf("%d bytes went to a visitor who reads nothing", n)
	}
	unheard, _ := visit(t, slot) // nor does one whose app reads nothing
	_ = unheard.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := unheard.Write(make([]byte, 64<<20)); err == nil {
		t.Fatalf("%d bytes went to an app that reads nothing", n)
	}
	for range 20 {
		v, a := visit(t, slot)
		_, _ = a.Write([]byte("x"))
		if _, err := io.ReadFull(v, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilledLinkSaysSo(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l := dialLink(t, s)
	slot := bind(t, s, l)
	_, accepted := visit(t, slot)
	s.KillLinks()
	<-l.Done()
	wantFault(t, l.Err(), fault.ErrUnreachable, false)
	if _, err := io.ReadAll(accepted); err == nil {
		t.Error("a reader took the loss for the end of what was sent")
	}
	if _, err := slot.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
}

// A link on which nothing moves is dead after about two seconds; the ceiling is for busy machines.
func TestBlackHoleIsNoticed(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l := dialLink(t, s)
	begin := time.Now()
	s.StopLinks()
	select {
	case <-l.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("not noticed in 20 s")
	}
	wantFault(t, l.Err(), fault.ErrUnreachable, false)
	if took := time.Since(begin); took < patience*tick {
		t.Errorf("noticed after %v, before its patience was over", took)
	}
}

// A pause that is shorter than the patience costs nothing.
func TestPausedServerIsNotDead(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	paused(t, s, func(l *Link) {
		select {
		case <-l.Done():
		case <-time.After(patience * tick / 3):
		}
	}, func(l *Link) { visit(t, bind(t, s, l)) })
}

// paused stops a link's server while something is done, and then looks at the link: another one if the pause was longer than a link is to bear, as on a
// busy machine.
func paused(t *testing.T, s *sshdtest.Server, meanwhile, then func(*Link)) {
	t.Helper()
	for range 5 {
		l := dialLink(t, s)
		if _, err := l.Run(within(t, 20*time.Second), "true"); err != nil { // it has said something since the login
			t.Fatal(err)
		}
		all := s.Children() // which takes long on a busy machine
		signal := func(what syscall.Signal) {
			for _, pid := range all {
				_ = syscall.Kill(pid, what)
			}
		}
		begin := time.Now()
		signal(syscall.SIGSTOP)
		meanwhile(l)
		signal(syscall.SIGCONT)
		if time.Since(begin) < patience*tick*2/3 { // and the answer is to come, too
			then(l)
			return
		}
		_ = l.Close()
		s.KillLinks()
	}
	t.Error("the machine is too busy for a short pause")
}

func TestSessionIsOptional(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"MaxSessions 0"}})
	l := dialLink(t, s)
	if err := l.Hold(within(t, 20*time.Second), text("true"), nil); err != nil {
		t.Errorf("Hold where no session is permitted: %v", err)
	}
	visit(t, bind(t, s, l))
}

// A command that does not end in time costs its answer, not the link.
func TestRunEndsInTime(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l := dialLink(t, s)
	if out, err := l.Run(within(t, 20*time.Second), "echo hello"); err != nil || string(out) != "hello\n" {
		t.Errorf("%q, %v", out, err)
	}
	_, err := l.Run(within(t, 300*time.Millisecond), "while :; do echo hello; sleep 0.01; done")
	if !errors.Is(err, context.DeadlineExceeded) || isDone(l.Done()) {
		t.Errorf("got %v, the link has ended: %v", err, isDone(l.Done()))
	}
	visit(t, bind(t, s, l))
	errs := make(chan error)
	for range 5 { // of one in sixty the end of the output was taken for its answer
		go func() { _, err := l.Run(within(t, 20*time.Second), "sleep 5"); errs <- err }()
	}
	time.AfterFunc(200*time.Millisecond, func() { _ = l.Close() })
	for range 5 {
		if err := <-errs; err == nil {
			t.Error("no error, although the link has ended")
		}
	}
}

// A server that answers nothing costs the caller his answer. That the link is dead is seen by the watch.
func TestSessionThatIsNotAnswered(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	var err error
	paused(t, s, func(l *Link) { _, err = l.Run(within(t, 300*time.Millisecond), "true") }, func(l *Link) {
		if e := wantFault(t, err, fault.ErrUnreachable, false); !errors.Is(e, context.DeadlineExceeded) || isDone(l.Done()) {
			t.Errorf("got %v, the link has ended: %v", err, isDone(l.Done()))
		}
		if out, err := l.Run(within(t, 20*time.Second), "echo hello"); err != nil || string(out) != "hello\n" {
			t.Errorf("afterwards: %q, %v", out, err)
		}
	})
}

func TestDialFromTheProxy(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l := dialLink(t, s)
	srv := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = srv.Serve(inner) })
	t.Cleanup(func() { _ = srv.Close(); tasks.Wait() })
	c, err := l.Dial(within(t, 20*time.Second), inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	if got, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.0 404")) {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := l.Dial(within(t, 20*time.Second), net.JoinHostPort("127.0.0.1", strconv.Itoa(s.FreePort()))); err == nil {
		t.Error("a port where nobody listens was opened")
	}
}

// knows is what host_key=text trusts.
func knows(t testing.TB, text string) *hostkeys.Known {
	t.Helper()
	known, err := hostkeys.New(text)
	if err != nil {
		t.Fatal(err)
	}
	return known
}
