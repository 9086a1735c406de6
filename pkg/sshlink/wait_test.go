// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// Who does not wait for a connection any more leaves the link to the others.
func TestDialIsGivenUp(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	l := dialLink(t, s)
	visitor, accepted := visit(t, bind(t, s, l))
	port := s.FreePort()
	_ = sshdtest.BlackHole(t, "127.0.0.1", port)
	ctx := within(t, 100*time.Millisecond)
	if c, err := l.Dial(ctx, (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()); c != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, %v", c, err)
	}
	_, _ = visitor.Write([]byte("ping"))
	if _, err := io.ReadFull(accepted, make([]byte, 4)); err != nil || isDone(l.Done()) {
		t.Fatalf("the others: %v; the link: %v", err, l.Err())
	}
}

// talk is an ssh.Conn whose server answers requests when it is told to.
type talk struct {
	ssh.Conn
	asked  []string
	answer chan bool
	ended  <-chan struct{}
}

func (s *talk) SendRequest(name string, _ bool, _ []byte) (bool, []byte, error) {
	s.asked = append(s.asked, name)
	select {
	case ok := <-s.answer:
		return ok, nil, nil
	case <-s.ended:
		return false, nil, io.EOF
	}
}

// OpenChannel opens a channel when the server answers.
func (s *talk) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	<-s.answer
	reqs := make(chan *ssh.Request)
	return late{reqs: reqs}, reqs, nil
}

// late is a channel of which nothing is wanted any more.
type late struct {
	ssh.Channel
	reqs chan *ssh.Request
}

func (c late) Close() error { close(c.reqs); return nil }

// talking is a link with nothing but requests and their answers. It ends with the test.
func talking(t *testing.T) (*Link, *talk) {
	near, far := net.Pipe()
	l := &Link{cfg: Config{Log: slog.New(slog.DiscardHandler)}, done: make(chan struct{}), asking: make(chan struct{}, 1), slots: map[string]*Listener{}, conns: map[*conn]struct{}{}}
	l.wire = newWire(near, l.tasks.Go, func() {})
	s := &talk{answer: make(chan bool), ended: l.done}
	l.ssh = s
	t.Cleanup(func() { _, _ = l.Close(), far.Close() })
	return l, s
}

// A channel that comes when nobody waits for it is closed, and what the server says on it is read until then.
func TestChannelThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := talking(t)
		if c, err := l.Dial(within(t, time.Second), "127.0.0.1:80"); c != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", c, err)
		}
		s.answer <- true
		l.Close() // returns when the channel's requests have ended
	})
}

// x/crypto may have a request for a channel wait for ever, if it comes while the link ends.
func TestCloseWithAChannelThatNeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := talking(t)
		if c, err := l.Dial(within(t, time.Second), "127.0.0.1:80"); c != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", c, err)
		}
		began := time.Now()
		_ = l.Close()
		if took := time.Since(began); took != openFor {
			t.Errorf("Close took %v", took)
		}
		s.answer <- true // so that the test can end
	})
}

// A slot that is granted too late is given back before the same one is asked for again.
func TestListenIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := talking(t)
		for range 2 { // the second waits for its turn, and never gets one
			if slot, err := l.ListenUnix(within(t, time.Second), "/s"); slot != nil || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, %v", slot, err)
			}
		}
		again := make(chan error)
		go func() { _, err := l.ListenUnix(within(t, time.Second), "/s"); again <- err }()
		for range 3 {
			s.answer <- true
		}
		if err := <-again; err != nil || isDone(l.Done()) || l.slots["/s"] == nil {
			t.Errorf("again: %v; the link: %v", err, l.Err())
		}
		listen := onSocket("/s").name
		if want := []string{listen, "cancel-" + listen, listen}; !slices.Equal(s.asked, want) {
			t.Errorf("asked %v, want %v", s.asked, want)
		}
	})
}

// What is given back is given back, whether its owner waits for that or not.
func TestCancelIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := talking(t)
		go func() { s.answer <- true }()
		slot, err := l.Listen(within(t, time.Second), 8080)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := slot.Close(); err != nil || time.Since(began) != cancelTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		s.answer <- true
		if want := []string{"tcpip-forward", "cancel-tcpip-forward"}; !slices.Equal(s.asked, want) {
			t.Errorf("asked %v, want %v", s.asked, want)
		}
	})
}

// A server that does not say for long whether it listens is not worth its link.
func TestListenThatIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := talking(t)
		began := time.Now()
		if _, err := l.Listen(within(t, time.Second), 8080); !errors.Is(err, context.DeadlineExceeded) || isDone(l.Done()) {
			t.Errorf("%v; the link: %v", err, l.Err())
		}
		<-l.Done()
		if time.Since(began) != answerWithin {
			t.Errorf("it ended after %v", time.Since(began))
		}
		wantFault(t, l.Err(), fault.ErrUnreachable, false)
	})
}

// A link that has ended is asked nothing any more, however long its caller would wait.
func TestAnswersOfALinkThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := talking(t)
		l.Close()
		if err := l.Answers(context.Background()); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}
