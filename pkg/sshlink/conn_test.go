// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/net/nettest"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
)

// pair returns the two ends of one SSH channel, through a real x/crypto client and server.
func pair(t testing.TB) (a, b *conn, stop func()) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var tasks guard.Group
	far := make(chan ssh.Channel, 1)
	tasks.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		cfg := &ssh.ServerConfig{NoClientAuth: true}
		cfg.AddHostKey(signer)
		_, chans, reqs, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		tasks.Go(func() { ssh.DiscardRequests(reqs) })
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { ssh.DiscardRequests(reqs) })
			far <- ch
		}
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client, chans, reqs, err := ssh.NewClientConn(c, "test", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	tasks.Go(func() { ssh.DiscardRequests(reqs) })
	tasks.Go(func() {
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "")
		}
	})
	near, reqs2, err := client.OpenChannel("test", nil)
	if err != nil {
		t.Fatal(err)
	}
	tasks.Go(func() { ssh.DiscardRequests(reqs2) })
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	wrap := func(ch ssh.Channel) *conn { return newConn(ch, &host{start: tasks.Go}, addr, addr) }
	a, b = wrap(near), wrap(<-far)
	return a, b, func() {
		_, _ = a.Close(), b.Close()
		_ = client.Close()
		tasks.Wait()
	}
}

// The connection passes the test that the standard library's own connections pass.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b, stop := pair(t)
		return a, b, stop, nil
	})
}

func TestHalfCloseKeepsTheOtherDirection(t *testing.T) {
	a, b, stop := pair(t)
	defer stop()
	question, answer := bytes.Repeat([]byte("question "), 50_000), bytes.Repeat([]byte("answer "), 50_000)
	var tasks guard.Group
	tasks.Go(func() {
		_, _ = a.Write(question)
		_ = a.CloseWrite()
	})
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, question) {
		t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(question))
	}
	tasks.Go(func() {
		_, _ = b.Write(answer)
		_ = b.Close()
	})
	got, err = io.ReadAll(a)
	if err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(answer))
	}
	if _, err := a.Write([]byte("more")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Write after CloseWrite: %v", err)
	}
	tasks.Wait()
}

// Close is not the end of what Write took over.
func TestCloseLetsWrittenDataOut(t *testing.T) {
	for range 50 {
		a, b, stop := pair(t)
		want := bytes.Repeat([]byte("x"), 30_000)
		if _, err := a.Write(want); err != nil {
			t.Fatal(err)
		}
		_ = a.Close()
		if got, err := io.ReadAll(b); err != nil || len(got) != len(want) {
			t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(want))
		}
		stop()
	}
}

// A visitor who reads nothing blocks his own channel when its window is full, until the deadline.
func TestWriteDeadlineWhenThePeerReadsNothing(t *testing.T) {
	a, _, stop := pair(t)
	defer stop()
	if n, err := a.Write(make([]byte, 1<<20)); err != nil { // the window has 2 MiB
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
	if err := a.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Write(make([]byte, 8<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("wrote %d bytes more, %v; want a timeout", n, err)
	}
}

func BenchmarkConnBulk(b *testing.B) {
	c, d, stop := pair(b)
	defer stop()
	var tasks guard.Group
	tasks.Go(func() { _, _ = io.Copy(io.Discard, d) })
	piece := make([]byte, 64<<10)
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		if _, err := c.Write(piece); err != nil {
			b.Fatal(err)
		}
	}
}
